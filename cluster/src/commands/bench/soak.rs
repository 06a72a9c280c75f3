//! `quorate bench soak`: full load for minutes. Memory of each node, what became of the rate, and
//! whether anybody needed an election.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quorate_client::Client;
use serde::{Deserialize, Serialize};

use super::{
    append::{self, Shape},
    here::{Cluster, load_average},
    load::Measured,
    memory::{Memory, Watch},
    report::Latency,
};
use crate::{
    args::{AppendMode, Load, SoakArgs},
    exit::Failure,
    output::{Output, units},
};

const LOG: &str = "soak";
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the log is trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(10);

/// The result, with the field names of `--output json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Soak {
    /// Callers.
    pub clients: u32,
    /// Bytes of a record's value.
    pub size_bytes: u64,
    /// Seconds of load.
    pub elapsed_s: f64,
    /// The machine's load average before.
    pub load_average: f64,
    /// And after.
    pub load_average_after: f64,
    /// Records acknowledged.
    pub records: u64,
    /// Records a second.
    pub records_per_s: f64,
    /// Latency of an append.
    pub latency_us: Latency,
    /// Appends that failed.
    pub failures: u64,
    /// The term before and after; the difference is elections that somebody stood for and won.
    pub terms: [u64; 2],
    /// Times that a node learned of another leader meanwhile, all nodes together.
    pub leader_changes: u64,
    /// Memory of each node, halves of the time apart.
    pub memory: Vec<Memory>,
    /// Bytes on disk of all nodes at the end.
    pub disk_bytes: u64,
}

/// `quorate bench soak`.
///
/// # Errors
/// The nodes can't be started, one ends, or appends keep failing.
pub async fn run(args: &SoakArgs, output: Output) -> Result<(), Failure> {
    let mut cluster = Cluster::start(&args.here, "soak").await?;
    let load_average_before = load_average();
    let client = cluster.client()?;
    client.create_log(LOG, false).await?;
    let before = cluster.elections().await?;
    let mut watch = Watch::new(cluster.usage()?);
    let stop = Arc::new(AtomicBool::new(false));
    let trimmer = tokio::spawn(trim(client, args.keep_records, stop.clone()));
    let measured = watched(args, &mut cluster, &mut watch, output).await?;
    stop.store(true, Ordering::Relaxed);
    let trimmed = trimmer.await;
    trimmed.map_err(|e| Failure::refused(format!("trimming died: {e}")))??;
    let after = cluster.elections().await?;
    let report = Soak {
        clients: args.clients,
        size_bytes: args.size,
        elapsed_s: measured.elapsed.as_secs_f64(),
        load_average: load_average_before,
        load_average_after: load_average(),
        records: measured.work.records,
        records_per_s: measured.work.records as f64 / measured.elapsed.as_secs_f64(),
        latency_us: Latency::of(&measured.latency_ns),
        failures: measured.failures,
        terms: [before.0, after.0],
        leader_changes: after.1.saturating_sub(before.1),
        memory: watch.done(),
        disk_bytes: cluster.disk_bytes()?,
    };
    match output.is_json() {
        true => output.json(&report),
        false => output.print(&report.text()),
    }
}

/// The load, with an eye on the nodes.
async fn watched(
    args: &SoakArgs,
    cluster: &mut Cluster,
    watch: &mut Watch,
    output: Output,
) -> Result<Measured, Failure> {
    let load = Load {
        clients: args.clients,
        connections: args.clients.div_ceil(64),
        size: args.size,
        duration: args.duration,
        count: None,
        warm_up: Duration::ZERO,
    };
    let shape = Shape { mode: AppendMode::Sdk, batch: 1, in_flight: 1, logs: 1, keep: true };
    let plan = cluster.plan(&load)?;
    let (clients, logs) = (plan.clients()?, [LOG.to_owned()]);
    let work = append::measure(&plan, &load, &shape, &clients, &logs);
    tokio::pin!(work);
    let (mut look, began) = (tokio::time::interval(LOOK_EVERY), Instant::now());
    let mut minute = 1;
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = look.tick() => {
                if let Some(failure) = cluster.ended() {
                    return Err(failure);
                }
                let usage = cluster.usage()?;
                watch.look(&usage);
                if began.elapsed() >= minute * Duration::from_secs(60) {
                    let memory: Vec<String> =
                        usage.iter().map(|u| units::bytes(u.resident_bytes)).collect();
                    let term = cluster.elections().await?.0;
                    let memory = memory.join(", ");
                    output.note(&format!("{minute:>3} min: {memory}, term {term}"));
                    minute += 1;
                }
            }
        }
    }
}

async fn trim(client: Client, keep: u64, stop: Arc<AtomicBool>) -> Result<(), Failure> {
    let mut next = Instant::now() + TRIM_EVERY;
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            let linearizable = quorate_client::Consistency::linearizable();
            let (info, _) = client.describe_log(LOG, &linearizable).await?;
            if info.next_offset > keep {
                client.trim_log(LOG, info.next_offset - keep, None).await?;
            }
            next = Instant::now() + TRIM_EVERY;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

impl Soak {
    fn text(&self) -> String {
        let time = |us: f64| units::duration(Duration::from_secs_f64(us / 1e6));
        let l = &self.latency_us;
        let grouped = |n: f64| units::grouped(n.round() as u64);
        format!(
            "{} callers, {} values, {} of load, load average {:.1} before and {:.1} after\n\
             {:>12} records/s   ({} records, {} appends failed)\n\
             {:>12} p50   {} p90   {} p99   {} p99.9   {} max\n\
             {:>12} was the term, {} it is; nodes learned {} times of another leader\n\
             {:>12} on disk at the end\n{}",
            self.clients,
            units::bytes(self.size_bytes),
            units::duration(Duration::from_secs_f64(self.elapsed_s)),
            self.load_average,
            self.load_average_after,
            grouped(self.records_per_s),
            units::grouped(self.records),
            self.failures,
            time(l.p50),
            time(l.p90),
            time(l.p99),
            time(l.p999),
            time(l.max),
            self.terms[0],
            self.terms[1],
            self.leader_changes,
            units::bytes(self.disk_bytes),
            Memory::table(&self.memory),
        )
    }
}
