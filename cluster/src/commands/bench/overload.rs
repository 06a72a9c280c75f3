//! `quorate bench overload`: more is offered than the nodes can take. What gets through, how long
//! that takes, what the rest is told, and what it costs in memory.
//!
//! First the peak is looked for with callers that wait for their answers; then requests leave at a
//! multiple of it, one gRPC call each and without retries, so that every refusal is seen.

mod report;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use quorate_client::{Effect, Endpoint, Error, ErrorKind, GrpcTransport, Transport};

pub use self::report::Overload;
use super::{
    append::Appender,
    here::{Cluster, REQUEST_TIMEOUT, load_average},
    load::{Client, Work, closed_loop, drive},
    memory::{Memory, Watch},
    pace::Pace,
    payload::Payload,
    report::{Latency, Report},
};
use crate::{
    args::{Load, OverloadArgs},
    exit::Failure,
    output::{Output, units},
};

/// Numbers of callers that wait for their answers, among which the peak is looked for.
const CALLERS: [u32; 3] = [64, 256, 1024];
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
        transports: (0..args.connections)
            .map(|_| Arc::new(GrpcTransport::new(REQUEST_TIMEOUT)))
            .collect(),
        payload: Payload::new(args.size as usize),
        client,
        batch: args.batch,
    };
    let mut peak: Option<(u32, Report)> = None;
    for callers in CALLERS {
        let report = sender.closed(&cluster, args, callers).await?;
        let rate = units::grouped(report.records_per_s.round() as u64);
        output.note(&format!("{callers:>5} callers: {rate} records/s"));
        if peak.as_ref().is_none_or(|(_, best)| report.records_per_s > best.records_per_s) {
            peak = Some((callers, report));
        }
    }
    let (peak_callers, peak) = peak.expect("there are callers");
    if peak.requests == 0 {
        return Err(Failure::refused("nothing was acknowledged while the peak was looked for")
            .advise("a longer --peak-duration"));
    }
    let per_second = peak.requests_per_s * args.factor;
    output.note(&format!(
        "offering {} records/s for {}",
        units::grouped((per_second * f64::from(args.batch)).round() as u64),
        units::duration(args.duration)
    ));
    let offered = sender.open(&mut cluster, args.duration, per_second).await?;
    let report = offered.report(args, load_average, peak_callers, &peak);
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
    transports: Vec<Arc<GrpcTransport>>,
    payload: Payload,
    client: quorate_client::Client,
    batch: u32,
}

/// A caller that waits for its answer.
struct Direct {
    leader: Arc<Leader>,
    transport: Arc<GrpcTransport>,
    appender: Appender,
}

impl Client for Direct {
    async fn call(&mut self) -> Result<Work, Failure> {
        let (request, work) = self.appender.request()?;
        loop {
            let to = self.leader.now();
            let Err(error) = self.transport.append(&to, request.clone(), REQUEST_TIMEOUT).await
            else {
                return Ok(work);
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

/// What became of requests that were offered.
struct Tally {
    began: Instant,
    accepted_ns: Histogram<u64>,
    refused_ns: Histogram<u64>,
    refused_with_effect: u64,
    refused_without_hint: u64,
    other: BTreeMap<String, u64>,
    /// Requests acknowledged in each second.
    seconds: Vec<u64>,
}

struct Offered {
    tally: Tally,
    sent: u64,
    unanswered: u64,
    elapsed: Duration,
    memory: Vec<Memory>,
}

impl Sender {
    fn appender(&self) -> Appender {
        let client = self.client.clone();
        Appender::new(client, "overload".into(), self.payload.clone(), self.batch)
    }

    async fn closed(
        &self,
        cluster: &Cluster,
        args: &OverloadArgs,
        callers: u32,
    ) -> Result<Report, Failure> {
        let load = Load {
            clients: callers,
            connections: args.connections,
            size: args.size,
            duration: args.peak_duration,
            count: None,
            warm_up: WARM_UP,
        };
        let plan = cluster.plan(&load)?;
        let run = plan.run();
        let clients = (0..callers as usize).map(|id| {
            let transport = self.transports[id % self.transports.len()].clone();
            let leader = self.leader.clone();
            let direct = Direct { leader, transport, appender: self.appender() };
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
        let mut watch = Watch::new(cluster.usage()?);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let (mut pace, mut appender, mut sent) = (Pace::new(per_second), self.appender(), 0_u64);
        while began.elapsed() < duration {
            tokio::select! {
                due = pace.next() => {
                    let (request, _) = appender.request()?;
                    let transport = &self.transports[sent as usize % self.transports.len()];
                    let (transport, leader) = (transport.clone(), self.leader.clone());
                    let (tally, in_flight) = (tally.clone(), in_flight.clone());
                    sent += 1;
                    in_flight.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(async move {
                        let to = leader.now();
                        let answer = transport.append(&to, request, REQUEST_TIMEOUT).await;
                        let answer = answer.inspect_err(|error| leader.learn(error));
                        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
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
                }
            }
        }
        let elapsed = began.elapsed();
        let end = Instant::now() + LAST_ANSWERS;
        while in_flight.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            look.tick().await;
            watch.look(&cluster.usage()?);
        }
        let unanswered = in_flight.load(Ordering::Relaxed);
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = std::mem::replace(&mut *tally, Tally::new(began));
        Ok(Offered { tally, sent, unanswered, elapsed, memory: watch.done() })
    }
}

impl Tally {
    fn new(began: Instant) -> Self {
        let histogram = || Histogram::new_with_bounds(1000, 3_600_000_000_000, 3);
        Self {
            began,
            accepted_ns: histogram().expect("these bounds are valid"),
            refused_ns: histogram().expect("these bounds are valid"),
            refused_with_effect: 0,
            refused_without_hint: 0,
            other: BTreeMap::new(),
            seconds: Vec::new(),
        }
    }

    fn add(&mut self, due: Instant, error: Option<&Error>) {
        let took = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match error {
            None => {
                self.accepted_ns.saturating_record(took);
                let second = self.began.elapsed().as_secs() as usize;
                if self.seconds.len() <= second {
                    self.seconds.resize(second + 1, 0);
                }
                self.seconds[second] += 1;
            }
            Some(error) if error.kind() == ErrorKind::ResourceExhausted => {
                self.refused_ns.saturating_record(took);
                self.refused_with_effect += u64::from(error.effect() != Effect::None);
                self.refused_without_hint += u64::from(error.retry_after().is_zero());
            }
            Some(error) => *self.other.entry(error.kind().name().to_owned()).or_default() += 1,
        }
    }
}

impl Offered {
    fn report(self, args: &OverloadArgs, load: f64, callers: u32, peak: &Report) -> Overload {
        let (seconds, batch) = (self.elapsed.as_secs_f64(), f64::from(args.batch));
        // Of whole seconds in which it was offered: answers behind the end are not its goodput.
        let whole = &self.tally.seconds[..self.tally.seconds.len().min(seconds as usize)];
        let in_time = whole.iter().sum::<u64>() as f64;
        let goodput = in_time * batch / (whole.len() as f64).max(1.0);
        let worst = whole.iter().min().copied().unwrap_or_default() as f64 * batch;
        Overload {
            size_bytes: args.size,
            batch: args.batch,
            load_average: load,
            peak_callers: callers,
            peak_records_per_s: peak.records_per_s,
            peak_p99_us: peak.latency_us.p99,
            elapsed_s: seconds,
            offered_records_per_s: self.sent as f64 * batch / seconds,
            goodput_records_per_s: goodput,
            goodput_of_peak: goodput / peak.records_per_s,
            worst_second_of_peak: worst / peak.records_per_s,
            latency_us: Latency::of(&self.tally.accepted_ns),
            acknowledged: self.tally.accepted_ns.len(),
            refused: self.tally.refused_ns.len(),
            refused_with_effect: self.tally.refused_with_effect,
            refused_without_hint: self.tally.refused_without_hint,
            refused_p99_us: self.tally.refused_ns.value_at_quantile(0.99) as f64 / 1e3,
            other: self.tally.other,
            unanswered: self.unanswered,
            memory: self.memory,
        }
    }
}
