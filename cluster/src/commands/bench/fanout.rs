//! `quorate bench fanout`: many clients follow one log on the followers while somebody appends to
//! it. With them and without them, in turns.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quorate_client::{Client, Endpoint, TailEvent};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{
    append::{self, Shape},
    here::{Cluster, load_average},
    pace::Pace,
    payload::Payload,
    spread::Spread,
};
use crate::{
    args::{AppendMode, FanoutArgs, Load},
    exit::Failure,
    local::process::Usage,
    output::{Output, units},
};

const LOG: &str = "fanout";
/// Callers, where appends are as many as get through.
const CALLERS: u32 = 64;
/// Load before each measurement, and the time that subscribers have to get going.
const WARM_UP: Duration = Duration::from_secs(1);
/// What has been appended has to arrive within this.
const ARRIVAL: Duration = Duration::from_secs(30);

/// The result, with the field names of `--output json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Fanout {
    /// Clients that followed.
    pub subscribers: u32,
    /// Appends a second that were offered; 0: as many as got through.
    pub rate: u32,
    /// Bytes of a record's value.
    pub size_bytes: u64,
    /// The machine's load average before.
    pub load_average: f64,
    /// Without subscribers.
    pub without: Side,
    /// With them.
    pub with: Side,
    /// Appends a second with subscribers, to those without: of each round.
    pub ratio: Spread,
    /// Batches that followers took from memory for subscribers, of all they took.
    pub from_memory: f64,
}

/// Rounds of one kind.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Side {
    /// Appends a second.
    pub appends_per_s: Spread,
    /// Latency of an append, 99 of 100.
    pub p99_us: Spread,
    /// Records a second that reached subscribers, all together.
    pub delivered_per_s: Spread,
    /// Processors that the leader kept busy.
    pub leader_cores: Spread,
    /// Processors that the other nodes kept busy, together.
    pub follower_cores: Spread,
}

/// One round.
struct Round {
    appends_per_s: f64,
    p99_us: f64,
    delivered_per_s: f64,
    leader_cores: f64,
    follower_cores: f64,
}

/// `quorate bench fanout`.
///
/// # Errors
/// The nodes can't be started, or records do not arrive.
pub async fn run(args: &FanoutArgs, output: Output) -> Result<(), Failure> {
    let cluster = Cluster::start(&args.here, "fanout").await?;
    let load_average = load_average();
    let client = cluster.client()?;
    client.create_log(LOG, false).await?;
    let leader = cluster.leader(&client, LOG).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        without.push(measure(args, &cluster, &client, leader, 0).await?);
        with.push(measure(args, &cluster, &client, leader, args.subscribers).await?);
        let pair = [without.last(), with.last()].map(|r| r.map_or(0.0, |r| r.appends_per_s));
        let rates = pair.map(|rate| units::grouped(rate.round() as u64));
        output.note(&format!(
            "{round:>3}: {} appends/s without subscribers, {} with",
            rates[0], rates[1]
        ));
    }
    let (mut memory, mut all) = (0.0, 0.0);
    for node in (0..cluster.size()).filter(|node| *node != leader) {
        let metrics = cluster.metrics(node).await?;
        memory += metrics.get("quorate_read_batches_total{source=\"memory\"}");
        all += metrics.sum("quorate_read_batches_total");
    }
    let ratios = without.iter().zip(&with).map(|(a, b)| b.appends_per_s / a.appends_per_s);
    let report = Fanout {
        subscribers: args.subscribers,
        rate: args.rate,
        size_bytes: args.size,
        load_average,
        ratio: Spread::of(ratios).expect("there is at least one round"),
        without: Side::of(&without),
        with: Side::of(&with),
        from_memory: if all > 0.0 { memory / all } else { 0.0 },
    };
    match output.is_json() {
        true => output.json(&report),
        false => output.print(&report.text()),
    }
}

async fn measure(
    args: &FanoutArgs,
    cluster: &Cluster,
    client: &Client,
    leader: usize,
    subscribers: u32,
) -> Result<Round, Failure> {
    let delivered = Arc::new(AtomicU64::new(0));
    let from = next_offset(client).await?;
    let mut tails = JoinSet::new();
    let followers: Vec<usize> = (0..cluster.size()).filter(|node| *node != leader).collect();
    for n in 0..subscribers as usize {
        let endpoint = Endpoint::new(&cluster.endpoints()[followers[n % followers.len()]])?;
        // A connection each, as clients elsewhere would have.
        let client = cluster.client()?;
        tails.spawn(follow(client, endpoint, from, delivered.clone()));
    }
    tokio::time::sleep(WARM_UP).await;
    let (before, began) = (cluster.usage()?, Instant::now());
    let delivered_before = delivered.load(Ordering::Relaxed);
    let appends = append_all(args, cluster);
    tokio::pin!(appends);
    let (appends_per_s, p99_us) = tokio::select! {
        done = &mut appends => done?,
        Some(ended) = tails.join_next() => {
            let why = ended.map_or_else(|e| e.to_string(), |failure| failure.what);
            return Err(Failure::refused(format!("a subscriber ended: {why}")));
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    let (after, now) = (cluster.usage()?, delivered.load(Ordering::Relaxed));
    // Every subscriber gets every record: what is behind at the end still arrives.
    let want = (next_offset(client).await? - from) * u64::from(subscribers);
    let end = Instant::now() + ARRIVAL;
    while delivered.load(Ordering::Relaxed) < want {
        if Instant::now() > end {
            let got = delivered.load(Ordering::Relaxed);
            return Err(Failure::refused(format!("of {want} records, {got} arrived")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let cores = |node: usize| {
        let used = |usage: &[Usage]| usage[node].cpu.as_secs_f64();
        (used(&after) - used(&before)) / seconds
    };
    Ok(Round {
        appends_per_s,
        p99_us,
        delivered_per_s: (now - delivered_before) as f64 / seconds,
        leader_cores: cores(leader),
        follower_cores: followers.iter().map(|node| cores(*node)).sum(),
    })
}

async fn next_offset(client: &Client) -> Result<u64, Failure> {
    let linearizable = quorate_client::Consistency::linearizable();
    let (info, _) = client.describe_log(LOG, &linearizable).await?;
    Ok(info.next_offset)
}

/// Counts records until it is aborted; ends by itself only when something is wrong.
async fn follow(
    client: Client,
    endpoint: Endpoint,
    from: u64,
    delivered: Arc<AtomicU64>,
) -> Failure {
    let tail = client.tail(LOG).from_offset(from).at(&endpoint).patience(None);
    let mut tailer = match tail.open().await {
        Ok(tailer) => tailer,
        Err(e) => return e.into(),
    };
    loop {
        match tailer.next().await {
            Ok(TailEvent::Batch(batch)) => {
                delivered.fetch_add(batch.count().into(), Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(e) => return e.into(),
        }
    }
}

/// Appends a second, and their p99.
async fn append_all(args: &FanoutArgs, cluster: &Cluster) -> Result<(f64, f64), Failure> {
    if args.rate > 0 {
        return append_paced(args, cluster).await;
    }
    let load = Load {
        clients: CALLERS,
        connections: 1,
        size: args.size,
        duration: args.duration,
        count: None,
        warm_up: WARM_UP,
    };
    let shape = Shape { mode: AppendMode::Sdk, batch: 1, in_flight: 1, logs: 1, keep: true };
    let plan = cluster.plan(&load)?;
    let measured = append::measure(&plan, &load, &shape, &plan.clients()?, &[LOG.into()]).await?;
    let rate = measured.work.records as f64 / measured.elapsed.as_secs_f64();
    Ok((rate, measured.latency_ns.value_at_quantile(0.99) as f64 / 1e3))
}

async fn append_paced(args: &FanoutArgs, cluster: &Cluster) -> Result<(f64, f64), Failure> {
    let producer = cluster.client()?.producer(LOG).open().await?;
    let payload = Payload::new(args.size as usize);
    let mut pace = Pace::new(args.rate.into());
    let (began, mut tasks) = (Instant::now(), JoinSet::new());
    let mut sent = 0;
    while began.elapsed() < args.duration {
        let due = pace.next().await;
        let ticket = producer.append([payload.of(sent)]).await?;
        sent += 1;
        tasks.spawn(async move { ticket.await.map(|_| due.elapsed()) });
    }
    let mut took = Vec::with_capacity(sent as usize);
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|e| Failure::refused(format!("the load generator died: {e}")))?;
        took.push(done?.as_secs_f64() * 1e6);
    }
    let rate = sent as f64 / began.elapsed().as_secs_f64();
    producer.close().await?;
    took.sort_by(f64::total_cmp);
    Ok((rate, took[(took.len() - 1) * 99 / 100]))
}

impl Side {
    fn of(rounds: &[Round]) -> Self {
        let of = |f: fn(&Round) -> f64| {
            Spread::of(rounds.iter().map(f)).expect("there is at least one round")
        };
        Self {
            appends_per_s: of(|r| r.appends_per_s),
            p99_us: of(|r| r.p99_us),
            delivered_per_s: of(|r| r.delivered_per_s),
            leader_cores: of(|r| r.leader_cores),
            follower_cores: of(|r| r.follower_cores),
        }
    }

    fn line(&self, name: &str) -> String {
        let rate = |spread: Spread| {
            let [median, min, max] =
                [spread.median, spread.min, spread.max].map(|n| units::grouped(n.round() as u64));
            format!("{median} ({min} to {max})")
        };
        format!(
            "{name:>12}  {} appends/s, {} p99; {} records/s delivered; the leader {:.2} cores, the \
             followers {:.2}\n",
            rate(self.appends_per_s),
            units::duration(Duration::from_secs_f64(self.p99_us.median / 1e6)),
            rate(self.delivered_per_s),
            self.leader_cores.median,
            self.follower_cores.median,
        )
    }
}

impl Fanout {
    fn text(&self) -> String {
        let offered = match self.rate {
            0 => format!("{CALLERS} callers"),
            rate => format!("{} appends/s offered", units::grouped(rate.into())),
        };
        format!(
            "{} subscribers on the followers, {offered} of {}, load average {:.1}\n{}{}\
             {:>12}  {:.1} % of the appends of a round without (median; {:.1} to {:.1})\n\
             {:>12}  {:.1} % of the batches came from memory\n",
            self.subscribers,
            units::bytes(self.size_bytes),
            self.load_average,
            self.without.line("without"),
            self.with.line("with"),
            "",
            100.0 * self.ratio.median,
            100.0 * self.ratio.min,
            100.0 * self.ratio.max,
            "",
            100.0 * self.from_memory,
        )
    }
}
