//! `quorate bench overload`: more is offered than the nodes can take. What gets through, how long
//! that takes, what the rest is told, and what it costs in memory.
//!
//! First the peak is looked for with callers that wait for their answers, and measured for as long as
//! more is offered later: what a disk takes in for seconds it need not take for a minute. Then
//! requests leave at a multiple of it, one gRPC call each and without retries, so that every refusal
//! is seen; then the peak is measured again.

mod report;
mod tally;
mod trim;
mod wire;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_client::{Endpoint, Error, ErrorKind};
use quorate_proto::v1::AppendResponse;

pub use self::report::Overload;
use self::{
    tally::{Offered, Tally},
    trim::Trimmer,
    wire::Wire,
};
use super::{
    append::Appender,
    here::{Cluster, REQUEST_TIMEOUT, load_average},
    load::{Client, Work, closed_loop, drive},
    memory::Watch,
    pace::Pace,
    payload::Payload,
    report::Report,
};
use crate::{
    args::{Load, OverloadArgs},
    exit::Failure,
    local::process::Usage,
    output::{Output, units},
};

/// Numbers of callers that wait for their answers, among which the peak is looked for.
const CALLERS: [u32; 4] = [64, 256, 1024, 2048];
/// Different requests, sent in turns.
const REQUESTS: usize = 64;
/// Load before each look.
const WARM_UP: Duration = Duration::from_secs(1);
/// What was offered last is waited for this long.
const LAST_ANSWERS: Duration = Duration::from_secs(60);
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `quorate bench overload`.
///
/// # Errors
/// The nodes can't be started, or nothing is acknowledged.
pub async fn run(args: &OverloadArgs, output: Output) -> Result<(), Failure> {
    let mut cluster = Cluster::start(&args.here, "overload").await?;
    let load_average = load_average();
    let client = cluster.client()?;
    client.create_log("overload", false).await?;
    let leader = cluster.leader(&client, "overload").await?;
    let leader = Arc::new(Leader(Mutex::new(Endpoint::new(&cluster.endpoints()[leader])?)));
    let sender = Sender {
        leader,
        wires: (0..args.connections).map(|_| Arc::new(Wire::new(REQUEST_TIMEOUT))).collect(),
        requests: requests(&client, args)?,
        trimmer: Trimmer::start(client, "overload".to_owned(), args.keep_records),
        batch: args.batch,
    };
    let mut peak: Option<(u32, Report)> = None;
    for callers in CALLERS {
        let report = sender.closed(&cluster, args, callers, args.peak_duration).await?;
        let rate = units::grouped(report.records_per_s.round() as u64);
        output.note(&format!("{callers:>5} callers: {rate} records/s"));
        if peak.as_ref().is_none_or(|(_, best)| report.records_per_s > best.records_per_s) {
            peak = Some((callers, report));
        }
    }
    let (callers, burst) = peak.expect("there are callers");
    if burst.requests == 0 {
        return Err(Failure::refused("nothing was acknowledged while the peak was looked for")
            .advise("a longer --peak-duration"));
    }
    output.note(&format!("the peak for {}", units::duration(args.duration)));
    let before = sender.closed(&cluster, args, callers, args.duration).await?;
    let per_second = before.requests_per_s * args.factor;
    output.note(&format!(
        "offering {} records/s for {}",
        units::grouped((per_second * f64::from(args.batch)).round() as u64),
        units::duration(args.duration)
    ));
    let offered = sender.open(&mut cluster, args.duration, per_second).await?;
    // The machine may have changed meanwhile: other programs, fuller disks.
    output.note(&format!("the peak again for {}", units::duration(args.duration)));
    let after = sender.closed(&cluster, args, callers, args.duration).await?;
    let mut report = offered.report(args, load_average, callers, [&burst, &before, &after]);
    report.trims_failed = sender.trimmer.failed();
    if output.is_json() {
        output.json(&report)?;
    } else {
        output.print(&report.text())?;
    }
    match report.acknowledged {
        0 => Err(Failure::refused("nothing was acknowledged under overload")),
        _ => Ok(()),
    }
}

/// Whom requests go to: the node that leads, as far as is known.
struct Leader(Mutex<Endpoint>);

impl Leader {
    fn now(&self) -> Endpoint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows a refusal that names another.
    fn learn(&self, error: &Error) {
        if let Some(Ok(other)) = error.leader().map(|leader| Endpoint::new(&leader.address)) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = other;
        }
    }
}

struct Sender {
    leader: Arc<Leader>,
    wires: Vec<Arc<Wire>>,
    requests: Vec<Bytes>,
    trimmer: Trimmer,
    batch: u32,
}

/// Some requests, encoded.
fn requests(client: &quorate_client::Client, args: &OverloadArgs) -> Result<Vec<Bytes>, Failure> {
    let payload = Payload::new(args.size as usize);
    let mut appender = Appender::new(client.clone(), "overload".into(), payload, args.batch);
    (0..REQUESTS).map(|_| Ok(wire::encoded(&appender.request()?.0))).collect()
}

/// A caller that waits for its answer.
struct Direct {
    leader: Arc<Leader>,
    wire: Arc<Wire>,
    request: Bytes,
    work: Work,
    acknowledged: Arc<AtomicU64>,
}

/// Notes how far the log goes.
fn note(acknowledged: &AtomicU64, answer: &AppendResponse) {
    let end = answer.part.map_or(0, |part| part.next_offset);
    acknowledged.fetch_max(end, Ordering::Relaxed);
}

impl Client for Direct {
    async fn call(&mut self) -> Result<Work, Failure> {
        loop {
            let to = self.leader.now();
            let (answer, _) = self.wire.append(&to, self.request.clone(), REQUEST_TIMEOUT).await;
            let error = match answer {
                Ok(answer) => {
                    note(&self.acknowledged, &answer);
                    return Ok(self.work);
                }
                Err(error) => error,
            };
            self.leader.learn(&error);
            // As the SDK does: one that waits for its answer waits for room, too.
            match error.kind() {
                ErrorKind::ResourceExhausted => tokio::time::sleep(error.retry_after()).await,
                _ => return Err(error.into()),
            }
        }
    }
}

impl Sender {
    async fn closed(
        &self,
        cluster: &Cluster,
        args: &OverloadArgs,
        callers: u32,
        duration: Duration,
    ) -> Result<Report, Failure> {
        let load = Load {
            clients: callers,
            connections: args.connections,
            size: args.size,
            duration,
            count: None,
            warm_up: WARM_UP,
        };
        let plan = cluster.plan(&load)?;
        let run = plan.run();
        let clients = (0..callers as usize).map(|id| {
            let direct = Direct {
                leader: self.leader.clone(),
                wire: self.wires[id % self.wires.len()].clone(),
                request: self.requests[id % self.requests.len()].clone(),
                work: Work { records: self.batch.into(), bytes: u64::from(self.batch) * args.size },
                acknowledged: self.trimmer.acknowledged(),
            };
            closed_loop(run.clone(), id, direct)
        });
        let measured = drive(&run, WARM_UP, clients.collect::<Vec<_>>()).await?;
        Ok(Report::new(plan.settings("append (unary)", self.batch, 1), &measured))
    }

    /// Offers, and waits for the last answers.
    async fn open(
        &self,
        cluster: &mut Cluster,
        duration: Duration,
        per_second: f64,
    ) -> Result<Offered, Failure> {
        let began = Instant::now();
        let tally = Arc::new(Mutex::new(Tally::new(began)));
        let in_flight = Arc::new(AtomicU64::new(0));
        let (before, term) = (cluster.usage()?, cluster.elections().await?.0);
        let of_mine = || {
            let usage = Usage::of(std::process::id());
            usage.map_err(|e| Failure::refused(format!("this process: {e}")))
        };
        let mine = of_mine()?;
        let mut watch = Watch::new(before.clone());
        let (mut look, mut in_flight_max) = (tokio::time::interval(LOOK_EVERY), 0);
        let (mut pace, mut sent) = (Pace::new(per_second), 0_u64);
        while began.elapsed() < duration {
            tokio::select! {
                due = pace.next() => {
                    let request = self.requests[sent as usize % self.requests.len()].clone();
                    let wire = self.wires[sent as usize % self.wires.len()].clone();
                    let leader = self.leader.clone();
                    let (tally, in_flight) = (tally.clone(), in_flight.clone());
                    let acknowledged = self.trimmer.acknowledged();
                    sent += 1;
                    in_flight.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(async move {
                        let (to, late) = (leader.now(), due.elapsed());
                        let (answer, handed) = wire.append(&to, request, REQUEST_TIMEOUT).await;
                        let answer = answer.inspect_err(|error| leader.learn(error));
                        let answer = answer.inspect(|answer| note(&acknowledged, answer));
                        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                        tally.sent(due, late, handed);
                        tally.add(due, answer.err().as_ref());
                        drop(tally);
                        in_flight.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                _ = look.tick() => {
                    if let Some(failure) = cluster.ended() {
                        return Err(failure);
                    }
                    watch.look(&cluster.usage()?);
                    in_flight_max = in_flight_max.max(in_flight.load(Ordering::Relaxed));
                }
            }
        }
        let elapsed = began.elapsed();
        let busy = |from: Usage, to: Usage| {
            to.cpu.saturating_sub(from.cpu).as_secs_f64() / elapsed.as_secs_f64()
        };
        let sum = |all: Vec<Usage>| all.into_iter().fold(Usage::default(), |sum, one| sum + one);
        let busy = [busy(mine, of_mine()?), busy(sum(before), sum(cluster.usage()?))];
        let end = Instant::now() + LAST_ANSWERS;
        while in_flight.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            look.tick().await;
            watch.look(&cluster.usage()?);
        }
        let unanswered = in_flight.load(Ordering::Relaxed);
        let elections = cluster.elections().await?.0.saturating_sub(term);
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = std::mem::replace(&mut *tally, Tally::new(began));
        let memory = watch.done();
        Ok(Offered { tally, sent, unanswered, in_flight_max, elapsed, busy, elections, memory })
    }
}
