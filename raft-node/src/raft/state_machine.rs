//! openraft's state-machine contract on top of `quorate_state_machine::store::Store`.
//!
//! The state of a group is one RocksDB instance in `<group dir>/state-<generation>`; the file
//! `CURRENT` names the generation in use. Installing a snapshot builds the next generation beside
//! it and switches by renaming `CURRENT`, so a crash at any moment leaves the old or the new state.

use std::{
    io,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    entry::RaftEntry,
    storage::{EntryResponder, RaftStateMachine},
};
use quorate_state_machine::{
    apply::ApplyItem,
    entry::EntryView,
    store::{Store, StoreOptions},
    types::{GroupId, LogIndex, LogPoint, Term},
};
use tokio::sync::watch;

use super::{
    generations,
    log_storage::{log_id, term_of},
    snapshot_data::{DirLease, SnapshotDir},
    types::{
        EntryOutcomes, TypeConfig,
        alias::{RaftLogId, SnapshotMeta, StoredMembership},
    },
};
use crate::{observe::Metrics, read::recent::Recent};

/// Payload bytes applied in one RocksDB write. Larger batches amortise more, but hold the memtable
/// and delay the first answer.
const MAX_APPLY_BYTES: usize = 4 * 1024 * 1024;

/// What is shared between openraft's state-machine task, snapshot building and the read path.
pub struct GroupState {
    group: GroupId,
    dir: PathBuf,
    options: StoreOptions,
    /// Replaced only by `install_snapshot`; readers hold their own `Arc` for the length of a read.
    store: RwLock<Arc<OpenState>>,
    /// Moves with every apply and install, after the state is readable.
    applied: watch::Sender<LogPoint>,
    /// The newest complete snapshot on disk.
    snapshot: Mutex<Option<Snapshot>>,
    /// Held while a snapshot is built or installed. openraft lets the two overlap: both would take
    /// the same directory, and a build that ends last would put an older snapshot in place.
    one_at_a_time: Mutex<()>,
    /// Counts events after which earlier evidence of freshness is not used any more.
    breaks: AtomicU64,
    metrics: Arc<Metrics>,
    /// Fed with everything that is applied.
    recent: Recent,
}

/// An open generation: the store, and (dropped after it) the lease on its directory.
pub struct OpenState {
    store: Store,
    dir: DirLease,
}

impl Deref for OpenState {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

#[derive(Clone)]
struct Snapshot {
    meta: SnapshotMeta,
    dir: SnapshotDir,
}

impl GroupState {
    /// Opens the current generation in `dir` (creating the first), and sweeps leftovers of an
    /// interrupted install.
    ///
    /// # Errors
    /// Any I/O or RocksDB error; damage is reported, never repaired silently.
    pub fn open(
        group: GroupId,
        dir: &Path,
        options: StoreOptions,
        metrics: Arc<Metrics>,
        recent: Recent,
    ) -> io::Result<Arc<Self>> {
        let state_dir = generations::current(dir)?;
        let store = Store::open(&state_dir, &options).map_err(io::Error::other)?;
        let applied = store.applied().unwrap_or_default();
        recent.reset(last_term(&store)?);
        let snapshot = generations::newest_snapshot(dir)?
            .map(|(meta, dir)| {
                Ok::<_, io::Error>(Snapshot { meta: serde_json::from_slice(&meta)?, dir })
            })
            .transpose()?;
        Ok(Arc::new(Self {
            group,
            dir: dir.to_owned(),
            options,
            store: RwLock::new(Arc::new(OpenState { store, dir: DirLease::new(state_dir) })),
            applied: watch::Sender::new(applied),
            snapshot: Mutex::new(snapshot),
            one_at_a_time: Mutex::new(()),
            breaks: AtomicU64::new(0),
            metrics,
            recent,
        }))
    }

    /// The store as of now.
    #[must_use]
    pub fn store(&self) -> Arc<OpenState> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows the applied point; never ahead of what [`Self::store`] shows.
    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<LogPoint> {
        self.applied.subscribe()
    }

    /// Recently applied batches.
    #[must_use]
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Rises when a snapshot is being installed or the leadership handed over: evidence of
    /// freshness from before is not to be used.
    #[must_use]
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    pub(super) fn break_evidence(&self) {
        self.breaks.fetch_add(1, Ordering::AcqRel);
    }

    /// Log index of the newest snapshot, 0 if none.
    #[must_use]
    pub fn snapshot_index(&self) -> u64 {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.as_ref().and_then(|s| s.meta.last_log_id.as_ref()).map_or(0, RaftLogId::index)
    }

    fn membership(&self, store: &Store) -> io::Result<StoredMembership> {
        match store.raft_meta().map_err(io::Error::other)? {
            Some(blob) => serde_json::from_slice(&blob).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("stored membership: {e}"))
            }),
            None => Ok(StoredMembership::default()),
        }
    }

    fn replace_snapshot(&self, new: Snapshot) {
        let path = new.dir.path().to_owned();
        // Consensus asks for the snapshot's index: nothing waits for a disk behind this lock.
        let old = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).replace(new);
        // At a start openraft may install the snapshot that is there already.
        if let Some(old) = old.filter(|old| old.dir.path() != path) {
            generations::forget_snapshot(&old.dir);
        }
    }

    /// Builds a checkpoint of what is applied now and makes it the current snapshot.
    fn build_snapshot(&self) -> io::Result<Snapshot> {
        let started = Instant::now();
        let _alone = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let store = self.store();
        let target = generations::new_snapshot_dir(&self.dir)?;
        crate::crash_point!("snapshot.build.begin");
        store.checkpoint(&target).map_err(io::Error::other)?;
        crate::crash_point!("snapshot.build.checkpointed");
        // The checkpoint may hold a little more than was applied when it began: what it is a
        // snapshot *of* is what it says itself.
        let frozen = Store::open_read_only(&target, &self.options).map_err(io::Error::other)?;
        let meta = SnapshotMeta {
            last_log_id: frozen.applied().map(to_log_id),
            last_membership: self.membership(&frozen)?,
        };
        drop(frozen);
        let dir = generations::seal_snapshot(&target, &serde_json::to_vec(&meta)?)?;
        crate::crash_point!("snapshot.build.sealed");
        let snapshot = Snapshot { meta, dir };
        self.metrics.snapshot_built(self.group, snapshot.dir.bytes(), started.elapsed());
        tracing::info!(
            group = self.group.0,
            index = snapshot.meta.last_log_id.as_ref().map_or(0, RaftLogId::index),
            bytes = snapshot.dir.bytes(),
            elapsed_ms = started.elapsed().as_millis() as u64,
            "snapshot built"
        );
        self.replace_snapshot(snapshot.clone());
        Ok(snapshot)
    }

    /// Replaces the state by a received snapshot, atomically.
    fn install(&self, meta: &SnapshotMeta, received: &SnapshotDir) -> io::Result<()> {
        let started = Instant::now();
        let _alone = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        self.break_evidence();
        let next = generations::prepare_next(&self.dir, received)?;
        crate::crash_point!("snapshot.install.prepared");
        let store = Store::open(&next, &self.options).map_err(io::Error::other)?;
        let holds = store.applied().map(to_log_id);
        if holds != meta.last_log_id {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the received snapshot says it holds {:?} but holds {holds:?}; refusing it",
                    meta.last_log_id
                ),
            ));
        }
        let dir = generations::adopt_snapshot(&self.dir, received, &serde_json::to_vec(meta)?)?;
        crate::crash_point!("snapshot.install.adopted");
        generations::switch_to(&self.dir, &next)?;
        crate::crash_point!("snapshot.install.switched");
        let applied = store.applied().unwrap_or_default();
        let term = last_term(&store)?;
        let old = std::mem::replace(
            &mut *self.store.write().unwrap_or_else(PoisonError::into_inner),
            Arc::new(OpenState { store, dir: DirLease::new(next) }),
        );
        // Goes when the last reader of the old state is done.
        old.dir.retire();
        self.replace_snapshot(Snapshot { meta: meta.clone(), dir });
        self.break_evidence();
        self.applied.send_replace(applied);
        // Who looks at the state now sees the new one.
        self.recent.reset(term);
        self.metrics.snapshot_installed(self.group, received.bytes(), started.elapsed());
        tracing::info!(
            group = self.group.0,
            index = applied.index.0,
            bytes = received.bytes(),
            elapsed_ms = started.elapsed().as_millis() as u64,
            "snapshot installed"
        );
        Ok(())
    }
}

/// The term of the last applied entry, and the entry that it began with.
fn last_term(store: &Store) -> io::Result<Option<(LogIndex, Term)>> {
    let view = store.view().map_err(io::Error::other)?;
    view.last_term().map_err(io::Error::other)
}

fn to_log_id(point: LogPoint) -> RaftLogId {
    log_id(point.term.0, point.index.0)
}

fn to_point(id: &RaftLogId) -> LogPoint {
    LogPoint { term: Term(term_of(id)), index: LogIndex(id.index()) }
}

/// The state machine openraft drives.
#[derive(Clone)]
pub struct StateMachine {
    state: Arc<GroupState>,
}

impl StateMachine {
    /// Wraps the group's state.
    #[must_use]
    pub fn new(state: Arc<GroupState>) -> Self {
        Self { state }
    }

    /// Applies one chunk in one atomic write, then answers who waits for it.
    async fn apply_chunk(&self, chunk: &mut Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let mut items = Vec::with_capacity(chunk.len());
        for (entry, _) in chunk.iter() {
            let id = entry.log_id();
            let (payload, membership) = match &entry.payload {
                EntryPayload::Blank => (None, None),
                EntryPayload::Normal(data) => (Some(data.0.clone()), None),
                EntryPayload::Membership(m) => {
                    let stored = StoredMembership::new(Some(id), m.clone());
                    (None, Some(serde_json::to_vec(&stored)?.into()))
                }
            };
            items.push(ApplyItem { at: to_point(&id), payload, membership });
        }
        crate::crash_point!("apply.begin");
        let last = items.last().expect("the chunk is not empty").at;
        let (count, store) = (items.len(), self.state.store());
        let (waits, recent) = (store.may_stall() || may_read(&items), self.state.recent.clone());
        let apply = move || {
            store.apply_and(&items, |writes, outcomes| recent.applied(&items, writes, outcomes))
        };
        // Heartbeats share this thread. What may wait for a flush or a read waits elsewhere.
        let outcomes = if waits { crate::runtime::blocking(apply).await } else { apply() };
        let outcomes = outcomes.map_err(io::Error::other)?;
        crate::crash_point!("apply.written");
        self.state.applied.send_replace(last);
        self.state.metrics.applied(self.state.group, count, started.elapsed());
        for ((_, responder), outcomes) in chunk.drain(..).zip(outcomes) {
            if let Some(responder) = responder {
                responder.send(EntryOutcomes { outcomes });
            }
        }
        Ok(())
    }
}

/// Whether one of these may have to be looked up on the disk. Trims are: the state is written around
/// the page cache, and every replica applies a trim at about the same time. Followers that waited for
/// it would answer no heartbeat meanwhile.
fn may_read(items: &[ApplyItem]) -> bool {
    let reads = |entry| EntryView::parse(entry).map_or(true, |entry| !entry.only_appends());
    items.iter().filter_map(|item| item.payload.as_ref()).any(reads)
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotDir;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
        let store = self.state.store();
        Ok((store.applied().map(to_log_id), self.state.membership(&store)?))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            if let EntryPayload::Normal(data) = &entry.payload {
                bytes += data.0.len();
            }
            chunk.push((entry, responder));
            if bytes >= MAX_APPLY_BYTES {
                self.apply_chunk(&mut chunk).await?;
                bytes = 0;
            }
        }
        self.apply_chunk(&mut chunk).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotDir,
    ) -> io::Result<()> {
        let (state, meta) = (self.state.clone(), meta.clone());
        crate::runtime::blocking(move || state.install(&meta, &snapshot)).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>>> {
        let slot = self.state.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(slot.clone().map(|s| openraft::Snapshot { meta: s.meta, snapshot: s.dir }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotDir;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>> {
        let state = self.state.clone();
        let built = crate::runtime::blocking(move || state.build_snapshot()).await?;
        Ok(openraft::Snapshot { meta: built.meta, snapshot: built.dir })
    }
}

#[cfg(test)]
#[path = "state_machine_tests.rs"]
mod tests;
