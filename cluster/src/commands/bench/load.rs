//! The load generator: a fixed number of clients, each sending its next request when an answer is
//! there (a closed loop). Latency is what such a client sees; when the system stalls, a closed loop
//! sends less, so compare throughput and the tail together.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::exit::Failure;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// For this time: what is answered within it counts.
    Time(Duration),
    /// This many requests: each of them counts.
    Count(u64),
}

/// What one request carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Records (or keys).
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// Leave to send one request.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    counted: bool,
}

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const STOP: u8 = 2;

/// Histograms, so that many clients don't wait for one lock; a histogram per client would be
/// hundreds of megabytes at a thousand clients.
const SHARDS: usize = 16;

/// A client gives up after this many failures in a row: the system is down, not busy.
const FAILURES_IN_A_ROW: u32 = 100;
/// Pause after a failed request, so that a system that is down isn't hammered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);
/// How long clients may take to finish after the end.
const GRACE: Duration = Duration::from_secs(30);

/// One measurement, shared by its clients.
pub struct Run {
    extent: Extent,
    /// [`WARM_UP`], [`MEASURE`] or [`STOP`]; only [`drive`] moves it, and only forward.
    phase: AtomicU8,
    /// Requests admitted so far that count; used with [`Extent::Count`] only.
    tickets: AtomicU64,
    shards: Vec<Mutex<Tally>>,
    /// Failed requests, and the first one's reason.
    failures: Mutex<(u64, Option<String>)>,
}

struct Tally {
    latency_ns: Histogram<u64>,
    work: Work,
}

/// What was measured.
pub struct Measured {
    /// Latency of each request that counted.
    pub latency_ns: Histogram<u64>,
    /// What they carried.
    pub work: Work,
    /// The time they took together.
    pub elapsed: Duration,
    /// When that time began.
    pub began: SystemTime,
    /// Requests that failed, warm-up included.
    pub failures: u64,
    /// Why the first of them did.
    pub first_failure: Option<String>,
}

impl Run {
    /// A run that has not started.
    #[must_use]
    pub fn new(extent: Extent) -> Arc<Self> {
        let tally = || Mutex::new(Tally { latency_ns: histogram(), work: Work::default() });
        Arc::new(Self {
            extent,
            phase: AtomicU8::new(WARM_UP),
            tickets: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| tally()).collect(),
            failures: Mutex::new((0, None)),
        })
    }

    /// Leave to send the next request; `None` when it is over.
    pub fn admit(&self) -> Option<Ticket> {
        match (self.phase.load(Ordering::Relaxed), self.extent) {
            (STOP, _) => None,
            (MEASURE, Extent::Count(total)) => {
                let mine = self.tickets.fetch_add(1, Ordering::Relaxed);
                (mine < total).then_some(Ticket { counted: true })
            }
            _ => Some(Ticket { counted: false }),
        }
    }

    /// A request was answered after `took`.
    pub fn done(&self, client: usize, ticket: Ticket, took: Duration, work: Work) {
        let counts = match self.extent {
            Extent::Count(_) => ticket.counted,
            Extent::Time(_) => self.phase.load(Ordering::Relaxed) == MEASURE,
        };
        if !counts {
            return;
        }
        let mut tally = self.shards[client % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        // Longer than the histogram reaches counts as its end.
        tally.latency_ns.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        tally.work.records += work.records;
        tally.work.bytes += work.bytes;
    }

    /// A request failed.
    pub fn failed(&self, failure: &Failure) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.0 += 1;
        failures.1.get_or_insert_with(|| failure.what.clone());
    }
}

/// From 100 ns to an hour with three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 3_600_000_000_000, 3).expect("these bounds are valid")
}

/// One client with one request at a time.
pub trait Client: Send + 'static {
    /// Sends a request and waits for its answer.
    fn call(&mut self) -> impl Future<Output = Result<Work, Failure>> + Send;
}

/// Lets `client` work until the run is over.
///
/// # Errors
/// The client's failure, when it is not worth going on.
pub async fn closed_loop(run: Arc<Run>, id: usize, mut client: impl Client) -> Result<(), Failure> {
    let mut in_a_row = 0;
    while let Some(ticket) = run.admit() {
        let started = Instant::now();
        match client.call().await {
            Ok(work) => {
                in_a_row = 0;
                run.done(id, ticket, started.elapsed(), work);
            }
            Err(failure) => {
                in_a_row += 1;
                bear(&run, failure, in_a_row).await?;
            }
        }
    }
    Ok(())
}

/// Counts a failure and pauses, or passes it on when there were too many.
///
/// # Errors
/// The failure itself.
pub async fn bear(run: &Run, failure: Failure, in_a_row: u32) -> Result<(), Failure> {
    run.failed(&failure);
    if in_a_row >= FAILURES_IN_A_ROW {
        return Err(failure.at(format!("{FAILURES_IN_A_ROW} requests in a row failed")));
    }
    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
    Ok(())
}

/// Warms up, measures, and waits for the clients to end.
///
/// # Errors
/// The first failure of a client that gave up.
pub async fn drive(
    run: &Arc<Run>,
    warm_up: Duration,
    clients: impl IntoIterator<Item = impl Future<Output = Result<(), Failure>> + Send + 'static>,
) -> Result<Measured, Failure> {
    let mut tasks: JoinSet<Result<(), Failure>> = JoinSet::new();
    for client in clients {
        tasks.spawn(client);
    }
    if !warm_up.is_zero() {
        pause(warm_up, &mut tasks).await?;
    }
    let (started, began) = (Instant::now(), SystemTime::now());
    run.phase.store(MEASURE, Ordering::Relaxed);
    if let Extent::Time(time) = run.extent {
        pause(time, &mut tasks).await?;
        run.phase.store(STOP, Ordering::Relaxed);
    }
    let mut elapsed = started.elapsed();
    let end = async {
        while let Some(ended) = tasks.join_next().await {
            outcome(ended)?;
        }
        Ok::<(), Failure>(())
    };
    match run.extent {
        // What is answered late does not count; the wait only ends things cleanly.
        Extent::Time(_) => match tokio::time::timeout(GRACE, end).await {
            Ok(ended) => ended?,
            Err(_) => tasks.abort_all(),
        },
        Extent::Count(_) => {
            end.await?;
            elapsed = started.elapsed();
        }
    }
    Ok(collect(run, elapsed, began))
}

/// Waits, unless a client gives up meanwhile.
async fn pause(time: Duration, tasks: &mut JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    let end = tokio::time::Instant::now() + time;
    while let Ok(Some(ended)) = tokio::time::timeout_at(end, tasks.join_next()).await {
        outcome(ended)?;
    }
    tokio::time::sleep_until(end).await;
    Ok(())
}

fn outcome(ended: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    ended.unwrap_or_else(|e| {
        Err(Failure::refused(format!("a client of the load generator died: {e}")))
    })
}

fn collect(run: &Run, elapsed: Duration, began: SystemTime) -> Measured {
    let mut latency_ns = histogram();
    let mut work = Work::default();
    for shard in &run.shards {
        let tally = shard.lock().unwrap_or_else(PoisonError::into_inner);
        latency_ns.add(&tally.latency_ns).expect("the bounds of all histograms are the same");
        work.records += tally.work.records;
        work.bytes += tally.work.bytes;
    }
    let failures = run.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let (failures, first_failure) = (failures.0, failures.1.clone());
    Measured { latency_ns, work, elapsed, began, failures, first_failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(Arc<AtomicU64>, u64);

    impl Client for Fake {
        async fn call(&mut self) -> Result<Work, Failure> {
            let n = self.0.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            if self.1 > 0 && n.is_multiple_of(self.1) {
                return Err(Failure::refused("no"));
            }
            Ok(Work { records: 2, bytes: 10 })
        }
    }

    async fn measure(extent: Extent, fail_every: u64) -> Result<(Measured, u64), Failure> {
        let calls = Arc::new(AtomicU64::new(0));
        let run = Run::new(extent);
        let clients: Vec<_> = (0..8)
            .map(|id| closed_loop(run.clone(), id, Fake(calls.clone(), fail_every)))
            .collect();
        let measured = drive(&run, Duration::from_millis(5), clients).await?;
        Ok((measured, calls.load(Ordering::Relaxed)))
    }

    // Not on a paused clock: it moves only when all tasks wait, and these never do.
    #[tokio::test]
    async fn a_count_counts_exactly() {
        let (m, calls) = measure(Extent::Count(1000), 0).await.unwrap();
        assert_eq!((m.latency_ns.len(), m.work), (1000, Work { records: 2000, bytes: 10_000 }));
        assert!(calls > 1000, "the warm-up does not count");
    }

    #[tokio::test]
    async fn failures_are_counted_apart() {
        let (m, calls) = measure(Extent::Count(50), 10).await.unwrap();
        assert_eq!(m.failures, calls.div_ceil(10));
        assert_eq!(m.first_failure.as_deref(), Some("no"));
        assert!(m.latency_ns.len() < 50, "a failed request has no latency");
    }

    #[tokio::test(start_paused = true)]
    async fn a_system_that_is_down_ends_the_run() {
        let failure = measure(Extent::Time(Duration::from_secs(3600)), 1).await.err().unwrap();
        assert_eq!(failure.what, "100 requests in a row failed: no");
    }
}
