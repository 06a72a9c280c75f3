//! openraft's own storage conformance suite, on the real log store and the real state machine.

use std::{path::PathBuf, sync::Arc};

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use quorate_raft_node::{
    log_store::{LogStore, Options},
    observe::Metrics,
    raft::{
        log_storage::LogStorage,
        state_machine::{GroupState, StateMachine},
        types::TypeConfig,
    },
    read::recent::Recent,
};
use quorate_state_machine::{store::StoreOptions, types::GroupId};
use tempfile::TempDir;

struct Builder;

/// Kept for the length of one test of the suite.
struct Guard {
    _log: LogStore,
    _dir: TempDir,
}

/// A file system that takes direct I/O, unlike many a /tmp.
fn scratch() -> TempDir {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    TempDir::new_in(target).expect("a scratch directory")
}

impl StoreBuilder<TypeConfig, LogStorage, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStorage, StateMachine), StorageError<TypeConfig>> {
        let dir = scratch();
        let options = Options { segment_bytes: 1 << 20, ..Options::default() };
        let (log, _) = LogStore::open(&dir.path().join("log"), options).expect("a log store");
        let group_dir = dir.path().join("group");
        std::fs::create_dir(&group_dir).expect("a group directory");
        let state = GroupState::open(
            GroupId(0),
            &group_dir,
            StoreOptions::default(),
            Arc::new(Metrics::new()),
            Recent::new(1 << 20),
        )
        .expect("a state machine");
        let storage = LogStorage::new(log.group(0));
        Ok((Guard { _log: log, _dir: dir }, storage, StateMachine::new(state)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes() {
    Suite::test_all(Builder).await.expect("openraft's storage contract");
}
