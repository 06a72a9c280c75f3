//! Every key: its kind, its bounds, what it is. The only list; the environment's names, the
//! suggestions, the checks and the rendering follow from it, and a test holds it against
//! [`super::Config`].

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within bounds, both included, in a unit ("" for a count).
    Number {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// For messages.
        unit: &'static str,
    },
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A UUID that is not all zeros.
    Uuid,
    /// A directory.
    Path,
    /// `host:port` to listen on.
    Listen,
    /// `host:port` that others can call.
    Address,
    /// A filter of log lines (`crate::observe::logging`).
    LogLevel,
    /// The list of nodes.
    Nodes,
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.key`, or the key alone outside of sections.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Nobody can guess its value.
    pub required: bool,
    /// One line for people.
    pub help: &'static str,
}

const fn number(min: i64, max: i64, unit: &'static str) -> Kind {
    Kind::Number { min, max, unit }
}

const fn required(path: &'static str, kind: Kind, help: &'static str) -> Key {
    Key { path, kind, required: true, help }
}

const fn optional(path: &'static str, kind: Kind, help: &'static str) -> Key {
    Key { path, kind, required: false, help }
}

/// Largest node id and number of nodes that make sense to people who type them; both are `u64` on
/// the wire.
const MAX_NODE_ID: i64 = u32::MAX as i64;

/// Most nodes of one cluster. Each voter is one more fsync that a commit may wait for.
pub const MAX_NODES: usize = 99;

/// In the order in which they are rendered: keys outside of sections first.
pub const KEYS: &[Key] = &[
    required("cluster_id", Kind::Uuid, "the cluster; the same on every node"),
    required("node_id", NODE_ID, "this replica; unique, never used again after its disk was lost"),
    required("data_dir", Kind::Path, "everything this node stores"),
    optional("groups", number(1, 1024, ""), "Raft groups; fixed when the cluster is created"),
    optional("threads", number(0, 1024, ""), "threads that serve clients; 0: one for two cores"),
    required("nodes", Kind::Nodes, "the first membership: every node, the same list everywhere"),
    required("listen.client", Kind::Listen, "gRPC for clients and operators"),
    required("listen.peer", Kind::Listen, "gRPC between nodes"),
    required("listen.http", Kind::Listen, "metrics and probes"),
    optional("listen.advertise_client", Kind::Address, "where clients reach listen.client"),
    optional("listen.advertise_peer", Kind::Address, "where peers reach listen.peer"),
    // Below 10 ms a heartbeat is due before the previous one is on a slow disk.
    optional("raft.heartbeat_ms", number(10, 60_000, "ms"), "a leader speaks this often"),
    optional("raft.election_min_ms", number(30, 600_000, "ms"), "shortest wait, behind the lease"),
    optional("raft.election_max_ms", number(31, 600_000, "ms"), "longest such wait; the lease"),
    // A segment holds at least one entry of the largest size (8 MiB) and its frames.
    optional("log.segment_mb", number(16, 1024, "MiB"), "size of a file of the Raft log"),
    optional("log.cache_mb", number(1, 1_048_576, "MiB"), "recent entries in memory"),
    optional(
        "log.durability",
        Kind::Choice(&["auto", "direct", "fdatasync"]),
        "how a write becomes durable",
    ),
    optional("log.retain_mb", number(1, 1_048_576, "MiB"), "log kept for slow followers"),
    optional("state.memtable_mb", number(1, 4096, "MiB"), "writes in memory, each group"),
    optional("state.block_cache_mb", number(1, 1_048_576, "MiB"), "cache of read blocks"),
    optional(
        "state.compression",
        Kind::Choice(&["none", "lz4", "zstd"]),
        "compression of stored data",
    ),
    optional("state.flush_interval_s", number(1, 3600, "s"), "state is flushed this often"),
    optional(
        "state.compare_interval_s",
        number(0, 86_400, "s"),
        "replicas are compared this often; 0: never",
    ),
    optional("limits.inflight_mb", number(5, 65_536, "MiB"), "appends admitted, not yet answered"),
    optional(
        "limits.inflight_appends",
        number(1, 1_000_000, ""),
        "appends of one call each that are being served",
    ),
    // The largest batch (4 MiB) and its frame have to fit.
    optional("limits.max_request_mb", number(5, 64, "MiB"), "largest request"),
    optional(
        "limits.streams_per_connection",
        number(1, 1_000_000, ""),
        "requests and streams on one client connection",
    ),
    optional(
        "reads.floor",
        Kind::Choice(&["eventual", "bounded", "linearizable"]),
        "the level that no read goes below",
    ),
    optional(
        "reads.floor_staleness_ms",
        number(0, 86_400_000, "ms"),
        "its bound, if it is bounded",
    ),
    // As long as what is remembered of it.
    optional("reads.probation_s", number(0, 60, "s"), "time to keep within the bound of /replica"),
    optional("reads.cache_mb", number(0, 1_048_576, "MiB"), "recently applied batches for tails"),
    optional("log_output.format", Kind::Choice(&["text", "json"]), "how log lines look"),
    optional("log_output.level", Kind::LogLevel, "what is logged"),
];

/// Keys of one entry of `nodes`, all required.
pub const NODE_KEYS: &[(&str, Kind)] =
    &[("id", NODE_ID), ("peer", Kind::Address), ("client", Kind::Address)];

const NODE_ID: Kind = number(1, MAX_NODE_ID, "");

/// The key of that path.
#[must_use]
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// True if there are keys `name.…`.
#[must_use]
pub fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.section() == Some(name))
}

/// The key somebody meant by `path`: the nearest one, or one that is in another section.
#[must_use]
pub fn nearest(path: &str) -> Option<&'static str> {
    let sections = KEYS.iter().filter_map(Key::section);
    nearest_of(path, KEYS.iter().map(|key| key.path).chain(sections)).or_else(|| {
        let name = path.rsplit('.').next()?;
        let by_name = |wanted: &str| KEYS.iter().find(|key| key.name() == wanted);
        by_name(name)
            .or_else(|| by_name(nearest_of(name, KEYS.iter().map(Key::name))?))
            .map(|key| key.path)
    })
}

/// The candidate that is one letter, or a third of its letters, away, if any.
pub(super) fn nearest_of<'a>(
    given: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let given = given.to_lowercase().replace('-', "_");
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&given, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

impl Key {
    /// Its section.
    #[must_use]
    pub fn section(&self) -> Option<&'static str> {
        self.path.split_once('.').map(|(section, _)| section)
    }

    /// Its name inside its section.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        super::ENVIRONMENT_PREFIX.to_owned() + &self.path.replace('.', "_").to_uppercase()
    }
}
