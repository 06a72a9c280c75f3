//! `quorate bench ...` for loads that start nodes of their own.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, value_parser};

use crate::output::units;

/// The nodes that a measurement starts on this machine, and ends with itself.
#[derive(Clone, Debug, Args)]
pub struct Here {
    /// The program quorate-node [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// Where the nodes keep their data meanwhile: a folder on the disk to be measured
    #[arg(long, value_name = "DIR", default_value = ".run")]
    pub data: PathBuf,
    /// A setting of all nodes, as quorate-node takes it; can be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Processors that the nodes may use, e.g. 0-1; run this program under `taskset` on others, so
    /// that the load does not take from the nodes what it needs itself
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub cpus: Option<Cpus>,
}

/// Numbers of processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

/// `0,2-3`.
fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let bad = || format!("{text:?} is no list of processors such as 0,2-3");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < 1024);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
            _ => return Err(bad()),
        }
    }
    Ok(Cpus(cpus))
}

/// Whose leader is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Killed {
    /// Quorate
    Quorate,
    /// etcd
    Etcd,
    /// NATS JetStream, syncing before it acknowledges
    Nats,
}

/// `quorate bench failover`.
#[derive(Clone, Debug, Args)]
pub struct FailoverArgs {
    /// The nodes.
    #[command(flatten)]
    pub here: Here,
    /// Whose leader is killed
    #[arg(long, value_enum, default_value = "quorate", value_name = "SYSTEM")]
    pub system: Killed,
    /// Times that the leader is killed
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=1000))]
    pub kills: u32,
    /// Appends a second, sent whether or not those before were answered
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
}

/// `quorate bench overload`.
#[derive(Clone, Debug, Args)]
pub struct OverloadArgs {
    /// The nodes.
    #[command(flatten)]
    pub here: Here,
    /// Bytes of a record's value
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = units::parse_bytes)]
    pub size: u64,
    /// Records per request
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Offer this many times the peak
    #[arg(long, value_name = "TIMES", default_value_t = 2.0, value_parser = parse_factor)]
    pub factor: f64,
    /// Offer it this long
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = units::parse_duration)]
    pub duration: Duration,
    /// Look for the peak this long at each number of callers
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::parse_duration)]
    pub peak_duration: Duration,
    /// Trim the log to this many records, so that the disk need not hold all of them
    #[arg(long, value_name = "N", default_value_t = 250_000, value_parser = value_parser!(u64).range(1..))]
    pub keep_records: u64,
    /// Connections; a node takes 1000 requests at a time on each
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=1024))]
    pub connections: u32,
}

/// `quorate bench fanout`.
#[derive(Clone, Debug, Args)]
pub struct FanoutArgs {
    /// The nodes.
    #[command(flatten)]
    pub here: Here,
    /// Clients that follow the log, half of them on each follower
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=10_000))]
    pub subscribers: u32,
    /// Appends a second; 0: as many as 64 callers get through
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub rate: u32,
    /// Bytes of a record's value
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = units::parse_bytes)]
    pub size: u64,
    /// How often it is measured with subscribers and without
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Length of each measurement
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::parse_duration)]
    pub duration: Duration,
}

/// `quorate bench cost`.
#[derive(Clone, Debug, Args)]
pub struct CostArgs {
    /// The nodes.
    #[command(flatten)]
    pub here: Here,
    /// Bytes of a record's value
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = units::parse_bytes)]
    pub size: u64,
    /// Requests unanswered at a time
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,
    /// Records per request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Append this long before measuring, so that files of the Raft log are used again as they
    /// will be from then on
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = units::parse_duration)]
    pub warm_up: Duration,
    /// Measure this long; what is flushed and compacted afterwards belongs to it
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = units::parse_duration)]
    pub duration: Duration,
}

/// `quorate bench restart`.
#[derive(Clone, Debug, Args)]
pub struct RestartArgs {
    /// The nodes.
    #[command(flatten)]
    pub here: Here,
    /// Records that are there
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = value_parser!(u64).range(1..=1_000_000_000))]
    pub records: u64,
    /// Bytes of a record's value
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = units::parse_bytes)]
    pub size: u64,
    /// Records per append
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Times that a node is killed and started again
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..=100))]
    pub restarts: u32,
    /// Give up when the data of all nodes takes more than this
    #[arg(long, value_name = "SIZE", default_value = "12GiB", value_parser = units::parse_bytes)]
    pub max_disk: u64,
}

/// `quorate bench soak`.
#[derive(Clone, Debug, Args)]
pub struct SoakArgs {
    /// The nodes.
    #[command(flatten)]
    pub here: Here,
    /// Callers
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(1..=65_536))]
    pub clients: u32,
    /// Bytes of a record's value
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = units::parse_bytes)]
    pub size: u64,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = units::parse_duration)]
    pub duration: Duration,
    /// Trim the log to this many records, so that the disk need not hold all of them
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = value_parser!(u64).range(1..))]
    pub keep_records: u64,
}

/// `quorate bench levels`.
#[derive(Clone, Debug, Args)]
pub struct LevelsArgs {
    /// The nodes.
    #[command(flatten)]
    pub here: Here,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Length of each measurement
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::parse_duration)]
    pub duration: Duration,
}

fn parse_factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (0.1..=100.0).contains(&factor) => Ok(factor),
        _ => Err("a number from 0.1 to 100".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(parse_cpus("0,2-3"), Ok(Cpus(vec![0, 2, 3])));
        for bad in ["", "a", "3-1", "1-", "5000"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }
}
