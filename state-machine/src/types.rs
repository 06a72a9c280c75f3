//! Newtypes of the domain. No bare `u64` crosses a public function.

use std::{borrow::Borrow, fmt, sync::Arc};

use bytes::Bytes;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One Raft group of the cluster, numbered from 0.
    GroupId(u32)
}
number! {
    /// Number of an entry in the Raft log of a group.
    LogIndex(u64)
}
number! {
    /// Raft term.
    Term(u64)
}
number! {
    /// Dense number of a record inside one log, from 0.
    Offset(u64)
}
number! {
    /// Which of the logs that ever carried a name: unique in its group for ever.
    Incarnation(u64)
}
number! {
    /// Fencing token of a log's writer.
    WriterEpoch(u64)
}
number! {
    /// A producer's batch number, from 0.
    Sequence(u64)
}
number! {
    /// Milliseconds since the Unix epoch, stamped by the leader, carried in the Raft entry.
    TimestampMs(u64)
}

/// A producer's identity: 16 random bytes chosen by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub [u8; 16]);

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A validated log name (see [`crate::limits`]).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName(Arc<str>);

impl LogName {
    /// Checks `name` against the rules for log names.
    ///
    /// # Errors
    /// [`crate::limits::LimitExceeded`], naming the rule that was broken.
    pub fn new(name: &str) -> Result<Self, crate::limits::LimitExceeded> {
        crate::limits::check_log_name(name)?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As a string, because refusals quote names to people.
impl fmt::Debug for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Lets maps keyed by name be asked with a name that is still part of a message. Order and hash of
/// `Arc<str>` are those of `str`, as `Borrow` demands.
impl Borrow<str> for LogName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A rolling xxh3-128 digest: equal histories give equal digests, on every replica and version.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// The bytes, for the wire.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A validated, serialized `RecordBatch`, exactly as the producer encoded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The protobuf bytes.
    pub bytes: Bytes,
    /// Number of records in `bytes`, at least 1.
    pub count: u32,
    /// CRC32C of `bytes`.
    pub crc32c: u32,
}

/// Where an entry stands in the Raft log of its group.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct LogPoint {
    /// Term of the entry.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
}

/// How fresh an answer must be, as a log's default says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadLevel {
    /// Everything acknowledged before the read was sent.
    Linearizable,
    /// Everything acknowledged more than this before the read was sent.
    Bounded {
        /// The bound.
        max_staleness_ms: u64,
    },
    /// What the asked replica has applied.
    Eventual,
}
