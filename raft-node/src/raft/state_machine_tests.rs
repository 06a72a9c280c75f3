use std::thread;

use quorate_state_machine::{
    batch::{RecordRef, encode},
    command::{AppendPart, Command},
    entry::EntryBuilder,
    rocks::Compression,
    types::{Batch, Incarnation, LogName, Offset, TimestampMs},
};
use tempfile::TempDir;

use super::*;

fn open(dir: &Path) -> Arc<GroupState> {
    let options = StoreOptions::new(1 << 20, 1 << 20, Compression::None);
    GroupState::open(GroupId(0), dir, options, Arc::new(Metrics::new()), Recent::new(0))
        .expect("a group's state")
}

fn apply(state: &GroupState, upto: u64) {
    let from = state.store().applied().map_or(1, |at| at.index.0 + 1);
    let at = |index| LogPoint { term: Term(1), index: LogIndex(index) };
    let blank = |index| ApplyItem { at: at(index), ..ApplyItem::default() };
    state.store().apply(&(from..=upto).map(blank).collect::<Vec<_>>()).expect("blank entries");
}

fn index(state: &GroupState) -> Option<u64> {
    state.store().applied().map(|at| at.index.0)
}

/// A snapshot of the entries up to `upto`, as if it had just been received into `dir`.
fn received(dir: &Path, upto: u64) -> (SnapshotMeta, SnapshotDir) {
    let leader = TempDir::new().unwrap();
    let state = open(leader.path());
    apply(&state, upto);
    let built = state.build_snapshot().expect("a snapshot");
    let here = dir.join("incoming").join(format!("complete-{upto}"));
    std::fs::create_dir_all(&here).unwrap();
    for file in &built.dir.files {
        std::fs::copy(built.dir.path().join(&file.name), here.join(&file.name)).unwrap();
    }
    (built.meta, SnapshotDir::open(&here).unwrap())
}

/// openraft builds in a task of its own, beside which a leader's snapshot may be installed.
#[test]
fn a_snapshot_is_built_beside_an_install() {
    for _ in 0..10 {
        let dir = TempDir::new().unwrap();
        let state = open(dir.path());
        apply(&state, 10);
        let (meta, snapshot) = received(dir.path(), 30);
        thread::scope(|scope| {
            let building = scope.spawn(|| state.build_snapshot().map(drop));
            let installing = scope.spawn(|| state.install(&meta, &snapshot));
            installing.join().unwrap().expect("the leader's snapshot is installed");
            building.join().unwrap().expect("the own one is built");
        });
        assert_eq!((index(&state), state.snapshot_index()), (Some(30), 30), "never an older one");
        drop(state);
        let state = open(dir.path());
        assert_eq!((index(&state), state.snapshot_index()), (Some(30), 30), "after a restart");
    }
}

#[test]
fn a_snapshot_that_is_installed_again_stays() {
    let dir = TempDir::new().unwrap();
    let state = open(dir.path());
    apply(&state, 10);
    let Snapshot { meta, dir: snapshot } = state.build_snapshot().unwrap();
    state.install(&meta, &snapshot).expect("as openraft does at a start");
    drop((state, snapshot));
    let state = open(dir.path());
    assert_eq!((index(&state), state.snapshot_index()), (Some(10), 10));
}

#[test]
fn who_follows_a_log_hears_of_an_installed_snapshot() {
    let dir = TempDir::new().unwrap();
    let state = open(dir.path());
    let mut following = state.recent().follow(Incarnation(1 << 16));
    let before = (following.head().changes, state.breaks());
    let (meta, snapshot) = received(dir.path(), 30);
    state.install(&meta, &snapshot).expect("the leader's snapshot is installed");
    assert_eq!(following.head().changes, before.0 + 1, "what was kept is not what comes next");
    assert!(state.breaks() > before.1, "evidence of freshness from before is dropped");
}

/// Consensus waits for no disk: a trim is looked up in the state, an append in what is in memory.
#[test]
fn what_may_wait_for_a_read_is_applied_elsewhere() {
    let log = || LogName::new("l").unwrap();
    let batch = Batch::validate(encode([RecordRef::default()]), None).unwrap();
    let append = Command::Append(vec![AppendPart {
        log: log(),
        expected_offset: None,
        writer_epoch: None,
        producer: None,
        incarnation: None,
        batch,
    }]);
    let trim = Command::TrimLog { name: log(), before: Offset(1), incarnation: None };
    let item = |commands: &[&Command]| {
        let mut entry = EntryBuilder::new();
        commands.iter().for_each(|command| entry.push(command));
        ApplyItem { payload: Some(entry.finish(TimestampMs(1))), ..ApplyItem::default() }
    };
    let (appends, trims) = (item(&[&append, &append]), item(&[&append, &trim]));
    assert!(!may_read(&[ApplyItem::default(), appends.clone()]));
    assert!(may_read(&[appends, trims]));
    let damaged = ApplyItem { payload: Some("?".into()), ..ApplyItem::default() };
    assert!(may_read(&[damaged]));
}
