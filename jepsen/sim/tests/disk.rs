//! The simulated disk keeps openraft's storage contract (its own suite, as on the real log store),
//! and loses in a crash what a disk may lose, and nothing else.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use quorate_jepsen_core::seed::Seed;
use quorate_raft_node::{
    log_store::{RawEntry, VoteRecord},
    observe::Metrics,
    raft::{
        log_storage::{LogStorage, RaftLog},
        state_machine::{GroupState, StateMachine},
        types::TypeConfig,
    },
    read::recent::Recent,
};
use quorate_sim::{
    disk::{self, DiskLog},
    trace::Trace,
    world,
};
use quorate_state_machine::{store::StoreOptions, types::GroupId};

/// Runs `test` in a world whose time goes on whenever nothing else is to do.
fn in_a_world<F: Future<Output = ()>>(seed: u64, test: impl FnOnce() -> F) {
    let seed = Seed::new(seed);
    world::begin(&seed, Trace::new(false));
    world::set_presence(1, |p| (p.up, p.powered) = (true, true));
    disk::create(1, &seed, (0, 3));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let local = tokio::task::LocalSet::new();
    let time = async {
        loop {
            world::advance();
            world::deliver();
            tokio::task::yield_now().await;
        }
    };
    local.block_on(&runtime.expect("a runtime"), async {
        tokio::select! {
            () = test() => {}
            () = time => unreachable!("time goes on for ever"),
        }
    });
    drop(world::end());
}

struct Builder(AtomicU64);

impl StoreBuilder<TypeConfig, LogStorage<DiskLog>, StateMachine, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStorage<DiskLog>, StateMachine), StorageError<TypeConfig>>
    {
        disk::create(1, &Seed::new(self.0.fetch_add(1, Ordering::Relaxed)), (0, 3));
        let dir = tempfile::tempdir().expect("a scratch directory");
        let (options, metrics) = (StoreOptions::default(), Arc::new(Metrics::new()));
        let recent = Recent::new(0);
        let state = GroupState::open(GroupId(0), dir.path(), options, metrics, recent);
        let state = state.expect("a state");
        let log = DiskLog::open(1, 0);
        Ok((dir, LogStorage::new(log), StateMachine::new(state)))
    }
}

#[test]
fn the_suite_passes() {
    in_a_world(1, || async {
        Suite::test_all(Builder(AtomicU64::new(0))).await.expect("openraft's storage contract");
    });
}

fn entry(index: u64) -> RawEntry {
    RawEntry { term: 1, index, kind: 1, payload: vec![7; 10].into() }
}

#[test]
fn a_crash_takes_a_tail_of_what_was_not_confirmed() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..200 {
        let confirmed = Arc::new(Mutex::new(0_u64));
        let seen = confirmed.clone();
        let before = Rc::new(Cell::new(0));
        let at_crash = before.clone();
        in_a_world(seed, || async move {
            let log = DiskLog::open(1, 0);
            log.save_vote(VoteRecord { term: 1, node: 1, committed: true }).await.expect("saved");
            for index in 1..=20 {
                let confirmed = confirmed.clone();
                let done = move |result: std::io::Result<()>| {
                    result.expect("this disk does not fail");
                    *confirmed.lock().expect("no panic") = index;
                };
                log.append(vec![entry(index)], Box::new(done));
                if index % 3 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            assert_eq!(log.state().last, Some((1, 20)), "readable at once");
            at_crash.set(*confirmed.lock().expect("no panic"));
            disk::crash(1);
            let log = DiskLog::open(1, 0);
            let last = log.state().last.map_or(0, |(_, index)| index);
            let confirmed = at_crash.get();
            assert!(last >= confirmed, "{confirmed} was confirmed, {last} is there");
            assert_eq!(log.state().vote.map(|vote| vote.term), Some(1), "it was confirmed");
            let entries = log.read(0, u64::MAX, u64::MAX).await.expect("readable");
            assert_eq!(entries, (1..=last).map(entry).collect::<Vec<_>>(), "a prefix");
            at_crash.set(last);
        });
        let last = before.get();
        lost += 20 - last;
        kept += last - *seen.lock().expect("no panic");
    }
    assert!(lost > 0 && kept > 0, "both happen: {lost} lost, {kept} kept unconfirmed");
}
