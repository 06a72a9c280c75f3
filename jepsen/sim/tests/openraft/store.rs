//! A log and a state in memory. Of the log, what was not flushed is gone after a crash; the state is
//! made anew from the log.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::RangeBounds,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder, StoredMembership,
    alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf},
    entry::RaftEntry,
    storage::{EntryResponder, IOFlushed, RaftLogStorage, RaftStateMachine},
};

openraft::declare_raft_types!(
    /// openraft's defaults.
    pub Plain: AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub type LogId = LogIdOf<Plain>;

#[derive(Default)]
struct Disk {
    vote: Option<VoteOf<Plain>>,
    entries: BTreeMap<u64, EntryOf<Plain>>,
    /// Flushes are not done; what is appended is lost in a crash.
    stuck: bool,
    /// The first entry that is not flushed.
    unflushed: Option<u64>,
    waiting: Vec<IOFlushed<Plain>>,
}

/// A node's log.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Disk>>);

impl Log {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on nothing is flushed.
    pub fn stick(&self) {
        self.disk().stuck = true;
    }

    /// The process dies: what was not flushed is gone.
    pub fn crash(&self) {
        let mut disk = self.disk();
        if let Some(first) = disk.unflushed.take() {
            drop(disk.entries.split_off(&first));
        }
        disk.stuck = false;
        disk.waiting.clear();
    }

    /// The entry at `index`: its id, and its value if it has one.
    pub fn at(&self, index: u64) -> Option<(LogId, Option<String>)> {
        let disk = self.disk();
        let entry = disk.entries.get(&index)?;
        let value = match &entry.payload {
            EntryPayload::Normal(value) => Some(value.clone()),
            _ => None,
        };
        Some((entry.log_id, value))
    }

    /// Is there an entry with this value?
    pub fn has(&self, value: &str) -> bool {
        let is = |entry: &EntryOf<Plain>| matches!(&entry.payload, EntryPayload::Normal(v) if v == value);
        self.disk().entries.values().any(is)
    }
}

impl RaftLogReader<Plain> for Log {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<EntryOf<Plain>>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.disk().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Plain>>> {
        Ok(self.disk().vote)
    }
}

impl RaftLogStorage<Plain> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Plain>> {
        let last_log_id = self.disk().entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: None, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Plain>) -> io::Result<()> {
        self.disk().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Plain>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<Plain>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut disk = self.disk();
        for entry in entries {
            if disk.stuck && disk.unflushed.is_none() {
                disk.unflushed = Some(entry.index());
            }
            disk.entries.insert(entry.index(), entry);
        }
        if disk.stuck {
            disk.waiting.push(callback);
        } else {
            callback.io_completed(Ok(()));
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let first = last.map_or(0, |last| last.index + 1);
        drop(self.disk().entries.split_off(&first));
        Ok(())
    }

    async fn purge(&mut self, _upto: LogId) -> io::Result<()> {
        Err(io::Error::other("nothing is ever purged here"))
    }
}

#[derive(Default)]
struct State {
    applied: Option<LogId>,
    membership: StoredMembershipOf<Plain>,
    values: Vec<String>,
}

/// A node's state: all values, in order.
#[derive(Clone, Default)]
pub struct Machine(Arc<Mutex<State>>);

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything applied.
    pub fn values(&self) -> Vec<String> {
        self.state().values.clone()
    }
}

fn no_snapshots() -> io::Error {
    io::Error::other("there are no snapshots here")
}

impl RaftSnapshotBuilder<Plain> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Plain, ()>> {
        Err(no_snapshots())
    }
}

impl RaftStateMachine<Plain> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembershipOf<Plain>)> {
        let state = self.state();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Plain>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            {
                let mut state = self.state();
                state.applied = Some(entry.log_id);
                match entry.payload {
                    EntryPayload::Normal(value) => state.values.push(value),
                    EntryPayload::Membership(m) => {
                        state.membership = StoredMembership::new(Some(entry.log_id), m);
                    }
                    EntryPayload::Blank => {}
                }
            }
            if let Some(responder) = responder {
                responder.send(String::new());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, _: &SnapshotMetaOf<Plain>, (): ()) -> io::Result<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Plain, ()>>> {
        Ok(None)
    }
}
