//! `quorate bench cost`: processor time of the nodes for an append, and bytes that each replica
//! writes for a byte of values, by what they are written for.
//!
//! The kernel counts, for each thread, what it gave the disk to write (for writes through the page
//! cache: when the page became dirty); the nodes' threads have names by their work. What is flushed
//! and compacted after the load is waited for and belongs to it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    append::{self, Shape},
    here::{Cluster, load_average},
};
use crate::{
    args::{AppendMode, CostArgs, Load},
    exit::Failure,
    output::{
        Output,
        table::{Align, Table},
        units,
    },
};

const LOG: &str = "cost";
/// Requests on each stream.
const IN_FLIGHT: u32 = 64;
/// Nothing is written for this long: what the load left to be done is done. Longer than the
/// interval of flushes.
const QUIET: Duration = Duration::from_secs(12);
/// A node that has not come to rest by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Less than this in a look is a heartbeat's worth, not work.
const NOISE_BYTES: u64 = 1 << 20;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What threads write for, by the beginning of their names.
const PURPOSES: [(&str, &str); 4] = [
    ("log-sync", "the Raft log"),
    ("log-prepare", "files of the Raft log, before their use"),
    ("rocksdb:high", "flushes of memtables (values and keys)"),
    ("rocksdb:low", "compaction"),
];
const REST: &str = "everything else";

/// The result, with the field names of `--output json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Cost {
    /// Bytes of a record's value.
    pub size_bytes: u64,
    /// Records in each request.
    pub batch: u32,
    /// Requests unanswered at a time.
    pub in_flight: u32,
    /// The machine's load average before.
    pub load_average: f64,
    /// Records acknowledged in the measured time.
    pub records: u64,
    /// Records a second.
    pub records_per_s: f64,
    /// Processor time of all nodes for one record while they were appended, in microseconds.
    pub cpu_us_per_record: f64,
    /// The same with what was left to be done afterwards.
    pub cpu_us_per_record_in_all: f64,
    /// Each node.
    pub nodes: Vec<NodeCost>,
}

/// Bytes written by one node to each byte of values.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NodeCost {
    /// Whether it led.
    pub leader: bool,
    /// All of it.
    pub written_per_byte: f64,
    /// By purpose.
    pub written_per_byte_for: BTreeMap<String, f64>,
    /// Entries of the Raft log, of what was written to it; the rest fills blocks.
    pub log_payload_share: f64,
}

/// What the nodes have used at a time.
struct Look {
    cpu: Duration,
    written: Vec<u64>,
    by_thread: Vec<BTreeMap<String, u64>>,
    log_written: Vec<f64>,
    log_payload: Vec<f64>,
}

impl Look {
    async fn at(cluster: &Cluster) -> Result<Self, Failure> {
        let (mut log_written, mut log_payload) = (Vec::new(), Vec::new());
        for node in 0..cluster.size() {
            let metrics = cluster.metrics(node).await?;
            log_written.push(metrics.get("quorate_log_store_written_bytes_total"));
            log_payload.push(metrics.get("quorate_log_store_payload_bytes_total"));
        }
        let by_thread = cluster.written_by_thread()?;
        let usage = cluster.usage()?;
        Ok(Self {
            cpu: usage.iter().map(|u| u.cpu).sum(),
            written: usage.iter().map(|u| u.written_bytes).collect(),
            by_thread,
            log_written,
            log_payload,
        })
    }
}

/// `quorate bench cost`.
///
/// # Errors
/// The nodes can't be started or keep refusing.
pub async fn run(args: &CostArgs, output: Output) -> Result<(), Failure> {
    let cluster = Cluster::start(&args.here, "cost").await?;
    let load_average = load_average();
    let client = cluster.client()?;
    client.create_log(LOG, false).await?;
    let leader = cluster.leader(&client, LOG).await?;
    output.note(&format!("appending for {} first", units::duration(args.warm_up)));
    append(args, &cluster, args.warm_up).await?;
    rest(&cluster, output).await?;
    let before = Look::at(&cluster).await?;
    let (records, elapsed) = append(args, &cluster, args.duration).await?;
    let loaded = cluster.usage()?.iter().map(|u| u.cpu).sum::<Duration>();
    rest(&cluster, output).await?;
    let after = Look::at(&cluster).await?;
    let us = |cpu: Duration| (cpu - before.cpu).as_secs_f64() * 1e6 / records as f64;
    let bytes = records as f64 * args.size as f64;
    let report = Cost {
        size_bytes: args.size,
        batch: args.batch,
        in_flight: args.in_flight,
        load_average,
        records,
        records_per_s: records as f64 / elapsed.as_secs_f64(),
        cpu_us_per_record: us(loaded),
        cpu_us_per_record_in_all: us(after.cpu),
        nodes: (0..cluster.size())
            .map(|node| node_cost(&before, &after, node, node == leader, bytes))
            .collect(),
    };
    match output.is_json() {
        true => output.json(&report),
        false => output.print(&report.text()),
    }
}

/// Appends for so long; how many records were acknowledged, in what time. All of them count, those
/// behind the end too: their bytes are written.
async fn append(
    args: &CostArgs,
    cluster: &Cluster,
    duration: Duration,
) -> Result<(u64, Duration), Failure> {
    let clients = args.in_flight.div_ceil(IN_FLIGHT);
    let load = Load {
        clients,
        connections: clients.min(4),
        size: args.size,
        duration,
        count: None,
        warm_up: Duration::ZERO,
    };
    let shape = Shape {
        mode: AppendMode::Stream,
        batch: args.batch,
        in_flight: args.in_flight.min(IN_FLIGHT),
        logs: 1,
        keep: true,
    };
    let (plan, client) = (cluster.plan(&load)?, cluster.client()?);
    let began = next_offset(&client).await?;
    let measured = append::measure(&plan, &load, &shape, &plan.clients()?, &[LOG.into()]).await?;
    if let Some(why) = measured.first_failure {
        // A request that failed and was appended all the same would count for nothing here.
        return Err(Failure::refused(format!("an append failed: {why}")));
    }
    Ok((next_offset(&client).await? - began, measured.elapsed))
}

async fn next_offset(client: &quorate_client::Client) -> Result<u64, Failure> {
    let linearizable = quorate_client::Consistency::linearizable();
    Ok(client.describe_log(LOG, &linearizable).await?.0.next_offset)
}

/// Waits until nothing is written any more.
async fn rest(cluster: &Cluster, output: Output) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let written: u64 = cluster.usage()?.iter().map(|u| u.written_bytes).sum();
        if written.saturating_sub(last) > NOISE_BYTES {
            (last, since) = (written, Instant::now());
        }
        if since.elapsed() >= QUIET {
            return Ok(());
        }
        if Instant::now() > end {
            output.note("the nodes still write; what they wrote so far counts");
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn purpose(thread: &str) -> &'static str {
    let known = PURPOSES.iter().find(|(name, _)| thread.starts_with(name));
    known.map_or(REST, |(_, purpose)| purpose)
}

fn node_cost(before: &Look, after: &Look, node: usize, leader: bool, bytes: f64) -> NodeCost {
    let all = (after.written[node] - before.written[node]) as f64;
    let mut by_purpose: BTreeMap<String, f64> = BTreeMap::new();
    let mut known = 0.0;
    for (thread, written) in &after.by_thread[node] {
        let earlier = before.by_thread[node].get(thread).copied().unwrap_or_default();
        let more = written.saturating_sub(earlier) as f64;
        known += more;
        *by_purpose.entry(purpose(thread).to_owned()).or_default() += more / bytes;
    }
    // Threads that have ended meanwhile.
    *by_purpose.entry(REST.to_owned()).or_default() += (all - known).max(0.0) / bytes;
    let log = after.log_written[node] - before.log_written[node];
    let payload = after.log_payload[node] - before.log_payload[node];
    NodeCost {
        leader,
        written_per_byte: all / bytes,
        written_per_byte_for: by_purpose,
        log_payload_share: if log > 0.0 { payload / log } else { 0.0 },
    }
}

impl Cost {
    fn text(&self) -> String {
        let mut text = format!(
            "{} in flight, {} of {} a request, load average {:.1}\n\
             {:>12} records/s   {:.1} µs of all nodes' processors a record ({:.1} µs with what was \
             left to be done)\n",
            self.in_flight,
            self.batch,
            units::bytes(self.size_bytes),
            self.load_average,
            units::grouped(self.records_per_s.round() as u64),
            self.cpu_us_per_record,
            self.cpu_us_per_record_in_all,
        );
        let mut columns = vec![("bytes written to a byte of values", Align::Left)];
        let names = ["node 1", "node 2", "node 3"];
        columns.extend(names.iter().map(|name| (*name, Align::Right)));
        let mut table = Table::new(&columns);
        let row = |table: &mut Table, name: &str, value: &dyn Fn(&NodeCost) -> String| {
            let mut cells = vec![name.into()];
            cells.extend(self.nodes.iter().map(|node| value(node).into()));
            table.row(cells);
        };
        for purpose in PURPOSES.iter().map(|(_, purpose)| *purpose).chain([REST]) {
            row(&mut table, purpose, &|node| {
                let n = node.written_per_byte_for.get(purpose).copied().unwrap_or_default();
                format!("{n:.2}")
            });
        }
        row(&mut table, "in all", &|node| format!("{:.2}", node.written_per_byte));
        row(&mut table, "of the Raft log, entries", &|node| {
            format!("{:.0} %", 100.0 * node.log_payload_share)
        });
        row(&mut table, "leads", &|node| if node.leader { "yes" } else { "" }.into());
        text += &table.render(false);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_has_a_purpose() {
        let look = |sync: u64, flush: u64, all: u64, log: f64, payload: f64| Look {
            cpu: Duration::ZERO,
            written: vec![all],
            by_thread: vec![BTreeMap::from([
                ("log-sync".to_owned(), sync),
                ("rocksdb:high0".to_owned(), flush),
            ])],
            log_written: vec![log],
            log_payload: vec![payload],
        };
        let (before, after) =
            (look(100, 0, 100, 50.0, 50.0), look(1200, 1000, 2600, 1050.0, 950.0));
        let cost = node_cost(&before, &after, 0, true, 1000.0);
        assert_eq!(cost.written_per_byte, 2.5);
        let of = |purpose: &str| cost.written_per_byte_for[purpose];
        assert_eq!((of(PURPOSES[0].1), of(PURPOSES[2].1)), (1.1, 1.0));
        assert!((of(REST) - 0.4).abs() < 1e-9, "of threads that have ended");
        assert_eq!(cost.log_payload_share, 0.9);
    }
}
