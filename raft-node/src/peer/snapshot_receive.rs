//! The called side of a snapshot transfer.
//!
//! Written to disk chunk by chunk, never held in memory; what arrived survives a broken transfer
//! and is offered at the next attempt. One transfer a group: a newer one takes over.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use quorate_proto::raft::v1::{
    self as pb, peer_error::Kind, snapshot_frame::Body, snapshot_reply_frame::Body as Reply,
};
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    endpoint::{Shared, error, speaks_for_itself},
    handler::{PeerHandler, SnapshotVerdict},
    snapshot_files::{IncomingSnapshot, ReceiveError},
    stats::PeerStats,
    wire::{snapshot_meta, vote, vote_to_frame},
};
use crate::{
    raft::{
        snapshot_data::SnapshotDir,
        types::{
            NodeId,
            alias::{SnapshotMeta, Vote},
        },
    },
    runtime,
};

/// A sign of life is sent this often while nothing else is; well below any stall limit.
const TICK: Duration = Duration::from_secs(1);

/// Replies under way; the sender reads them promptly or the transfer stops here.
const REPLIES: usize = 16;

/// Where snapshots arrive, and who may write there.
pub struct SnapshotReceiver {
    data_dir: PathBuf,
    slots: Mutex<HashMap<u32, Arc<Slot>>>,
}

/// One group's right to receive.
struct Slot {
    /// Number of the newest transfer. An older one that sees it change gives way.
    newest: watch::Sender<u64>,
    /// Held by the transfer that touches the group's incoming directory.
    busy: Arc<tokio::sync::Mutex<()>>,
}

impl SnapshotReceiver {
    /// Receives into `<data_dir>/groups/<group>/incoming/`.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, slots: Mutex::default() }
    }

    fn incoming_dir(&self, group: u32) -> PathBuf {
        self.data_dir.join("groups").join(group.to_string()).join("incoming")
    }

    fn slot(&self, group: u32) -> Arc<Slot> {
        let new = || Arc::new(Slot { newest: watch::Sender::new(0), busy: Arc::default() });
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(group).or_insert_with(new).clone()
    }
}

/// Serves one transfer.
pub(super) fn serve(
    shared: Arc<Shared>,
    mut frames: BoxStream<'static, pb::SnapshotFrame>,
) -> impl Stream<Item = pb::SnapshotReplyFrame> + Send + 'static {
    let (out, replies) = mpsc::channel(REPLIES);
    runtime::spawn(async move {
        let Some(first) = frames.next().await else { return };
        let (caller, group) = first.identity.as_ref().map_or((0, 0), |i| (i.from, i.group));
        let out = Out { identity: shared.me.frame(caller, group), replies: out };
        let end = match begin(&shared, first).await {
            Ok(Begun::Offer(offer)) => receive(&shared, offer, frames, &out).await,
            Ok(Begun::Answer(vote)) => Ok(vote),
            Err(error) => Err(Stop::Tell(error)),
        };
        let last = match end {
            Ok(vote) => Reply::Done(vote_to_frame(&vote)),
            Err(Stop::Tell(error)) => {
                tracing::warn!(group, from = caller, "snapshot not taken: {}", error.message);
                Reply::Error(error)
            }
            Err(Stop::Gone) => {
                tracing::info!(group, from = caller, "snapshot transfer broke off");
                return;
            }
        };
        // If the sender is gone by now, it finds out when it tries again.
        let _ = out.send(last).await;
    });
    ReceiverStream::new(replies)
}

struct Out {
    identity: pb::Identity,
    replies: mpsc::Sender<pb::SnapshotReplyFrame>,
}

impl Out {
    async fn send(&self, body: Reply) -> Result<(), Stop> {
        let frame =
            pb::SnapshotReplyFrame { identity: Some(self.identity.clone()), body: Some(body) };
        self.replies.send(frame).await.map_err(|_| Stop::Gone)
    }

    /// Waits for something slow and keeps the sender patient meanwhile. A sender that is gone does
    /// not cut the wait short: what runs may be an install, which must be seen through.
    async fn patiently<T>(&self, work: impl Future<Output = T> + Send) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match runtime::timeout(TICK, &mut work).await {
                Ok(result) => return result,
                Err(_) => {
                    let _ = self.send(Reply::Working(pb::SnapshotWorking {})).now_or_never();
                }
            }
        }
    }
}

/// Why a transfer ends early.
enum Stop {
    /// The sender is told.
    Tell(pb::PeerError),
    /// The sender is gone.
    Gone,
}

impl From<ReceiveError> for Stop {
    fn from(e: ReceiveError) -> Self {
        Self::Tell(e.to_frame())
    }
}

/// A snapshot that is wanted.
struct Offer {
    from: NodeId,
    group: u32,
    handler: Arc<dyn PeerHandler>,
    vote: Vote,
    meta: SnapshotMeta,
    begin: pb::SnapshotBegin,
}

enum Begun {
    Offer(Box<Offer>),
    Answer(Vote),
}

/// Checks the first frame and asks the group whether it wants the snapshot.
async fn begin(shared: &Shared, first: pb::SnapshotFrame) -> Result<Begun, pb::PeerError> {
    let (from, handler) = shared.route(first.identity.as_ref())?;
    let group = first.identity.as_ref().map_or(0, |i| i.group);
    let Some(Body::Begin(begin)) = first.body else {
        return Err(error(Kind::Malformed, "a snapshot transfer that does not begin with Begin"));
    };
    let vote = vote(begin.vote.as_ref(), "SnapshotBegin.vote")?;
    speaks_for_itself(from, vote.leader_id.voted_for)?;
    let (meta, _) = snapshot_meta(&begin.meta, &vote)?;
    match handler.judge_snapshot(vote, &meta).await? {
        SnapshotVerdict::Answer(vote) => Ok(Begun::Answer(vote)),
        SnapshotVerdict::Refuse(why) => Err(error(Kind::Malformed, why)),
        SnapshotVerdict::Transfer => {
            Ok(Begun::Offer(Box::new(Offer { from, group, handler, vote, meta, begin })))
        }
    }
}

async fn receive(
    shared: &Arc<Shared>,
    offer: Box<Offer>,
    frames: BoxStream<'static, pb::SnapshotFrame>,
    out: &Out,
) -> Result<Vote, Stop> {
    let slot = shared.snapshots.slot(offer.group);
    let mut turn = Turn::next(&slot);
    let guard = {
        // An older transfer notices, finishes its write and leaves; an install is seen through.
        let waiting = out.patiently(slot.busy.clone().lock_owned());
        tokio::select! {
            biased;
            () = turn.lost() => return Err(superseded()),
            guard = waiting => guard,
        }
    };
    let files = open(shared, &offer, guard, out).await?;
    tracing::info!(group = offer.group, from = offer.from, id = %offer.begin.snapshot_id,
        "receiving a snapshot");
    out.send(Reply::Resume(files.resume())).await?;
    let files = copy(shared, &offer, files, frames, &mut turn, out).await?;
    let (dir, guard) = blocking(move || files.finish(), out).await?;
    install(offer, dir, guard, out).await
}

fn superseded() -> Stop {
    Stop::Tell(error(Kind::Superseded, "a newer snapshot transfer of this group took over"))
}

/// A transfer's place in the order of its group's transfers.
struct Turn {
    number: u64,
    newest: watch::Receiver<u64>,
}

impl Turn {
    fn next(slot: &Slot) -> Self {
        let mut number = 0;
        slot.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        Self { number, newest: slot.newest.subscribe() }
    }

    /// Resolves when a newer transfer wants to go ahead.
    async fn lost(&mut self) {
        let number = self.number;
        if self.newest.wait_for(|newest| *newest != number).await.is_err() {
            // The receiver itself is gone, and nobody can overtake any more.
            std::future::pending::<()>().await;
        }
    }
}

async fn open(
    shared: &Arc<Shared>,
    offer: &Offer,
    guard: OwnedMutexGuard<()>,
    out: &Out,
) -> Result<IncomingSnapshot, Stop> {
    let root = shared.snapshots.incoming_dir(offer.group);
    let (begin, reserve) = (offer.begin.clone(), shared.options.snapshot_reserve_bytes);
    blocking(move || IncomingSnapshot::open(root, &begin, reserve, guard), out).await
}

/// Takes chunks until the sender says that this was all.
async fn copy(
    shared: &Arc<Shared>,
    offer: &Offer,
    mut files: IncomingSnapshot,
    mut frames: BoxStream<'static, pb::SnapshotFrame>,
    turn: &mut Turn,
    out: &Out,
) -> Result<IncomingSnapshot, Stop> {
    let stall = shared.options.snapshot_stall;
    let mut written = 0;
    loop {
        let frame = tokio::select! {
            biased;
            () = turn.lost() => return Err(superseded()),
            frame = runtime::timeout(stall, frames.next()) => frame,
        };
        let Ok(Some(frame)) = frame else { return Err(Stop::Gone) };
        let (from, _) = shared.route(frame.identity.as_ref()).map_err(Stop::Tell)?;
        if from != offer.from || frame.identity.is_none_or(|i| i.group != offer.group) {
            let what = "a frame of another transfer";
            return Err(Stop::Tell(error(Kind::Malformed, what)));
        }
        match frame.body {
            Some(Body::Chunk(chunk)) => {
                let length = chunk.data.len() as u64;
                files = blocking(move || files.chunk(&chunk).map(|()| files), out).await?;
                written += length;
                PeerStats::add(&shared.stats.snapshot_bytes_received, length);
                out.send(Reply::WrittenBytes(written)).await?;
            }
            Some(Body::FileEnd(end)) => {
                files = blocking(move || files.file_end(&end).map(|()| files), out).await?;
            }
            Some(Body::End(_)) => return Ok(files),
            Some(Body::Begin(_)) | None => {
                let what = "an unexpected frame inside a snapshot transfer";
                return Err(Stop::Tell(error(Kind::Malformed, what)));
            }
        }
    }
}

/// Sees an install through even if this transfer's task is dropped, and removes what the handler
/// did not take.
async fn install(
    offer: Box<Offer>,
    dir: SnapshotDir,
    guard: OwnedMutexGuard<()>,
    out: &Out,
) -> Result<Vote, Stop> {
    let installing: BoxFuture<'static, _> = async move {
        let Offer { handler, vote, meta, .. } = *offer;
        let result = handler.install_snapshot(vote, meta, dir.clone()).await;
        // Does nothing if it was renamed away.
        dir.discard();
        drop(guard);
        result
    }
    .boxed();
    let task = runtime::spawn(installing);
    match out.patiently(task).await {
        Ok(Ok(vote)) => Ok(vote),
        Ok(Err(e)) => Err(Stop::Tell(e.into())),
        Err(e) => Err(Stop::Tell(error(Kind::Fatal, format!("the install did not end: {e}")))),
    }
}

/// Runs file work on a thread that may block. If this task is dropped meanwhile, the work ends on
/// its own, and only then gives up the group's slot, which it owns.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReceiveError> + Send + 'static,
    out: &Out,
) -> Result<T, Stop> {
    Ok(out.patiently(runtime::blocking(work)).await?)
}
