//! The node's configuration: what a file, the environment and flags say, checked before anything
//! starts.
//!
//! - `schema`: every key in one table, with its kind and its bounds.
//! - `layers`: defaults, then the file, then the environment, then flags; who said what.
//! - `values`: one value against its key's kind and bounds.
//! - `relations`: what has to hold between keys.
//! - `render`: the configuration in force, as a file that would give the same one.
//! - `problem`: what is wrong, where, and what would be right. All problems at once, so that a file
//!   is repaired in one go.
//!
//! Sizes are written in MiB (`_mb`) and times in milliseconds or seconds, as the key says; the
//! accessors here convert, so that nothing behind them does.

mod layers;
mod problem;
mod relations;
mod render;
pub mod schema;
mod values;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

pub use quorate_state_machine::store::Compression;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    layers::{ENVIRONMENT_PREFIX, Loaded, Origin, Override, Sources, load},
    problem::{ConfigError, Problem},
};
pub use crate::{log_store::Durability, observe::logging::Format as LogFormat};
use crate::{raft::types::NodeId, read::levels::Level};

/// The configuration in force. Only [`load`] makes one outside of tests, so its relations hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster; the same on every node.
    pub cluster_id: Uuid,
    /// This replica: unique in the cluster, never used again after its disk was lost.
    pub node_id: NodeId,
    /// Everything this node stores.
    pub data_dir: PathBuf,
    /// Number of Raft groups; fixed when the cluster is created.
    #[serde(default = "one")]
    pub groups: u32,
    /// Threads that serve clients (consensus has one of its own); 0: one for two cores.
    #[serde(default)]
    pub threads: u32,
    /// Where this node listens.
    pub listen: Listen,
    /// The membership the cluster starts with: every node, the same list everywhere.
    pub nodes: Vec<Node>,
    /// Timing of Raft.
    #[serde(default)]
    pub raft: Raft,
    /// The Raft log.
    #[serde(default)]
    pub log: Log,
    /// The state machine's store.
    #[serde(default)]
    pub state: State,
    /// What one node takes at once.
    #[serde(default)]
    pub limits: Limits,
    /// Reading.
    #[serde(default)]
    pub reads: Reads,
    /// Log lines.
    #[serde(default)]
    pub log_output: LogOutput,
}

fn one() -> u32 {
    1
}

/// Where this node listens, as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// gRPC for clients and operators.
    pub client: String,
    /// gRPC between nodes.
    pub peer: String,
    /// Metrics and probes.
    pub http: String,
    /// Where clients reach `client`, if not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_client: Option<String>,
    /// Where peers reach `peer`, if not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_peer: Option<String>,
}

/// A node of the initial membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// `host:port` for peers.
    pub peer: String,
    /// `host:port` for clients.
    pub client: String,
}

/// Timing of Raft. `heartbeat_ms * 3 <= election_min_ms < election_max_ms`.
///
/// A follower stands for election when it heard nothing for `election_max_ms` (the lease, within
/// which it votes for nobody either) and then for a time between the two. With the defaults that is
/// 625 to 800 ms, so that appends go on within a second after a leader was lost
/// (docs/operating.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raft {
    /// A leader speaks to its followers this often.
    pub heartbeat_ms: u64,
    /// What a follower waits beyond the leader's lease before it stands for election, at least.
    pub election_min_ms: u64,
    /// The same at most; and the leader's lease.
    pub election_max_ms: u64,
}

impl Default for Raft {
    fn default() -> Self {
        Self { heartbeat_ms: 75, election_min_ms: 225, election_max_ms: 400 }
    }
}

/// The Raft log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Size of a file, MiB.
    pub segment_mb: u64,
    /// Recent entries in memory, MiB, all groups together.
    pub cache_mb: u64,
    /// How writes become durable.
    pub durability: Durability,
    /// Log kept for slow followers, MiB; one that is further behind gets a snapshot.
    pub retain_mb: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self { segment_mb: 64, cache_mb: 64, durability: Durability::Auto, retain_mb: 512 }
    }
}

/// The state machine's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Writes collected in memory before they are flushed, MiB, each group.
    pub memtable_mb: u64,
    /// Cache of read blocks, MiB.
    pub block_cache_mb: u64,
    /// Compression of stored data.
    pub compression: Compression,
    /// State is flushed at least this often, seconds, so that the log can be purged.
    pub flush_interval_s: u64,
    /// Replicas compare their digests this often; one that differs from a majority goes. 0: never.
    pub compare_interval_s: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            memtable_mb: 64,
            block_cache_mb: 64,
            compression: Compression::None,
            flush_interval_s: 10,
            compare_interval_s: 60,
        }
    }
}

/// What one node takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Appends admitted and not yet answered, MiB.
    pub inflight_mb: u64,
    /// Appends of one call each that are being served.
    pub inflight_appends: u32,
    /// Largest request, MiB.
    pub max_request_mb: u64,
    /// Requests and streams on one client connection.
    pub streams_per_connection: u32,
}

impl Default for Limits {
    fn default() -> Self {
        // Appends: several times as many as keep a node at its peak, and below a second of them.
        Self {
            inflight_mb: 64,
            inflight_appends: 2048,
            max_request_mb: 8,
            streams_per_connection: 1000,
        }
    }
}

/// The level that no read goes below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Floor {
    /// None.
    #[default]
    Eventual,
    /// `reads.floor_staleness_ms`.
    Bounded,
    /// Everything is linearizable, whatever is asked for.
    Linearizable,
}

/// Reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reads {
    /// Reads that ask for less get this.
    pub floor: Floor,
    /// The bound, where the floor is bounded, milliseconds.
    pub floor_staleness_ms: u64,
    /// `/replica` lets a replica serve only after it has kept within the bound for this long,
    /// seconds.
    pub probation_s: u64,
    /// Recently applied batches in memory, for tails, MiB, all groups together.
    pub cache_mb: u64,
}

impl Default for Reads {
    fn default() -> Self {
        Self { floor: Floor::Eventual, floor_staleness_ms: 10_000, probation_s: 5, cache_mb: 32 }
    }
}

/// Log lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogOutput {
    /// How they look.
    pub format: LogFormat,
    /// What is logged: a level, or levels for single modules.
    pub level: String,
}

impl Default for LogOutput {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl Config {
    /// Where clients reach this node.
    #[must_use]
    pub fn advertise_client(&self) -> &str {
        self.listen.advertise_client.as_deref().unwrap_or(&self.listen.client)
    }

    /// Where peers reach this node.
    #[must_use]
    pub fn advertise_peer(&self) -> &str {
        self.listen.advertise_peer.as_deref().unwrap_or(&self.listen.peer)
    }

    /// Threads that serve clients: as configured, or one for two cores. An append passes through
    /// many short tasks, and each step from one thread to another costs more than the task, so
    /// fewer threads are faster until they are busy all the time.
    #[must_use]
    pub fn edge_threads(&self) -> usize {
        if self.threads > 0 {
            return self.threads as usize;
        }
        std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2)
    }

    /// The configured nodes but this one.
    pub fn others(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.id != self.node_id)
    }
}

const fn mib(mb: u64) -> u64 {
    mb << 20
}

impl Log {
    /// Size of a file, bytes.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        mib(self.segment_mb)
    }

    /// Recent entries in memory, bytes.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        mib(self.cache_mb)
    }

    /// Log kept for slow followers, bytes.
    #[must_use]
    pub fn retain_bytes(&self) -> u64 {
        mib(self.retain_mb)
    }
}

impl State {
    /// Writes collected in memory, bytes.
    #[must_use]
    pub fn memtable_bytes(&self) -> u64 {
        mib(self.memtable_mb)
    }

    /// Cache of read blocks, bytes.
    #[must_use]
    pub fn block_cache_bytes(&self) -> u64 {
        mib(self.block_cache_mb)
    }
}

impl Reads {
    /// The level that no read goes below.
    #[must_use]
    pub fn floor(&self) -> Level {
        match self.floor {
            Floor::Eventual => Level::Eventual,
            Floor::Bounded => Level::Bounded(Duration::from_millis(self.floor_staleness_ms)),
            Floor::Linearizable => Level::Linearizable,
        }
    }

    /// Recently applied batches in memory, bytes.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        mib(self.cache_mb)
    }
}

impl Limits {
    /// Appends admitted and not yet answered, bytes.
    #[must_use]
    pub fn inflight_bytes(&self) -> u64 {
        mib(self.inflight_mb)
    }

    /// Largest request, bytes.
    #[must_use]
    pub fn max_request_bytes(&self) -> usize {
        // At most 64 MiB (schema), which fits every usize we run on.
        mib(self.max_request_mb) as usize
    }
}
