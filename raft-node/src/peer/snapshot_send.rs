//! The calling side of a snapshot transfer: file by file, chunk by chunk, with at most a window of
//! bytes that the receiver has not reported as written, and never more than a chunk in memory here.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use openraft::{
    StorageError,
    errors::{StreamingError, Unreachable},
    type_config::TypeConfigExt,
};
use quorate_proto::raft::v1::{
    self as pb, snapshot_frame::Body, snapshot_reply_frame::Body as Reply,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    client::{CallError, PeerClient},
    snapshot_files::prefix_crc,
    stats::PeerStats,
    transport::{PeerAddress, TransportError},
    wire::{self, WireError},
};
use crate::{
    raft::{
        snapshot_data::{SnapshotDir, SnapshotFile},
        types::{
            TypeConfig,
            alias::{RaftLogId, Vote},
        },
    },
    runtime,
};

/// Frames between the reader of files and the connection.
const QUEUE: usize = 2;

/// Why a transfer failed.
enum SendError {
    /// The peer or the way to it: try again later.
    Call(CallError),
    /// Reading the own snapshot: nothing another attempt would change.
    Local(io::Error),
}

impl<E: Into<CallError>> From<E> for SendError {
    fn from(e: E) -> Self {
        Self::Call(e.into())
    }
}

/// Sends a snapshot and waits until it is installed. Returns the peer's vote.
pub(super) async fn send(
    client: &PeerClient,
    to: &PeerAddress,
    group: u32,
    vote: Vote,
    snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>,
) -> Result<Vote, StreamingError<TypeConfig>> {
    match try_send(client, to, group, vote, snapshot).await {
        Ok(vote) => Ok(vote),
        Err(SendError::Call(e)) => {
            if client.is_silent(to) {
                // Said already, and tried again many times.
                tracing::debug!(group, to = to.node_id, "snapshot transfer failed: {e}");
            } else {
                tracing::warn!(group, to = to.node_id, "snapshot transfer failed: {e}");
            }
            Err(Unreachable::from_string(e).into())
        }
        Err(SendError::Local(e)) => {
            let source = TypeConfig::err_from_error(&e);
            Err(StorageError::read_snapshot(None, source).into())
        }
    }
}

async fn try_send(
    client: &PeerClient,
    to: &PeerAddress,
    group: u32,
    vote: Vote,
    snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>,
) -> Result<Vote, SendError> {
    client.greet(to, client.options().connect_timeout).await?;
    let (frames, queue) = mpsc::channel(QUEUE);
    let timeout = client.options().connect_timeout;
    let queue = ReceiverStream::new(queue).boxed();
    let replies = client.transport().snapshot(to, queue, timeout).await?;
    let identity = client.me().frame(to.node_id, group);
    let mut transfer = Transfer { client, to, identity, frames, replies, sent: 0, written: 0 };
    let dir = snapshot.snapshot;
    let files = dir.files.iter().map(|f| pb::SnapshotFile { name: f.name.clone(), size: f.size });
    let begin = pb::SnapshotBegin {
        vote: Some(wire::vote_to_frame(&vote)),
        meta: wire::snapshot_meta_bytes(&snapshot.meta),
        snapshot_id: snapshot_id(client.me().node_id, snapshot.meta.last_log_id, &dir),
        files: files.collect(),
    };
    match transfer.run(begin, &dir).await {
        Ok(impossible) => match impossible {},
        Err(End::Done(vote)) => Ok(vote),
        Err(End::Failed(e)) => Err(e),
    }
}

/// The same for every attempt to send this snapshot from here, so that they resume each other. Need
/// not be unique: a receiver's leftovers are compared by checksum before anything builds on them.
fn snapshot_id(me: u64, last: Option<RaftLogId>, dir: &SnapshotDir) -> String {
    let (term, index) = last.map_or((0, 0), |l| (l.leader_id.term, l.index));
    format!("n{me}-t{term}-i{index}-b{}", dir.bytes())
}

/// How a transfer ends.
enum End {
    /// The peer says it is done: installed, had it already, or follows a later leader.
    Done(Vote),
    Failed(SendError),
}

impl<E: Into<SendError>> From<E> for End {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

/// Returned where only [`End`] ends it.
enum Never {}

struct Transfer<'a> {
    client: &'a PeerClient,
    to: &'a PeerAddress,
    identity: pb::Identity,
    frames: mpsc::Sender<pb::SnapshotFrame>,
    replies: BoxStream<'static, Result<pb::SnapshotReplyFrame, TransportError>>,
    /// Bytes of chunks sent, and reported as written.
    sent: u64,
    written: u64,
}

impl Transfer<'_> {
    async fn run(&mut self, begin: pb::SnapshotBegin, dir: &SnapshotDir) -> Result<Never, End> {
        self.push(Body::Begin(begin)).await?;
        let resume = loop {
            if let Some(resume) = self.reply().await? {
                break resume;
            }
        };
        if resume.files.len() != dir.files.len() {
            return Err(self.nonsense("it resumes another number of files"));
        }
        for (number, (file, have)) in dir.files.iter().zip(&resume.files).enumerate() {
            let number = u32::try_from(number).map_err(|_| self.nonsense("too many files"))?;
            self.file(number, dir.path().join(&file.name), file, have).await?;
        }
        self.push(Body::End(pb::SnapshotEnd {})).await?;
        loop {
            self.reply().await?;
        }
    }

    /// Sends what the peer lacks of one file.
    async fn file(
        &mut self,
        number: u32,
        path: PathBuf,
        file: &SnapshotFile,
        have: &pb::FileProgress,
    ) -> Result<(), End> {
        if have.have_bytes > file.size {
            return Err(self.nonsense("it has more of a file than there is"));
        }
        let mut reader = FileReader::open(path, have).await.map_err(local)?;
        while reader.position < file.size {
            let left = file.size - reader.position;
            let length = self.client.options().snapshot_chunk_bytes;
            let length = usize::try_from(left).map_or(length, |left| left.min(length));
            let offset = reader.position;
            let data;
            (reader, data) = reader.read(length).await.map_err(local)?;
            self.room_for(data.len() as u64).await?;
            let crc32c = crc32c::crc32c(&data);
            self.push(Body::Chunk(pb::SnapshotChunk { file: number, offset, data, crc32c }))
                .await?;
        }
        self.push(Body::FileEnd(pb::SnapshotFileEnd { file: number, crc32c: reader.crc })).await
    }

    /// Waits until the window takes `bytes` more (or all of it is free).
    async fn room_for(&mut self, bytes: u64) -> Result<(), End> {
        let window = self.client.options().snapshot_window_bytes;
        while self.sent > self.written && self.sent - self.written + bytes > window {
            self.reply().await?;
        }
        self.sent += bytes;
        PeerStats::add(&self.client.stats().snapshot_bytes_sent, bytes);
        Ok(())
    }

    /// Hands a frame to the connection; replies that arrive meanwhile are heeded.
    async fn push(&mut self, body: Body) -> Result<(), End> {
        let frame = pb::SnapshotFrame { identity: Some(self.identity.clone()), body: Some(body) };
        loop {
            let frames = self.frames.clone();
            let place = tokio::select! {
                biased;
                reply = self.replies.next() => {
                    self.heed(reply)?;
                    continue;
                }
                place = runtime::timeout(self.client.options().snapshot_stall, frames.reserve()) => {
                    place
                }
            };
            return match place {
                Ok(Ok(place)) => {
                    place.send(frame);
                    Ok(())
                }
                // The connection has dropped the queue: its last words are in the replies.
                Ok(Err(_)) => loop {
                    self.reply().await?;
                },
                Err(_) => Err(self.stalled()),
            };
        }
    }

    /// Waits for the next reply. Any reply is progress.
    async fn reply(&mut self) -> Result<Option<pb::SnapshotResume>, End> {
        let stall = self.client.options().snapshot_stall;
        match runtime::timeout(stall, self.replies.next()).await {
            Ok(reply) => self.heed(reply),
            Err(_) => Err(self.stalled()),
        }
    }

    fn heed(
        &mut self,
        reply: Option<Result<pb::SnapshotReplyFrame, TransportError>>,
    ) -> Result<Option<pb::SnapshotResume>, End> {
        let closed = || TransportError::Unreachable("the peer closed the transfer".to_owned());
        let reply = reply.ok_or_else(closed)??;
        self.client.check_reply(self.to, reply.identity.as_ref())?;
        match reply.body {
            Some(Reply::Resume(resume)) => Ok(Some(resume)),
            Some(Reply::WrittenBytes(bytes)) => {
                self.written = self.written.max(bytes);
                Ok(None)
            }
            Some(Reply::Working(_)) => Ok(None),
            Some(Reply::Done(vote)) => Err(match wire::vote(Some(&vote), "done") {
                Ok(vote) => End::Done(vote),
                Err(source) => self.client.malformed(self.to, source).into(),
            }),
            Some(Reply::Error(error)) => Err(self.client.remote(self.to, error).into()),
            None => Err(self.nonsense("a reply without content")),
        }
    }

    fn stalled(&self) -> End {
        PeerStats::count(&self.client.stats().timeouts);
        TransportError::Timeout(self.client.options().snapshot_stall).into()
    }

    fn nonsense(&self, what: &str) -> End {
        self.client.malformed(self.to, WireError::Inconsistent(what.to_owned())).into()
    }
}

fn local(e: io::Error) -> End {
    End::Failed(SendError::Local(e))
}

/// Reads a file forward on threads that may block, keeping the checksum of all it has passed.
struct FileReader {
    file: File,
    position: u64,
    crc: u32,
}

impl FileReader {
    /// Starts behind what the peer has, if that is what is here too; otherwise at the beginning.
    async fn open(path: PathBuf, have: &pb::FileProgress) -> io::Result<Self> {
        let (length, expected) = (have.have_bytes, have.crc32c);
        runtime::blocking(move || {
            let crc = prefix_crc(&path, length)?;
            let mut file = File::open(&path)?;
            if crc != expected {
                return Ok(Self { file, position: 0, crc: 0 });
            }
            file.seek(SeekFrom::Start(length))?;
            Ok(Self { file, position: length, crc })
        })
        .await
    }

    async fn read(mut self, length: usize) -> io::Result<(Self, Bytes)> {
        runtime::blocking(move || {
            let mut data = vec![0; length];
            self.file.read_exact(&mut data)?;
            self.position += length as u64;
            self.crc = crc32c::crc32c_append(self.crc, &data);
            Ok((self, Bytes::from(data)))
        })
        .await
    }
}
