//! `quorate bench failover`: the leader is killed, again and again, and the gap between two
//! acknowledgements is what a client at a steady rate sees of it.
//!
//! The load is an open loop, for all systems alike: the next append leaves when it is due, whether
//! or not those before it were answered. So nothing depends on how a client spaces its attempts.

mod etcd;
mod nats;
mod quorate;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{
    here::{Data, beside_this, load_average},
    spread::Spread,
    systems::{self, Program, Running, quorate::Shape},
};
use crate::{
    args::{FailoverArgs, Killed},
    exit::Failure,
    output::{
        Output,
        table::{Align, Table},
        units,
    },
};

/// Load before the first kill and between the others, with all nodes up.
const STEADY: Duration = Duration::from_secs(2);
/// How long acknowledgements may stay away before it is no failover any more.
const PATIENCE: Duration = Duration::from_secs(60);
/// Acknowledgements have to come for this long before the gap counts as over.
const GOES_ON: Duration = Duration::from_millis(500);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Bytes of a value.
const SIZE: usize = 128;

/// The result, with the field names of `--output json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Failover {
    /// Whose leader was killed.
    pub system: String,
    /// Its version.
    pub version: String,
    /// What was set.
    pub settings: String,
    /// Appends a second.
    pub rate: u32,
    /// The machine's load average before.
    pub load_average: f64,
    /// The nodes that were killed, and who led when all were up again.
    pub leaders: Vec<[usize; 2]>,
    /// Milliseconds between two acknowledgements around each kill.
    pub gaps_ms: Vec<f64>,
    /// Their middle.
    pub median_ms: f64,
    /// Their longest.
    pub longest_ms: f64,
    /// Appends that failed or were never answered, of all.
    pub failed: u64,
    /// Appends that were sent.
    pub sent: u64,
}

/// What a system needs to be measured like this.
trait Target: Send + Sync + 'static {
    /// Sends one append; the future says whether it was acknowledged.
    fn send(&self, number: u64) -> BoxFuture<'static, bool>;
    /// The node that leads now, from 0, once all nodes that should are up and know it.
    fn leader(&self) -> BoxFuture<'_, Result<usize, Failure>>;
}

/// When acknowledgements came.
#[derive(Default)]
struct Acks {
    last: Option<Instant>,
    /// The longest gap since it was last asked for.
    longest: Duration,
}

impl Acks {
    fn add(&mut self, now: Instant) {
        if let Some(last) = self.last {
            self.longest = self.longest.max(now.saturating_duration_since(last));
        }
        self.last = Some(now);
    }

    fn forget(&mut self) {
        self.longest = Duration::ZERO;
    }
}

/// `quorate bench failover`.
///
/// # Errors
/// The nodes can't be started, or appends don't go on.
pub async fn run(args: &FailoverArgs, output: Output) -> Result<(), Failure> {
    let report = measure(args, output).await?;
    match output.is_json() {
        true => output.json(&report),
        false => output.print(&report.text()),
    }
}

async fn measure(args: &FailoverArgs, output: Output) -> Result<Failover, Failure> {
    let name = match args.system {
        Killed::Quorate => "quorate-node",
        Killed::Etcd => "etcd",
        Killed::Nats => "nats-server",
    };
    if args.system != Killed::Quorate && !args.here.settings.is_empty() {
        return Err(Failure::usage("--set is for Quorate's nodes"));
    }
    let path = match (&args.here.program, args.system) {
        (Some(path), _) => path.clone(),
        (None, Killed::Quorate) => beside_this(name)?,
        (None, _) => name.into(),
    };
    let data = Data::make(&args.here.data, "failover")?;
    let cpus = args.here.cpus.as_ref().map(|cpus| cpus.0.clone()).unwrap_or_default();
    let program = |name| Program { name, path: &path, dir: data.path().to_owned(), cpus };
    let load_average = load_average();
    match args.system {
        Killed::Quorate => {
            let program = program("Quorate");
            let shape = Shape { settings: args.here.settings.clone(), ..Shape::groups(1) };
            let (running, _) = systems::quorate::start(&program, &shape).await?;
            let target = quorate::Quorate::open(&running.endpoints).await?;
            kill_again(args, &program, running, Arc::new(target), load_average, output).await
        }
        Killed::Etcd => {
            let program = program("etcd");
            let running = systems::etcd::start(&program).await?;
            let target = etcd::Etcd::open(&running.endpoints)?;
            kill_again(args, &program, running, Arc::new(target), load_average, output).await
        }
        Killed::Nats => {
            let program = program("NATS, sync always");
            let running = systems::nats::start(&program, true).await?;
            let target = nats::Nats::open(&running.endpoints).await?;
            kill_again(args, &program, running, Arc::new(target), load_average, output).await
        }
    }
}

/// A load that runs until it is told to stop.
struct Stream {
    acks: Arc<Mutex<Acks>>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    acked: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Stream {
    fn start(target: Arc<impl Target>, rate: u32) -> Self {
        let acks = Arc::new(Mutex::new(Acks::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, acked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let state = (acks.clone(), stop.clone(), sent.clone(), acked.clone());
        let task = tokio::spawn(async move {
            let (acks, stop, sent, acked) = state;
            let mut pace = super::pace::Pace::new(rate.into());
            while !stop.load(Ordering::Relaxed) {
                pace.next().await;
                let append = target.send(sent.fetch_add(1, Ordering::Relaxed));
                let (acks, acked) = (acks.clone(), acked.clone());
                tokio::spawn(async move {
                    if append.await {
                        acked.fetch_add(1, Ordering::Relaxed);
                        let mut acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
                        acks.add(Instant::now());
                    }
                });
            }
        });
        Self { acks, stop, sent, acked, task }
    }

    /// The last acknowledgement, and the longest gap since the last [`Stream::forget`].
    fn look(&self) -> (Option<Instant>, Duration) {
        let acks = self.acks.lock().unwrap_or_else(PoisonError::into_inner);
        (acks.last, acks.longest)
    }

    fn forget(&self) {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).forget();
    }

    /// Waits until acknowledgements have come for `time` without a gap of [`GOES_ON`].
    async fn steady(&self, time: Duration, running: &str) -> Result<(), Failure> {
        let (mut since, end) = (None, Instant::now() + PATIENCE);
        loop {
            let now = Instant::now();
            let fresh = self.look().0.is_some_and(|last| now.duration_since(last) < GOES_ON);
            let begin = *since.get_or_insert(now);
            match fresh {
                true if now.duration_since(begin) >= time => return Ok(()),
                true => {}
                false => since = None,
            }
            if now > end {
                return Err(Failure::refused(format!("{running}: appends do not go on")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn stop(self) -> Result<(u64, u64), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.task.await;
        ended.map_err(|e| Failure::refused(format!("the load generator died: {e}")))?;
        Ok((self.sent.load(Ordering::Relaxed), self.acked.load(Ordering::Relaxed)))
    }
}

async fn kill_again(
    args: &FailoverArgs,
    program: &Program<'_>,
    mut running: Running,
    target: Arc<impl Target>,
    load_average: f64,
    output: Output,
) -> Result<Failover, Failure> {
    let stream = Stream::start(target.clone(), args.rate);
    let (mut gaps_ms, mut leaders) = (Vec::new(), Vec::new());
    for kill in 1..=args.kills {
        stream.steady(STEADY, running.name).await?;
        let leader = program.ready(&mut running.nodes, || target.leader()).await?;
        stream.forget();
        let killed = running.nodes[leader].kill();
        killed.map_err(|e| Failure::refused(format!("kill -9: {e}")))?;
        let dead = Instant::now();
        // An acknowledgement that the dead leader had sent may still arrive; those that go on are
        // another's.
        let end = dead + PATIENCE;
        while stream.look().0.is_none_or(|last| last < dead) && Instant::now() < end {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        stream.steady(2 * GOES_ON, running.name).await?;
        let gap = stream.look().1;
        output.note(&format!("{kill:>4}: node {} killed, {}", leader + 1, units::duration(gap)));
        gaps_ms.push(gap.as_secs_f64() * 1e3);
        running.start_again(program, leader)?;
        let next = program.ready(&mut running.nodes, || target.leader()).await?;
        leaders.push([leader + 1, next + 1]);
    }
    let (sent, acked) = stream.stop().await?;
    let spread = Spread::of(gaps_ms.iter().copied()).expect("there is at least one kill");
    let settings = match args.here.settings.is_empty() {
        true => running.settings.to_owned(),
        false => args.here.settings.join(" "),
    };
    Ok(Failover {
        system: running.name.into(),
        version: running.version.clone(),
        settings,
        rate: args.rate,
        load_average,
        leaders,
        median_ms: spread.median,
        longest_ms: spread.max,
        gaps_ms,
        failed: sent.saturating_sub(acked),
        sent,
    })
}

impl Failover {
    /// Adds the kills of another measurement of the same.
    pub fn join(&mut self, other: Self) {
        self.leaders.extend(other.leaders);
        self.gaps_ms.extend(other.gaps_ms);
        if let Some(spread) = Spread::of(self.gaps_ms.iter().copied()) {
            (self.median_ms, self.longest_ms) = (spread.median, spread.max);
        }
        self.failed += other.failed;
        self.sent += other.sent;
    }

    fn text(&self) -> String {
        let columns = [
            ("system", Align::Left),
            ("kills", Align::Right),
            ("median", Align::Right),
            ("longest", Align::Right),
            ("failed", Align::Right),
            ("load average", Align::Right),
        ];
        let mut table = Table::new(&columns);
        table.row(vec![
            format!("{} {}", self.system, self.version).into(),
            self.gaps_ms.len().into(),
            format!("{:.0} ms", self.median_ms).into(),
            format!("{:.0} ms", self.longest_ms).into(),
            format!("{} of {}", units::grouped(self.failed), units::grouped(self.sent)).into(),
            format!("{:.1}", self.load_average).into(),
        ]);
        table.render(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acknowledges everything except between two numbers.
    struct Gap(std::ops::Range<u64>);

    impl Target for Gap {
        fn send(&self, number: u64) -> BoxFuture<'static, bool> {
            let acknowledged = !self.0.contains(&number);
            Box::pin(async move { acknowledged })
        }

        fn leader(&self) -> BoxFuture<'_, Result<usize, Failure>> {
            Box::pin(async { Ok(0) })
        }
    }

    #[test]
    fn the_longest_gap_is_that_since_it_was_forgotten() {
        let (start, mut acks) = (Instant::now(), Acks::default());
        let add = |acks: &mut Acks, ms| acks.add(start + Duration::from_millis(ms));
        [0, 5, 10, 110, 115].into_iter().for_each(|ms| add(&mut acks, ms));
        assert_eq!(acks.longest, Duration::from_millis(100));
        acks.forget();
        assert_eq!(acks.longest, Duration::ZERO);
        add(&mut acks, 122);
        assert_eq!(acks.longest, Duration::from_millis(7), "a gap begins where the last one ended");
    }

    /// How long the gap is, is the machine's business here: what is late is caught up with.
    #[tokio::test]
    async fn what_is_not_acknowledged_is_counted() {
        let stream = Stream::start(Arc::new(Gap(50..150)), 1000);
        let end = Instant::now() + PATIENCE;
        while stream.acked.load(Ordering::Relaxed) < 200 {
            assert!(Instant::now() < end, "it does not go on behind the gap");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        assert!(stream.look().0.is_some());
        let (sent, acked) = stream.stop().await.expect("it ends");
        // Those on their way when it stopped may or may not be counted.
        assert!(acked >= 200 && sent - acked >= 100, "{sent} {acked}");
    }
}
