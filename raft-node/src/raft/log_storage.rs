//! openraft's log-storage contract on top of our log store.
//!
//! The contract, and where each line of it is kept:
//! - `append`: entries readable on return (the log store's cache), the callback only after they are
//!   durable, in order (the single sync thread); never dropped (the sync thread answers every
//!   queued callback, with the error if it failed).
//! - `save_vote`: durable on return and ordered with appends (a frame of the same stream).
//! - `save_committed`: never syncs (openraft awaits it before every apply); rides along.
//! - `limited_get_log_entries`: the only place where the size of an AppendEntries can be bounded.
//! - any error is final for the group's core; the node stops (log store's `failed` watch).

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
};

use futures::{Stream, StreamExt as _, stream};
use openraft::{
    Membership, OptionalSend,
    entry::RaftEntry,
    storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage},
};

use super::types::{
    EntryData, TypeConfig,
    alias::{Entry, RaftLogId, Vote},
};
use crate::{
    log_store::{Done, GroupLog, GroupState, Point, RawEntry, VoteRecord},
    runtime,
};

/// Bytes of entries in one AppendEntries (at least one entry is always sent). Large enough to
/// stream at full rate, small enough that one message never delays the lane for long.
pub const MAX_APPEND_BYTES: u64 = 2 * 1024 * 1024;

const KIND_BLANK: u8 = 0;
const KIND_NORMAL: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// What is asked of a group's log below openraft. [`GroupLog`] is the real one and documents the
/// calls; a simulation brings its own disk.
pub trait RaftLog: Clone + Send + Sync + 'static {
    /// The state, calls that are still on their way to the disk included.
    fn state(&self) -> GroupState;
    /// Adds entries, readable on return; `done` is called in order, when they are durable.
    fn append(&self, entries: Vec<RawEntry>, done: Done);
    /// Saves a vote; durable on return.
    fn save_vote(&self, vote: VoteRecord) -> impl Future<Output = io::Result<()>> + Send;
    /// Notes the commit point, without waiting for anything.
    fn save_committed(&self, point: Option<Point>);
    /// Removes what is behind `last_kept`; durable on return.
    fn truncate_after(&self, last_kept: Option<u64>)
    -> impl Future<Output = io::Result<()>> + Send;
    /// Removes what is up to `index`; durable on return.
    fn purge(&self, term: u64, index: u64) -> impl Future<Output = io::Result<()>> + Send;
    /// The entries from `from` (inclusive) to `to` (exclusive), up to `max_bytes` of them.
    ///
    /// # Errors
    /// The disk's, or damage; never a wrong entry.
    fn read(
        &self,
        from: u64,
        to: u64,
        max_bytes: u64,
    ) -> impl Future<Output = io::Result<Vec<RawEntry>>> + Send;
}

impl RaftLog for GroupLog {
    fn state(&self) -> GroupState {
        Self::state(self)
    }

    fn append(&self, entries: Vec<RawEntry>, done: Done) {
        Self::append(self, entries, done);
    }

    async fn save_vote(&self, vote: VoteRecord) -> io::Result<()> {
        Self::save_vote(self, vote).await
    }

    fn save_committed(&self, point: Option<Point>) {
        Self::save_committed(self, point);
    }

    async fn truncate_after(&self, last_kept: Option<u64>) -> io::Result<()> {
        Self::truncate_after(self, last_kept).await
    }

    async fn purge(&self, term: u64, index: u64) -> io::Result<()> {
        Self::purge(self, term, index).await
    }

    /// Entries that left the cache are read elsewhere: heartbeats share this thread, and a follower
    /// whose state can't keep up applies from the disk.
    async fn read(&self, from: u64, to: u64, max_bytes: u64) -> io::Result<Vec<RawEntry>> {
        let found = self.find(from, to, max_bytes);
        if found.on_disk() { runtime::blocking(|| found.read()).await } else { found.read() }
    }
}

/// One group's log as openraft sees it.
#[derive(Clone)]
pub struct LogStorage<L = GroupLog> {
    log: L,
}

impl<L: RaftLog> LogStorage<L> {
    /// Wraps the group's part of the node's log store.
    #[must_use]
    pub fn new(log: L) -> Self {
        Self { log }
    }
}

/// Builds a log id of our type configuration.
#[must_use]
pub fn log_id(term: u64, index: u64) -> RaftLogId {
    // With `leader_id_std` the committed leader id is the term alone; the node is not part of it.
    RaftLogId::new(term.into(), index)
}

/// Term of a log id.
#[must_use]
pub fn term_of(id: &RaftLogId) -> u64 {
    id.committed_leader_id().term
}

fn encode(entry: Entry) -> io::Result<RawEntry> {
    let id = entry.log_id();
    let (kind, payload) = match entry.payload {
        openraft::EntryPayload::Blank => (KIND_BLANK, bytes::Bytes::new()),
        openraft::EntryPayload::Normal(data) => (KIND_NORMAL, data.0),
        openraft::EntryPayload::Membership(m) => {
            (KIND_MEMBERSHIP, serde_json::to_vec(&m).map_err(io::Error::other)?.into())
        }
    };
    Ok(RawEntry { term: term_of(&id), index: id.index(), kind, payload })
}

fn decode(raw: RawEntry) -> io::Result<Entry> {
    let id = log_id(raw.term, raw.index);
    let damaged = |what: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("log entry {id}: {what}"))
    };
    let payload = match raw.kind {
        KIND_BLANK => openraft::EntryPayload::Blank,
        KIND_NORMAL => openraft::EntryPayload::Normal(EntryData(raw.payload)),
        KIND_MEMBERSHIP => {
            let m: Membership<_, _> = serde_json::from_slice(&raw.payload)
                .map_err(|e| damaged(format!("undecodable membership: {e}")))?;
            openraft::EntryPayload::Membership(m)
        }
        other => return Err(damaged(format!("unknown entry kind {other}"))),
    };
    Ok(Entry::new(id, payload))
}

fn to_record(vote: &Vote) -> VoteRecord {
    VoteRecord {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

fn to_vote(record: VoteRecord) -> Vote {
    if record.committed {
        Vote::new_committed(record.term, record.node)
    } else {
        Vote::new(record.term, record.node)
    }
}

/// `[from, to)` of a range.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(i) => i.saturating_add(1),
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl<L: RaftLog> RaftLogReader<TypeConfig> for LogStorage<L> {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        self.log.read(from, to, u64::MAX).await?.into_iter().map(decode).collect()
    }

    /// Streams the range in bounded pieces: after a restart the range to apply again can be as
    /// large as the retained log, and must not be in memory at once.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        // An error is the last item.
        let piece = move |(log, next): (L, u64)| async move {
            let read =
                if next < to { log.read(next, to, MAX_APPEND_BYTES).await } else { Ok(vec![]) };
            let (next, entries) = match read {
                Ok(piece) => (piece.last()?.index + 1, piece.into_iter().map(decode).collect()),
                Err(error) => (to, vec![Err(error)]),
            };
            Some((stream::iter::<Vec<_>>(entries), (log, next)))
        };
        stream::unfold((self.log.clone(), from), piece).flatten().boxed()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.state().vote.map(to_vote))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.log.read(start, end, MAX_APPEND_BYTES).await?.into_iter().map(decode).collect()
    }
}

impl<L: RaftLog> RaftLogStorage<TypeConfig> for LogStorage<L> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(|(t, i)| log_id(t, i)),
            last_log_id: state.last.map(|(t, i)| log_id(t, i)),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.log.save_vote(to_record(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        self.log.save_committed(committed.map(|id| (term_of(&id), id.index())));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(self.log.state().committed.map(|(t, i)| log_id(t, i)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let raw = entries.into_iter().map(encode).collect::<io::Result<Vec<_>>>()?;
        self.log.append(raw, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        self.log.truncate_after(last.map(|id| id.index())).await
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        self.log.purge(term_of(&upto), upto.index()).await
    }
}
