//! A node's lane: one stream on which all small reads of this client travel, because a call each
//! costs both sides several times what the reading does.
//!
//! A task for each lane packs what waits at the same time into one request. A read is on its own in
//! every other respect: routed, repeated and given up by itself. When the stream breaks, each read on
//! it is told so, and the next one opens another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use prost::Message;
use quorate_proto::v1::{
    self as wire, log_service_client::LogServiceClient, read_answer::Result as Answered,
    read_from::From,
};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Channel;

use super::{Answers, Endpoint, named, within};
use crate::{
    errors::{Effect, Error, ErrorKind, Result},
    runtime::{self, Instant},
};

/// A read of at most so many records, or bytes, travels with others; a node that finds its answer
/// too large for that says so, and it is asked again by a call of its own.
const SMALL_RECORDS: u64 = 64;
const SMALL_BYTES: u64 = 64 * 1024;

/// Reads in one request, and about how many bytes of them: position tokens may make them large, and
/// a node takes requests up to a limit of its own.
const PACK: usize = 256;
const PACK_BYTES: usize = 256 * 1024;

/// How often callers are given their turn between an answer and the next request, and after how
/// many turns in which nothing happens the rest is not waited for: see `producer::driver`, whose
/// crowds are the same.
const TURNS: usize = 64;
const QUIET_TURNS: usize = 3;

/// A lane without reads is closed after this long; the next read opens another.
const IDLE: Duration = Duration::from_secs(60);

/// How long its last answers may take then: there are none to come.
const END: Duration = Duration::from_secs(1);

/// A node of a version that has no lanes is asked again after this long: it may have been replaced.
const UNSUPPORTED: Duration = Duration::from_secs(60);

/// A read's whole answer; `None`: it needs a call of its own.
pub(super) type Outcome = Option<wire::ReadResponse>;

struct Asked {
    read: wire::ReadRequest,
    until: Instant,
    reply: oneshot::Sender<Result<Outcome>>,
}

type Queue = mpsc::UnboundedSender<Asked>;

enum Lane {
    Open(Queue),
    /// The node has none.
    Unsupported(Instant),
}

/// The lanes of a transport.
#[derive(Default)]
pub(super) struct Lanes {
    /// Only grows, by the nodes of the cluster.
    by_node: Arc<Mutex<HashMap<Endpoint, Lane>>>,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}

/// Is it known to be small? A node that is to forward it has to make a call of it anyway.
pub(super) fn is_small(read: &wire::ReadRequest) -> bool {
    let forward = read.consistency.as_ref().map(|c| c.on_unmet()) == Some(wire::OnUnmet::Forward);
    let range = match (read.from.as_ref().and_then(|f| f.from.as_ref()), read.to_offset) {
        (Some(From::Offset(from)), Some(to)) => to.saturating_sub(*from),
        (Some(From::Last(records)), _) => *records,
        _ => u64::MAX,
    };
    let limited = |limit: u64, small| limit != 0 && limit <= small;
    !forward
        && (range <= SMALL_RECORDS
            || limited(read.max_records, SMALL_RECORDS)
            || limited(read.max_bytes, SMALL_BYTES))
}

impl Lanes {
    /// Reads on the node's lane, which `stub` opens where there is none.
    pub(super) async fn read(
        &self,
        to: &Endpoint,
        stub: impl FnOnce() -> Result<LogServiceClient<Channel>>,
        read: &wire::ReadRequest,
        timeout: Duration,
    ) -> Result<Outcome> {
        let (reply, answer) = oneshot::channel();
        let asked = Asked { read: read.clone(), until: runtime::now() + timeout, reply };
        if !self.put(to, stub, asked)? {
            return Ok(None);
        }
        match runtime::timeout(timeout, answer).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(broken(to)),
            None => {
                let message = format!("no answer within {} ms", timeout.as_millis());
                Err(Error::deadline(Effect::None, message).at(to.as_str()))
            }
        }
    }

    /// False: the node has no lane.
    fn put(
        &self,
        to: &Endpoint,
        stub: impl FnOnce() -> Result<LogServiceClient<Channel>>,
        mut asked: Asked,
    ) -> Result<bool> {
        let mut lanes = self.by_node.lock().expect("nothing panics while holding it");
        match lanes.get(to) {
            Some(Lane::Unsupported(since)) if since.elapsed() < UNSUPPORTED => {
                return Ok(false);
            }
            Some(Lane::Open(queue)) => match queue.send(asked) {
                Ok(()) => return Ok(true),
                Err(mpsc::error::SendError(back)) => asked = back,
            },
            _ => {}
        }
        let stub = stub()?;
        let (queue, taken) = mpsc::unbounded_channel();
        let sent = queue.send(asked);
        debug_assert!(sent.is_ok(), "its other end is here");
        lanes.insert(to.clone(), Lane::Open(queue));
        // Weak: the last clone of a client ends its lanes.
        let by_node = Arc::downgrade(&self.by_node);
        let to = to.clone();
        runtime::spawn(async move {
            let unsupported = Driver::new(to.clone(), taken).run(stub).await;
            if unsupported && let Some(by_node) = by_node.upgrade() {
                let mut lanes = by_node.lock().expect("nothing panics while holding it");
                lanes.insert(to, Lane::Unsupported(runtime::now()));
            }
        });
        Ok(true)
    }
}

fn broken(to: &Endpoint) -> Error {
    let message = "the stream that the read was on ended before its answer";
    Error::broken(Effect::None, message).at(to.as_str())
}

/// The task behind a lane.
struct Driver {
    to: Endpoint,
    queue: mpsc::UnboundedReceiver<Asked>,
    /// Taken, not sent.
    packed: Vec<Asked>,
    /// Sent, not answered.
    under_way: HashMap<u64, oneshot::Sender<Result<Outcome>>>,
    next_tag: u64,
    /// How many reads were taken and how many answered, ever.
    taken: u64,
    answered: u64,
}

/// Why a lane is over.
enum End {
    /// No reads, for a while or for ever.
    Idle,
    /// The node ended it, or it broke.
    Broken(Error),
}

impl Driver {
    fn new(to: Endpoint, queue: mpsc::UnboundedReceiver<Asked>) -> Self {
        let under_way = HashMap::new();
        Self { to, queue, packed: Vec::new(), under_way, next_tag: 0, taken: 0, answered: 0 }
    }

    /// True: the node has no lanes.
    async fn run(mut self, mut stub: LogServiceClient<Channel>) -> bool {
        let (requests, taken) = mpsc::unbounded_channel();
        // They need not wait until it is open.
        self.take_all();
        let sent = requests.send(self.pack());
        debug_assert!(sent.is_ok(), "its other end is here");
        let taken = tokio_stream::wrappers::UnboundedReceiverStream::new(taken);
        let opened = within(&self.to, IDLE, false, stub.read_many(taken)).await;
        let end = match opened {
            Ok(answers) => {
                let mut answers = named(&self.to, false, answers);
                match self.serve(&requests, &mut answers).await {
                    End::Idle => self.finish(requests, &mut answers).await,
                    broken => broken,
                }
            }
            Err(error) => End::Broken(error),
        };
        self.close(&end)
    }

    async fn serve(
        &mut self,
        requests: &mpsc::UnboundedSender<wire::ReadManyRequest>,
        answers: &mut Answers<wire::ReadManyResponse>,
    ) -> End {
        loop {
            tokio::select! {
                answer = answers.next() => {
                    let (taken, answered) = (self.taken, self.answered);
                    if let Err(error) = self.on_answer(answer) {
                        return End::Broken(error);
                    }
                    if let Err(error) = self.gather(answers, taken, answered).await {
                        return End::Broken(error);
                    }
                }
                asked = self.queue.recv() => match asked {
                    Some(asked) => {
                        self.take(asked);
                        self.take_all();
                    }
                    // The last client is gone, or goes by another lane.
                    None => return End::Idle,
                },
                () = runtime::sleep(IDLE), if self.under_way.is_empty() => return End::Idle,
            }
            while !self.packed.is_empty() {
                if requests.send(self.pack()).is_err() {
                    return End::Broken(broken(&self.to));
                }
            }
        }
    }

    /// Takes no more; what came in the same moment is still answered. To drop the stream before its
    /// end would reset it.
    async fn finish(
        &mut self,
        requests: mpsc::UnboundedSender<wire::ReadManyRequest>,
        answers: &mut Answers<wire::ReadManyResponse>,
    ) -> End {
        self.queue.close();
        while let Ok(asked) = self.queue.try_recv() {
            self.take(asked);
        }
        while !self.packed.is_empty() {
            if requests.send(self.pack()).is_err() {
                return End::Broken(broken(&self.to));
            }
        }
        drop(requests);
        while !self.under_way.is_empty() {
            let answer = answers.next().await;
            if let Err(error) = self.on_answer(answer) {
                return End::Broken(error);
            }
        }
        // Whatever it ends with changes nothing.
        let _ = runtime::timeout(END, answers.next()).await;
        End::Idle
    }

    /// Gives those who were just answered their turn, so that they travel together again.
    async fn gather(
        &mut self,
        answers: &mut Answers<wire::ReadManyResponse>,
        taken: u64,
        answered: u64,
    ) -> Result<()> {
        let mut quiet = 0;
        for _ in 0..TURNS {
            let before = (self.taken, self.answered);
            while let Some(answer) = runtime::at_once(answers.next()) {
                self.on_answer(answer)?;
            }
            self.take_all();
            let back = self.taken - taken >= self.answered - answered;
            if back || self.packed.len() >= PACK {
                break;
            }
            quiet = if before == (self.taken, self.answered) { quiet + 1 } else { 0 };
            if quiet > QUIET_TURNS {
                break;
            }
            runtime::yield_now().await;
        }
        Ok(())
    }

    fn take_all(&mut self) {
        while self.packed.len() < PACK
            && let Ok(asked) = self.queue.try_recv()
        {
            self.take(asked);
        }
    }

    fn take(&mut self, asked: Asked) {
        self.taken += 1;
        // Given up meanwhile.
        if !asked.reply.is_closed() {
            self.packed.push(asked);
        }
    }

    fn pack(&mut self) -> wire::ReadManyRequest {
        let now = runtime::now();
        let mut bytes = 0;
        let fits = |asked: &&Asked| {
            let first = bytes == 0;
            bytes += asked.read.encoded_len();
            first || bytes <= PACK_BYTES
        };
        let count = self.packed.iter().take(PACK).take_while(fits).count();
        let packed = self.packed.drain(..count);
        let reads = packed.map(|Asked { read, until, reply }| {
            let tag = self.next_tag;
            self.next_tag += 1;
            self.under_way.insert(tag, reply);
            // 0 would be the node's own default.
            let left = until.saturating_duration_since(now).as_millis().max(1);
            let timeout_ms = u64::try_from(left).unwrap_or(u64::MAX);
            wire::TaggedRead { tag, read: Some(read), timeout_ms }
        });
        wire::ReadManyRequest { reads: reads.collect() }
    }

    fn on_answer(&mut self, answer: Option<Result<wire::ReadManyResponse>>) -> Result<()> {
        let answers = answer.unwrap_or_else(|| Err(broken(&self.to)))?.answers;
        for wire::ReadAnswer { tag, result } in answers {
            let Some(reply) = self.under_way.remove(&tag) else {
                let message = format!("it answered a read (tag {tag}) that is not under way");
                return Err(Error::broken(Effect::None, message).at(self.to.as_str()));
            };
            self.answered += 1;
            let outcome = match result {
                Some(Answered::Ok(whole)) => Ok(Some(whole)),
                Some(Answered::Error(detail)) => {
                    Err(Error::from_detail(detail).at(self.to.as_str()))
                }
                // The latter is of a newer version.
                Some(Answered::CallRead(_)) | None => Ok(None),
            };
            // Its caller may have given up.
            let _ = reply.send(outcome);
        }
        Ok(())
    }

    /// Tells all who wait. True: the node has no lanes. Where the end says that no repetition helps,
    /// each makes a call of its own: a node that has no lanes still has calls, and of reads packed
    /// together one may have been more than it takes, which is not the others' fault.
    fn close(mut self, end: &End) -> bool {
        self.queue.close();
        while let Ok(asked) = self.queue.try_recv() {
            self.packed.push(asked);
        }
        let packed = self.packed.into_iter().map(|asked| asked.reply);
        for reply in packed.chain(self.under_way.into_values()) {
            let _ = reply.send(match end {
                End::Broken(error) if !error.is_retryable() => Ok(None),
                End::Broken(error) => Err(error.clone()),
                End::Idle => Err(broken(&self.to)),
            });
        }
        matches!(end, End::Broken(error) if error.kind() == ErrorKind::Unsupported)
    }
}

#[cfg(test)]
mod tests;
