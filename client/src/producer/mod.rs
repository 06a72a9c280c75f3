//! Appending exactly once, in order, at full rate.
//!
//! - `window` (no I/O): what is unanswered; packing, numbering, the meaning of refusals
//! - `driver`: the task with the stream
//! - `shared`: [`Client::append`], many callers over one producer a log

mod driver;
mod shared;
mod window;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub(crate) use shared::SharedProducers;

use crate::{
    append::{AppendOptions, Appended, IntoBatch},
    batch::{Batch, MAX_BATCH_BYTES},
    client::Client,
    consistency::Consistency,
    errors::{Effect, Error, ErrorKind, Result},
    position::ProducerId,
    runtime::{self, Instant},
};
use driver::{Command, Driver, MAX_AGE};
use window::{Caller, Submission, Window};

/// Most batches in flight: half of what a log remembers of a producer, so that every one of them
/// can still be answered with its offsets after a failure.
pub const MAX_BATCHES_IN_FLIGHT: usize = 32;

/// Cost of a submission besides its bytes; bounds the number of tiny ones.
const OVERHEAD_BYTES: usize = 64;

/// Why a producer can't go on; set once.
type Failure = Arc<OnceLock<Error>>;

/// A producer to be; from [`Client::producer`].
#[derive(Clone, Debug)]
#[must_use = "nothing is appended before `open`"]
pub struct ProducerBuilder {
    client: Client,
    log: String,
    id: Option<ProducerId>,
    next_sequence: u64,
    writer_epoch: Option<u64>,
    incarnation: Option<u64>,
    max_bytes: usize,
    max_batches: usize,
    target_batch_bytes: usize,
    delivery_timeout: Option<Duration>,
}

impl Client {
    /// A producer for one log: `client.producer("log").open().await?`.
    pub fn producer(&self, log: &str) -> ProducerBuilder {
        ProducerBuilder {
            client: self.clone(),
            log: log.to_owned(),
            id: None,
            next_sequence: 0,
            writer_epoch: None,
            incarnation: None,
            max_bytes: 8 * 1024 * 1024,
            max_batches: MAX_BATCHES_IN_FLIGHT,
            target_batch_bytes: 512 * 1024,
            delivery_timeout: Some(Duration::from_secs(120)),
        }
    }
}

impl ProducerBuilder {
    /// Goes on as the producer `id`, whose next batch has this sequence. For writers that number
    /// the same batches the same way every time ([`Producer::append_batch`]). Default: a new id.
    pub fn resume(mut self, id: ProducerId, next_sequence: u64) -> Self {
        self.id = Some(id);
        self.next_sequence = next_sequence;
        self
    }

    /// Appends under this writer epoch, as [`Client::fence`] returned it.
    pub fn writer_epoch(mut self, epoch: u64) -> Self {
        self.writer_epoch = Some(epoch);
        self
    }

    /// Appends to this incarnation of the log only. Default: the one found by
    /// [`Self::open`]; a producer never goes on into a log created again under the same name.
    pub fn incarnation(mut self, incarnation: u64) -> Self {
        self.incarnation = Some(incarnation);
        self
    }

    /// Bytes of records admitted and not yet answered; [`Producer::append`] waits beyond it.
    /// Default: 8 MiB.
    pub fn max_bytes_in_flight(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Batches sent and not yet answered: 1 to [`MAX_BATCHES_IN_FLIGHT`], which is the default.
    pub fn max_batches_in_flight(mut self, batches: usize) -> Self {
        self.max_batches = batches;
        self
    }

    /// Waiting records are packed into batches of up to so many bytes. Default: 512 KiB.
    pub fn target_batch_bytes(mut self, bytes: usize) -> Self {
        self.target_batch_bytes = bytes;
        self
    }

    /// How long an append may go unacknowledged, counted from its admission. Beyond it the
    /// producer fails for good: skipping a batch would break the order. `None`: 12 hours, half of
    /// the time after which a log forgets a producer. Default: 2 minutes.
    pub fn delivery_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Finds the log and starts.
    ///
    /// # Errors
    /// [`LogNotFound`](ErrorKind::LogNotFound); settings out of range; nobody can be reached.
    pub async fn open(self) -> Result<Producer> {
        if !(1..=MAX_BATCHES_IN_FLIGHT).contains(&self.max_batches) {
            let message = format!("a producer has 1 to {MAX_BATCHES_IN_FLIGHT} batches in flight");
            return Err(Error::invalid(message));
        }
        if self.max_bytes == 0 || u32::try_from(self.max_bytes).is_err() {
            return Err(Error::invalid("bytes in flight are between 1 and 4 GiB"));
        }
        if !(1..=MAX_BATCH_BYTES).contains(&self.target_batch_bytes) {
            let message = format!("batches have 1 to {MAX_BATCH_BYTES} bytes");
            return Err(Error::invalid(message));
        }
        let incarnation = match self.incarnation {
            Some(incarnation) => incarnation,
            None => {
                let newest = Consistency::linearizable();
                self.client.describe_log(&self.log, &newest).await?.0.incarnation
            }
        };
        let id = self.id.unwrap_or_else(ProducerId::random);
        let (sender, commands) = mpsc::unbounded_channel();
        let (running, ended) = watch::channel(());
        let shared = Arc::new(Shared {
            log: self.log.clone(),
            incarnation,
            bytes: Arc::new(Semaphore::new(self.max_bytes)),
            max_bytes: self.max_bytes,
            acknowledged: Arc::new(AtomicU64::new(self.next_sequence)),
            failure: Failure::default(),
            commands: sender,
            ended,
        });
        let driver = Driver {
            client: self.client.detached(),
            log: self.log,
            id,
            renewable: self.id.is_none(),
            options: AppendOptions {
                writer_epoch: self.writer_epoch,
                incarnation: Some(incarnation),
                ..AppendOptions::default()
            },
            delivery_timeout: self.delivery_timeout.unwrap_or(MAX_AGE).min(MAX_AGE),
            window: Window::new(self.next_sequence, self.max_batches, self.target_batch_bytes),
            commands,
            acknowledged: shared.acknowledged.clone(),
            failure: shared.failure.clone(),
            _running: running,
        };
        runtime::spawn(driver.run());
        Ok(Producer { id, shared })
    }
}

struct Shared {
    log: String,
    incarnation: u64,
    bytes: Arc<Semaphore>,
    max_bytes: usize,
    acknowledged: Arc<AtomicU64>,
    failure: Failure,
    commands: mpsc::UnboundedSender<Command>,
    /// Its other end goes when everything is answered and nothing more is taken.
    ended: watch::Receiver<()>,
}

/// Appends to one log, each record exactly once and in order, however often connections break and
/// leaders change. Many appends are in flight at a time.
///
/// Clones share it. When the last one is dropped, what was admitted is still delivered, in the
/// background; use [`Self::close`] to wait for it.
///
/// A producer that fails, fails for good: everything behind the failed append is refused, so that
/// the order can't break. Make another one, and decide by the errors' effects what to append again.
#[derive(Clone)]
pub struct Producer {
    id: ProducerId,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("log", &self.shared.log).field("id", &self.id).finish()
    }
}

impl Producer {
    /// Goes on as the producer `id` of `log`, whose next batch has sequence `next_sequence`; the
    /// short form of [`ProducerBuilder::resume`].
    ///
    /// # Errors
    /// As [`ProducerBuilder::open`].
    pub async fn resume(
        client: &Client,
        log: &str,
        id: ProducerId,
        next_sequence: u64,
    ) -> Result<Self> {
        client.producer(log).resume(id, next_sequence).open().await
    }

    /// Its id, as it began. (A producer that took a random id takes another one when the log forgot
    /// it, which logs do with producers that are silent for a day.)
    #[must_use]
    pub fn id(&self) -> ProducerId {
        self.id
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.shared.log
    }

    /// The incarnation it appends to.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// The sequence behind the last acknowledged batch: where [`Self::resume`] can go on.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Acquire)
    }

    /// Why it can't go on, once it failed.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        self.shared.failure.get()
    }

    /// Appends records: waits until there is room, and returns a ticket to await the outcome by.
    /// Records of several calls may be packed into one batch; those of one call stay together
    /// and get consecutive offsets. Dropped while it waits, nothing is appended; a dropped ticket
    /// changes nothing.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid): over a limit. Or the producer failed or was closed before:
    /// effect none.
    pub async fn append(&self, records: impl IntoBatch) -> Result<AppendTicket> {
        self.submit(records.into_batch()?, false, runtime::now()).await
    }

    /// Appends a batch as it is: it gets the next sequence all by itself. A writer that cuts the
    /// same input into the same batches every time can be killed at any point and run again with
    /// the same id from sequence 0 ([`Self::resume`]): what the log has is answered with
    /// [`Appended::deduplicated`], or, when that was more than 64 batches ago, with the error
    /// [`SequenceStale`](ErrorKind::SequenceStale) (effect applied), which does not fail the
    /// producer and whose [`Error::next_sequence`] says how far the log is. To skip ahead, resume
    /// another producer there.
    ///
    /// # Errors
    /// The producer failed or was closed before: effect none.
    pub async fn append_batch(&self, batch: Batch) -> Result<AppendTicket> {
        self.submit(batch, true, runtime::now()).await
    }

    /// `at` is when the caller came, from which its patience counts.
    async fn submit(&self, batch: Batch, exact: bool, at: Instant) -> Result<AppendTicket> {
        let shared = &self.shared;
        self.check_usable()?;
        // A batch larger than the whole bound may pass alone.
        let cost = (batch.bytes().len() + OVERHEAD_BYTES).min(shared.max_bytes);
        let cost = u32::try_from(cost).expect("the bound is below 4 GiB");
        let bytes = shared.bytes.clone().acquire_many_owned(cost).await;
        let bytes = bytes.expect("the semaphore is never closed");
        let (answer, receiver) = oneshot::channel();
        let caller = Caller { answer, _bytes: bytes };
        let submission = Submission { batch, exact, at, caller };
        if shared.commands.send(Command::Append(submission)).is_err() {
            self.check_usable()?;
            return Err(closed());
        }
        Ok(AppendTicket { receiver })
    }

    fn check_usable(&self) -> Result<()> {
        match self.failure() {
            Some(error) => Err(window::secondary(error, Effect::None)),
            None if self.shared.commands.is_closed() => Err(closed()),
            None => Ok(()),
        }
    }

    /// Waits until everything admitted before is answered.
    ///
    /// # Errors
    /// The producer failed; the tickets say what became of each append.
    pub async fn flush(&self) -> Result<()> {
        let (done, answer) = oneshot::channel();
        if self.shared.commands.send(Command::Flush(done)).is_ok()
            && let Ok(result) = answer.await
        {
            return result;
        }
        self.ended().await
    }

    /// Delivers what was admitted and ends the producer, for its clones, too.
    ///
    /// # Errors
    /// The producer failed; the tickets say what became of each append.
    pub async fn close(&self) -> Result<()> {
        // Not taken: it was closed before, and what was admitted may still be on its way.
        let _ = self.shared.commands.send(Command::Close);
        self.ended().await
    }

    async fn ended(&self) -> Result<()> {
        let mut ended = self.shared.ended.clone();
        while ended.changed().await.is_ok() {}
        self.failure().cloned().map_or(Ok(()), Err)
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::ShuttingDown, false, Effect::None, "the producer was closed")
}

/// The outcome of an append to come: a future. Dropping it does not take the append back.
#[derive(Debug)]
pub struct AppendTicket {
    receiver: oneshot::Receiver<Result<Appended>>,
}

impl Future for AppendTicket {
    type Output = Result<Appended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| {
                // Only when the runtime is being shut down.
                Err(Error::broken(Effect::Unknown, "the producer's task is gone"))
            })
        })
    }
}
