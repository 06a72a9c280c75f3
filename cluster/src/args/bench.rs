//! `quorate bench ...`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum, value_parser};

use super::{
    here::{CostArgs, FailoverArgs, FanoutArgs, LevelsArgs, OverloadArgs, RestartArgs, SoakArgs},
    read::{Consistency, parse_consistency},
};
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
        /// How reads travel
        #[arg(long, value_enum, default_value_t)]
        mode: ReadMode,
        /// Records per request
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=65_536))]
        batch: u32,
        /// Records that the log is filled with first
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = value_parser!(u64).range(1..))]
        records: u64,
        /// Records in each batch that the log is filled with: a read gets whole batches
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1000))]
        stored_batch: u32,
        /// How fresh the answers must be: linearizable, eventual, or bounded:TIME
        #[arg(long, value_name = "LEVEL", default_value = "linearizable", value_parser = parse_consistency)]
        consistency: Consistency,
        /// Read from this node only
        #[arg(long, value_name = "ADDRESS")]
        node: Option<String>,
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
    /// Publish to NATS JetStream, for comparison
    #[command(after_help = "Example:\n  \
        quorate bench nats-publish --endpoints 127.0.0.1:4222,4223,4224 --clients 64\n\n\
        Makes a stream of its own, publishes to the server that leads it, and counts a\n\
        publication when JetStream has acknowledged it.")]
    NatsPublish {
        /// The load.
        #[command(flatten)]
        load: Load,
        /// Replicas of the stream
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(1..=5))]
        replicas: u32,
    },
    /// Add to a Redis stream and wait for replicas, for comparison
    #[command(after_help = "Example:\n  \
        quorate bench redis-xadd --endpoints 127.0.0.1:6379 --clients 64\n\n\
        Asks the first endpoint, which must be the master. Each client has a connection of its own.")]
    RedisXadd {
        /// The load.
        #[command(flatten)]
        load: Load,
        /// Replicas, besides the master, that must have an entry before it counts
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(0..=5))]
        wait: u32,
    },
    /// Append to a file and sync it, one after the other: the disk alone
    #[command(after_help = "Example:\n  quorate bench disk --dir /var/lib/quorate --size 1KiB")]
    Disk {
        /// The load; there is one client, whatever is asked for.
        #[command(flatten)]
        load: Load,
        /// A folder on the disk in question
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Start three nodes each of several systems here, and measure them side by side
    #[command(after_help = "Examples:\n  \
        quorate bench compare --etcd /usr/bin/etcd --nats /usr/sbin/nats-server\n  \
        quorate bench compare --rounds 1 --duration 2s --only append,read\n\n\
        cluster/compare.sh finds or fetches the other systems first. Writes compare.json, \
        compare.md and compare.svg.")]
    Compare(CompareArgs),
    /// Start three nodes here and say what an append costs them: processor time, and bytes written
    #[command(after_help = "Examples:\n  quorate bench cost\n  \
        quorate bench cost --size 128 --batch 64 --in-flight 32 --output json\n\n\
        Appends on streams. Bytes are those that the kernel says each thread gave the disk to \
        write, so that they can be told apart: the Raft log, flushes, compactions.")]
    Cost(CostArgs),
    /// Start three nodes here and let many clients follow one log on the followers
    #[command(after_help = "Examples:\n  quorate bench fanout\n  \
        quorate bench fanout --subscribers 500 --rate 0 --rounds 3\n\n\
        Appends with subscribers and without, in turns.")]
    Fanout(FanoutArgs),
    /// Start three nodes here, fill them, and measure how long a node takes to serve again
    #[command(after_help = "Examples:\n  quorate bench restart --records 1000000\n  \
        quorate bench restart --set log.retain_mb=128 --max-disk 6GiB\n\n\
        A node is killed behind an append and started again; it serves when it answers a read \
        that is at most a second old.")]
    Restart(RestartArgs),
    /// Start three nodes here and keep them busy: memory, and elections that nobody needed
    #[command(after_help = "Examples:\n  quorate bench soak --duration 1m\n  \
        quorate bench soak --clients 1024 --size 1KiB --keep-records 500000")]
    Soak(SoakArgs),
    /// Start three nodes here and say what a read costs at each level, on leader and follower
    #[command(after_help = "Examples:\n  quorate bench levels\n  \
        quorate bench levels --rounds 1 --duration 500ms --output json")]
    Levels(LevelsArgs),
    /// Start three nodes here, kill the one that leads, and measure how long appends stop
    #[command(after_help = "Examples:\n  quorate bench failover\n  \
        quorate bench failover --kills 10 --set raft.heartbeat_ms=20 \
        --set raft.election_min_ms=60 --set raft.election_max_ms=110\n  \
        quorate bench failover --system etcd --program /usr/bin/etcd\n\n\
        Appends at a steady rate; the figure is the gap between two acknowledgements around each \
        kill -9. The node is started again before the next.")]
    Failover(FailoverArgs),
    /// Start three nodes here and offer them more than they can take
    #[command(after_help = "Examples:\n  quorate bench overload\n  \
        quorate bench overload --batch 1 --size 128 --duration 30s\n  \
        quorate bench overload --set limits.inflight_mb=16 --output json\n\n\
        Looks for the peak first, measures it for as long as --duration says, then sends requests at \
        a multiple of it, without retries, and measures the peak again.")]
    Overload(OverloadArgs),
}

/// What is compared, and how long.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// The program quorate-node [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub node: Option<PathBuf>,
    /// The program etcd; without it, it is left out
    #[arg(long, value_name = "PATH")]
    pub etcd: Option<PathBuf>,
    /// The program nats-server; without it, it is left out
    #[arg(long, value_name = "PATH")]
    pub nats: Option<PathBuf>,
    /// The program redis-server; without it, it is left out
    #[arg(long, value_name = "PATH")]
    pub redis: Option<PathBuf>,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Length of each measurement
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::parse_duration)]
    pub duration: Duration,
    /// Load before each measurement
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_warm_up)]
    pub warm_up: Duration,
    /// Only these of append, batches, groups, read, replicas, failover, overload
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Where the results go
    #[arg(long, value_name = "DIR", default_value = "docs/performance")]
    pub out: PathBuf,
    /// Where the servers keep their data meanwhile: a folder on the disk to be measured
    #[arg(long, value_name = "DIR", default_value = ".run")]
    pub data: PathBuf,
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

/// How `quorate bench read` asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReadMode {
    /// One gRPC call per request
    Unary,
    /// As the SDK does by itself: small reads of all clients on a connection share a stream
    #[default]
    Sdk,
}

impl std::fmt::Display for ReadMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unary => "unary",
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
