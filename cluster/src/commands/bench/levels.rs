//! `quorate bench levels`: what a read costs at each level, on the leader and on a follower.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use quorate_client::{Client as Sdk, Consistency, Endpoint};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use super::{
    here::{Cluster, load_average},
    load::{Client, Extent, Run, Work, closed_loop, drive},
    payload::Payload,
    report::Latency,
    spread::Spread,
};
use crate::{
    args::LevelsArgs,
    exit::Failure,
    output::{
        Output,
        table::{Align, Table},
        units,
    },
};

const LOG: &str = "levels";
/// Single records in the log that is read: few, so that all of them are in memory.
const RECORDS: u64 = 200;
/// Bytes of a value.
const SIZE: usize = 128;
/// Readers at a time.
const READERS: [u32; 2] = [1, 64];
/// Load before each measurement: connections are made, and rounds have found their rhythm.
const WARM_UP: Duration = Duration::from_millis(300);
/// Rounds of the quorum that a leader started for its own reads.
const ROUNDS: &str = "quorate_read_index_round_readers_count{group=\"0\"}";

/// The levels, in the order of the table.
const LEVELS: [(&str, fn() -> Consistency); 4] = [
    ("EVENTUAL", Consistency::eventual),
    ("BOUNDED 1 s", || Consistency::bounded(Duration::from_secs(1))),
    ("BOUNDED 0 ms", || Consistency::bounded(Duration::ZERO)),
    ("LINEARIZABLE", Consistency::linearizable),
];

/// The result, with the field names of `--output json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Levels {
    /// The machine's load average before.
    pub load_average: f64,
    /// How often each was measured.
    pub rounds: u32,
    /// Seconds of each measurement.
    pub duration_s: f64,
    /// What was measured.
    pub rows: Vec<Row>,
}

/// One kind of read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// Readers at a time, each with one read.
    pub readers: u32,
    /// What was asked for.
    pub level: String,
    /// Whether the leader was asked, or a follower.
    pub leader: bool,
    /// Reads a second.
    pub reads_per_s: Spread,
    /// Latency of a read, of all rounds.
    pub latency_us: Latency,
    /// Rounds of the quorum for a read, where the leader itself was asked.
    pub quorum_rounds_per_read: Option<f64>,
}

/// All rounds of a row.
struct Rounds {
    per_s: Vec<f64>,
    latency_ns: Histogram<u64>,
    quorum_rounds: f64,
    reads: f64,
}

/// `quorate bench levels`.
///
/// # Errors
/// The nodes can't be started, or reads keep failing.
pub async fn run(args: &LevelsArgs, output: Output) -> Result<(), Failure> {
    let cluster = Cluster::start(&args.here, "levels").await?;
    let load_average = load_average();
    let client = cluster.client()?;
    client.create_log(LOG, false).await?;
    let payload = Payload::new(SIZE);
    for n in 0..RECORDS {
        client.append(LOG, [payload.of(n)]).await?;
    }
    let leader = cluster.leader(&client, LOG).await?;
    let mut measured: BTreeMap<(u32, usize, bool), Rounds> = BTreeMap::new();
    for round in 1..=args.rounds {
        for readers in READERS {
            for (n, (_, level)) in LEVELS.iter().enumerate() {
                for follower in [false, true] {
                    let node = if follower { (leader + 1) % cluster.size() } else { leader };
                    let rounds = measured.entry((readers, n, follower)).or_insert_with(Rounds::new);
                    let read = Reading {
                        client: client.clone(),
                        endpoint: Endpoint::new(&cluster.endpoints()[node])?,
                        consistency: level(),
                        payload: payload.clone(),
                        rng: SmallRng::from_os_rng(),
                    };
                    rounds.add(args, &cluster, leader, readers, &read).await?;
                }
            }
        }
        output.note(&format!("round {round} of {}", args.rounds));
    }
    let rows = measured.into_iter().map(|((readers, n, follower), rounds)| Row {
        readers,
        level: LEVELS[n].0.into(),
        leader: !follower,
        reads_per_s: Spread::of(rounds.per_s).expect("there is at least one round"),
        latency_us: Latency::of(&rounds.latency_ns),
        quorum_rounds_per_read: (!follower).then_some(rounds.quorum_rounds / rounds.reads),
    });
    let report = Levels {
        load_average,
        rounds: args.rounds,
        duration_s: args.duration.as_secs_f64(),
        rows: rows.collect(),
    };
    match output.is_json() {
        true => output.json(&report),
        false => output.print(&report.text()),
    }
}

impl Rounds {
    fn new() -> Self {
        let latency_ns = Histogram::new_with_bounds(100, 3_600_000_000_000, 3);
        Self {
            per_s: Vec::new(),
            latency_ns: latency_ns.expect("these bounds are valid"),
            quorum_rounds: 0.0,
            reads: 0.0,
        }
    }

    async fn add(
        &mut self,
        args: &LevelsArgs,
        cluster: &Cluster,
        leader: usize,
        readers: u32,
        read: &Reading,
    ) -> Result<(), Failure> {
        // Rounds are counted from before the warm-up, so the reads are too.
        let before = cluster.metrics(leader).await?;
        let run = Run::new(Extent::Time(args.duration));
        let clients = (0..readers as usize).map(|id| {
            closed_loop(run.clone(), id, Reading { rng: SmallRng::from_os_rng(), ..read.clone() })
        });
        let measured = drive(&run, WARM_UP, clients.collect::<Vec<_>>()).await?;
        if let Some(why) = measured.first_failure {
            return Err(Failure::refused(format!("a read failed: {why}")));
        }
        let after = cluster.metrics(leader).await?;
        let reads = measured.latency_ns.len() as f64;
        let seconds = measured.elapsed.as_secs_f64();
        self.per_s.push(reads / seconds);
        self.quorum_rounds += after.get(ROUNDS) - before.get(ROUNDS);
        self.reads += reads * (seconds + WARM_UP.as_secs_f64()) / seconds;
        let merged = self.latency_ns.add(&measured.latency_ns);
        merged.expect("the bounds of all histograms are the same");
        Ok(())
    }
}

#[derive(Clone)]
struct Reading {
    client: Sdk,
    endpoint: Endpoint,
    consistency: Consistency,
    payload: Payload,
    rng: SmallRng,
}

impl Client for Reading {
    async fn call(&mut self) -> Result<Work, Failure> {
        let offset = self.rng.random_range(0..RECORDS);
        let read = self.client.read(LOG).from_offset(offset).to_offset(offset + 1);
        let read = read.at(&self.endpoint).consistency(self.consistency.clone());
        let records = read.open().await?.collect().await?;
        match &records[..] {
            [one] if one.offset == offset && one.record.value == self.payload.of(offset) => {
                Ok(Work { records: 1, bytes: SIZE as u64 })
            }
            _ => Err(Failure::refused("not the record that was appended there")),
        }
    }
}

impl Levels {
    fn text(&self) -> String {
        let columns = [
            ("readers", Align::Right),
            ("level", Align::Left),
            ("node", Align::Left),
            ("reads/s", Align::Right),
            ("p50", Align::Right),
            ("p99", Align::Right),
            ("quorum rounds per read", Align::Right),
        ];
        let mut table = Table::new(&columns);
        let time = |us: f64| units::duration(Duration::from_secs_f64(us / 1e6));
        let rate = |n: f64| units::grouped(n.round() as u64);
        for row in &self.rows {
            let s = row.reads_per_s;
            table.row(vec![
                row.readers.into(),
                row.level.as_str().into(),
                if row.leader { "leader" } else { "follower" }.into(),
                format!("{} ({} to {})", rate(s.median), rate(s.min), rate(s.max)).into(),
                time(row.latency_us.p50).into(),
                time(row.latency_us.p99).into(),
                row.quorum_rounds_per_read.map_or_else(String::new, |n| format!("{n:.3}")).into(),
            ]);
        }
        format!(
            "{} rounds of {} s in turns, one record of {SIZE} B a read, load average {:.1}\n{}",
            self.rounds,
            self.duration_s,
            self.load_average,
            table.render(false)
        )
    }
}
