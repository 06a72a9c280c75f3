//! The kinds of errors, which are those of the wire.

use quorate_proto::v1 as wire;

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// What was wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])+ $name,)+
        }

        impl ErrorKind {
            /// The kind's name on the wire, without its prefix, e.g. `NOT_LEADER`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            pub(super) fn from_wire(kind: wire::ErrorKind) -> Option<Self> {
                match kind {
                    wire::ErrorKind::Unspecified => None,
                    $(wire::ErrorKind::$name => Some(Self::$name),)+
                }
            }
        }
    };
}

kinds! {
    /// The request is malformed or over a limit; [`super::Error::limit`] names it.
    Invalid = "INVALID",
    /// No log has this name.
    LogNotFound = "LOG_NOT_FOUND",
    /// The name is taken.
    LogExists = "LOG_EXISTS",
    /// The name now belongs to another log: it was deleted and created again.
    LogRecreated = "LOG_RECREATED",
    /// The expected offset is not the log's next one; [`super::Error::next_offset`] says what is.
    OffsetMismatch = "OFFSET_MISMATCH",
    /// A lower writer epoch than the log's, or none on a fenced log.
    Fenced = "FENCED",
    /// A higher writer epoch than was ever granted, or an epoch on a log that was never fenced.
    EpochNotGranted = "EPOCH_NOT_GRANTED",
    /// The sequence is ahead of the next one expected ([`super::Error::next_sequence`]).
    SequenceGap = "SEQUENCE_GAP",
    /// Was appended, but so long ago that the offsets are forgotten. [`super::Error::next_sequence`] is
    /// the first sequence that was not appended yet.
    SequenceStale = "SEQUENCE_STALE",
    /// The same sequence was appended with other bytes.
    SequenceReused = "SEQUENCE_REUSED",
    /// A sequence above 0 of a producer that the log does not know (never seen, or expired).
    ProducerUnknown = "PRODUCER_UNKNOWN",
    /// The log remembers as many producers as it can.
    TooManyProducers = "TOO_MANY_PRODUCERS",
    /// Below the trim point ([`super::Error::start_offset`]).
    Trimmed = "TRIMMED",
    /// Beyond the end ([`super::Error::next_offset`]).
    OutOfRange = "OUT_OF_RANGE",
    /// The parts of an atomic append live in different groups.
    CrossGroup = "CROSS_GROUP",
    /// The node is not the leader; [`super::Error::leader`] says who is, if known.
    NotLeader = "NOT_LEADER",
    /// No quorum or no node could be reached, or the answer was lost.
    Unavailable = "UNAVAILABLE",
    /// Over a bound on memory or on requests in flight.
    ResourceExhausted = "RESOURCE_EXHAUSTED",
    /// The asked staleness bound can't be met; [`super::Error::age`] is what could be offered.
    TooStale = "TOO_STALE",
    /// A position token of another cluster, log incarnation or lost history, or a malformed one.
    BadPosition = "BAD_POSITION",
    /// The deadline came first.
    Deadline = "DEADLINE",
    /// The node is stopping or has taken itself out of service.
    ShuttingDown = "SHUTTING_DOWN",
    /// Damaged data was found, by a node or by this client, and is not handed out.
    Corrupt = "CORRUPT",
    /// The node, or this version of it, does not offer what was asked.
    Unsupported = "UNSUPPORTED",
    /// A fault inside a node or this client.
    Internal = "INTERNAL",
}
