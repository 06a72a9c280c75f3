//! `quorate bench restart`: a node that holds many records is killed and started again. How long
//! until it serves, and how much of the Raft log it had to apply for that.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use quorate_client::{Batch, Client, Consistency, Endpoint};
use serde::{Deserialize, Serialize};

use super::{
    here::{Cluster, load_average},
    payload::Payload,
    spread::Spread,
};
use crate::{
    args::RestartArgs,
    exit::Failure,
    local::metrics::Metrics,
    output::{
        Output,
        table::{Align, Table},
        units,
    },
};

const LOG: &str = "restart";
/// Appends unanswered at a time.
const IN_FLIGHT: usize = 256;
/// Between two looks at a node that starts.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A start that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often the disk is looked at while records are appended, in appends.
const DISK_EVERY: u64 = 4096;

/// The result, with the field names of `--output json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Restart {
    /// Records that were there.
    pub records: u64,
    /// Bytes of a record's value.
    pub size_bytes: u64,
    /// The machine's load average before the first restart.
    pub load_average: f64,
    /// Bytes on disk of all nodes.
    pub disk_bytes: u64,
    /// Seconds it took to append them.
    pub appending_s: f64,
    /// Each restart.
    pub restarts: Vec<One>,
    /// Seconds until the node served.
    pub serving_s: Spread,
}

/// One restart, of a node that was killed while records were being appended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct One {
    /// The node.
    pub node: u64,
    /// Seconds from the start of its process until it answered its metrics: its files are open,
    /// its Raft log is read back.
    pub up_s: f64,
    /// Seconds until it served a read of its own that is at most a second old.
    pub serving_s: f64,
    /// Raft entries that it had to apply again or anew for that.
    pub applied_entries: f64,
    /// Raft entries that all records made.
    pub all_entries: f64,
}

/// `quorate bench restart`.
///
/// # Errors
/// The nodes can't be started, the disk is too small, or a node does not come back.
pub async fn run(args: &RestartArgs, output: Output) -> Result<(), Failure> {
    let mut cluster = Cluster::start(&args.here, "restart").await?;
    let client = cluster.client()?;
    client.create_log(LOG, false).await?;
    let payload = Payload::new(args.size as usize);
    output.note(&format!("appending {} records", units::grouped(args.records)));
    let began = Instant::now();
    append(args, &cluster, &client, &payload, args.records).await?;
    let appending_s = began.elapsed().as_secs_f64();
    let disk_bytes = cluster.disk_bytes()?;
    let load_average = load_average();
    let mut restarts = Vec::new();
    for n in 0..args.restarts as usize {
        let one = restart(args, &mut cluster, &client, &payload, n).await?;
        output.note(&format!(
            "{:>3}: node {} up after {:.2} s, serving after {:.2} s, {} entries applied",
            n + 1,
            one.node,
            one.up_s,
            one.serving_s,
            units::grouped(one.applied_entries as u64)
        ));
        restarts.push(one);
    }
    let report = Restart {
        records: args.records,
        size_bytes: args.size,
        load_average,
        disk_bytes,
        appending_s,
        serving_s: Spread::of(restarts.iter().map(|r| r.serving_s)).expect("there is one at least"),
        restarts,
    };
    match output.is_json() {
        true => output.json(&report),
        false => output.print(&report.text()),
    }
}

async fn append(
    args: &RestartArgs,
    cluster: &Cluster,
    client: &Client,
    payload: &Payload,
    records: u64,
) -> Result<(), Failure> {
    let producer = client.producer(LOG).delivery_timeout(Some(PATIENCE)).open().await?;
    let mut tickets = VecDeque::new();
    for (number, first) in (0..records).step_by(args.batch as usize).enumerate() {
        let last = records.min(first + u64::from(args.batch));
        let batch = Batch::of((first..last).map(|n| payload.of(n)))?;
        tickets.push_back(producer.append_batch(batch).await?);
        if tickets.len() == IN_FLIGHT
            && let Some(oldest) = tickets.pop_front()
        {
            oldest.await?;
        }
        if (number as u64).is_multiple_of(DISK_EVERY) && cluster.disk_bytes()? > args.max_disk {
            let limit = units::bytes(args.max_disk);
            return Err(Failure::refused(format!("the data takes more than {limit}")));
        }
    }
    for ticket in tickets {
        ticket.await?;
    }
    Ok(producer.close().await?)
}

/// Kills a node right behind an append, so that its memtables are lost, and starts it.
async fn restart(
    args: &RestartArgs,
    cluster: &mut Cluster,
    client: &Client,
    payload: &Payload,
    n: usize,
) -> Result<One, Failure> {
    let node = n % cluster.size();
    append(args, cluster, client, payload, u64::from(args.batch) * IN_FLIGHT as u64).await?;
    let killed = cluster.node(node).kill();
    killed.map_err(|e| Failure::refused(format!("kill -9: {e}")))?;
    let began = Instant::now();
    cluster.start_again(node)?;
    let up = until(|| cluster.metrics(node)).await?;
    let up_s = began.elapsed().as_secs_f64();
    let endpoint = Endpoint::new(&cluster.endpoints()[node])?;
    let bounded = Consistency::bounded(Duration::from_secs(1));
    until(|| async {
        let read = client.read(LOG).last(1).at(&endpoint).consistency(bounded.clone());
        let records = read.timeout(Duration::from_secs(5)).open().await?.collect().await?;
        match records.len() {
            1 => Ok(()),
            _ => Err(Failure::refused("the last record is not there")),
        }
    })
    .await?;
    let serving_s = began.elapsed().as_secs_f64();
    let now = cluster.metrics(node).await?;
    let applied = |metrics: &Metrics| metrics.sum("quorate_apply_batch_entries_sum");
    if let Some(failure) = cluster.ended() {
        return Err(failure);
    }
    drop(up);
    Ok(One {
        node: node as u64 + 1,
        up_s,
        serving_s,
        // Counters start with the process.
        applied_entries: applied(&now),
        all_entries: now.sum("quorate_raft_last_log_index"),
    })
}

/// Asks until the answer is there.
async fn until<T, F: Future<Output = Result<T, Failure>>>(
    mut ask: impl FnMut() -> F,
) -> Result<T, Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(failure) if Instant::now() > end => return Err(failure),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

impl Restart {
    fn text(&self) -> String {
        let columns = [
            ("node", Align::Right),
            ("up", Align::Right),
            ("serving", Align::Right),
            ("entries applied", Align::Right),
            ("of", Align::Right),
        ];
        let mut table = Table::new(&columns);
        for one in &self.restarts {
            table.row(vec![
                one.node.into(),
                format!("{:.2} s", one.up_s).into(),
                format!("{:.2} s", one.serving_s).into(),
                units::grouped(one.applied_entries as u64).into(),
                units::grouped(one.all_entries as u64).into(),
            ]);
        }
        format!(
            "{} records of {} (appended in {:.0} s), {} on disk, load average {:.1}\n{}",
            units::grouped(self.records),
            units::bytes(self.size_bytes),
            self.appending_s,
            units::bytes(self.disk_bytes),
            self.load_average,
            table.render(false)
        )
    }
}
