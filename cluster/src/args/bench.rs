//! `quorate bench ...`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, value_parser};

use super::read::{Consistency, parse_consistency};
use crate::output::units;

/// Measure throughput and latency.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Which load.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// The loads.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Append records
    #[command(after_help = "Examples:\n  quorate bench append --clients 1\n  \
        quorate bench append --mode stream --clients 16 --in-flight 4 --batch 64\n  \
        quorate bench append --mode sdk --clients 1024 --size 1KiB --output json")]
    Append {
        /// The load.
        #[command(flatten)]
        load: Load,
        /// How appends travel
        #[arg(long, value_enum, default_value_t)]
        mode: AppendMode,
        /// Records per request
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=65_536))]
        batch: u32,
        /// Requests that each client keeps unanswered (stream only)
        #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=1024))]
        in_flight: u32,
        /// Spread over this many logs
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=10_000))]
        logs: u32,
        /// Keep the logs afterwards
        #[arg(long)]
        keep: bool,
    },
    /// Read records at random offsets
    #[command(after_help = "Examples:\n  quorate bench read --clients 64\n  \
        quorate bench read --consistency eventual --clients 64 --batch 100 --size 1KiB\n  \
        quorate bench read --consistency bounded:1s --endpoints 127.0.0.1:7102")]
    Read {
        /// The load.
        #[command(flatten)]
        load: Load,
        /// Records per request
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=65_536))]
        batch: u32,
        /// Records that the log is filled with first
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = value_parser!(u64).range(1..))]
        records: u64,
        /// How fresh the answers must be: linearizable, eventual, or bounded:TIME
        #[arg(long, value_name = "LEVEL", default_value = "linearizable", value_parser = parse_consistency)]
        consistency: Consistency,
        /// Keep the log afterwards
        #[arg(long)]
        keep: bool,
    },
    /// Put into etcd, for comparison: the same load generator against another system
    #[command(after_help = "Example:\n  \
        quorate bench etcd-put --endpoints 127.0.0.1:2379 --clients 64 --size 128\n\n\
        Clients are spread over the endpoints. A put is one key and one value of --size bytes.")]
    EtcdPut {
        /// The load.
        #[command(flatten)]
        load: Load,
        /// The keys.
        #[command(flatten)]
        keys: Keys,
    },
    /// Get from etcd, for comparison
    #[command(after_help = "Example:\n  \
        quorate bench etcd-range --endpoints 127.0.0.1:2379 --clients 64 --serializable\n\n\
        Puts the keys first. Linearizable unless --serializable.")]
    EtcdRange {
        /// The load.
        #[command(flatten)]
        load: Load,
        /// The keys.
        #[command(flatten)]
        keys: Keys,
        /// Read whatever the asked node has, instead of linearizable
        #[arg(long)]
        serializable: bool,
    },
}

/// What all loads have in common: a number of clients, each sending its next request when the
/// answer to the one before is there.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Clients at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=65_536))]
    pub clients: u32,
    /// Connections that the clients share (0: one per 64 clients, at least one per endpoint)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u32).range(0..=4096))]
    pub connections: u32,
    /// Bytes of a record's value
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = units::parse_bytes)]
    pub size: u64,
    /// Measure this long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration)]
    pub duration: Duration,
    /// Measure this many requests instead
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Send this long before measuring; 0s is not at all
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_warm_up)]
    pub warm_up: Duration,
}

/// How `quorate bench append` sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AppendMode {
    /// One gRPC call per request
    Unary,
    /// One bidirectional stream per client, several requests in flight
    Stream,
    /// Through the SDK's producer, which packs waiting records into batches
    #[default]
    Sdk,
}

impl std::fmt::Display for AppendMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unary => "unary",
            Self::Stream => "stream",
            Self::Sdk => "sdk",
        })
    }
}

/// Keys of the loads that have keys.
#[derive(Clone, Debug, Args)]
pub struct Keys {
    /// Keys are drawn at random from this many
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = value_parser!(u64).range(1..))]
    pub keys: u64,
}

fn parse_warm_up(text: &str) -> Result<Duration, String> {
    if matches!(text.trim(), "0" | "0s" | "0ms") {
        return Ok(Duration::ZERO);
    }
    units::parse_duration(text)
}
