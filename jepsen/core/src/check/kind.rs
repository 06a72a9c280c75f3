//! The anomalies, by name: what each means and which property it breaks.

use crate::named;

named! {
    /// What can be wrong with a history, by name.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Kind {
        /// An acknowledged record is not in the log.
        LostAppend = "lost-append",
        /// An acknowledged record is at another offset than was acknowledged.
        MovedAppend = "moved-append",
        /// A record is in the log more than once.
        DuplicateRecord = "duplicate-record",
        /// A record that nobody appended.
        PhantomRecord = "phantom-record",
        /// Bytes that are no intact record of the test.
        DamagedRecord = "damaged-record",
        /// A record whose append was refused with effect NONE.
        RefusedButPresent = "refused-but-present",
        /// A batch is there in part, in another order, or not in one piece.
        TornBatch = "torn-batch",
        /// An acknowledgement names another number of offsets than records were appended.
        WrongCount = "wrong-count",
        /// Offsets without a record.
        OffsetGap = "offset-gap",
        /// Two records at one offset of one replica.
        OffsetOverlap = "offset-overlap",
        /// Timestamps of a log run backwards.
        TimestampBackwards = "timestamp-backwards",
        /// A producer's records are not in the order in which it sent them.
        ProducerReordered = "producer-reordered",
        /// A record of a producer is missing though a later one is there.
        ProducerHole = "producer-hole",
        /// Stored sequences of a producer do not go up by one.
        SequenceBroken = "sequence-broken",
        /// Two replicas serve different bytes.
        ReplicasDiffer = "replicas-differ",
        /// Two replicas have different digests at one log index.
        DigestsDiffer = "digests-differ",
        /// A record of a lower epoch behind one of a higher.
        StaleEpoch = "stale-epoch",
        /// A record of a lower epoch at or behind the end that a fence had named.
        FencedAppend = "fenced-append",
        /// A record of an epoch before the end that the fence granting it had named.
        EpochBeforeGrant = "epoch-before-grant",
        /// One epoch granted twice.
        EpochGrantedTwice = "epoch-granted-twice",
        /// A fence after a fence was given the lower epoch.
        EpochBackwards = "epoch-backwards",
        /// A record is stored under another epoch than it was appended under.
        WrongEpoch = "wrong-epoch",
        /// An append with an expected offset landed elsewhere.
        ExpectedOffsetIgnored = "expected-offset-ignored",
        /// An append was refused for an expected offset that was right.
        ExpectedOffsetMisjudged = "expected-offset-misjudged",
        /// An append that began after another had been acknowledged is before it in the log.
        RealTimeOrder = "real-time-order",
        /// Positions go back: along a log, or from an answer to a later call's answer.
        PositionBackwards = "position-backwards",
        /// One log index with two terms, or a term below that of an earlier index.
        TermRewritten = "term-rewritten",
        /// A read showed another record at an offset than the final log has.
        ReadRewritten = "read-rewritten",
        /// A read left out offsets it claimed to cover.
        ReadGap = "read-gap",
        /// A log begins before where an acknowledged trim put it.
        TrimUndone = "trim-undone",
        /// A log begins behind all trims.
        TrimUnasked = "trim-unasked",
        /// A linearizable read shows what had been trimmed.
        TrimmedShown = "trimmed-shown",
        /// A new log has the identity of one before it.
        IncarnationReused = "incarnation-reused",
        /// A new log does not begin at offset 0.
        CreatedNotEmpty = "created-not-empty",
        /// A record of one log is in another one that had the name before or has it later.
        DeletedRecordBack = "deleted-record-back",
        /// A log answered after it had been deleted, or after another had its name.
        DeletedLogAnswers = "deleted-log-answers",
        /// By its position, an answer is from before its log was created or after it was deleted.
        IncarnationsMixed = "incarnations-mixed",
        /// A call for one log was answered by another one of that name.
        WrongIncarnation = "wrong-incarnation",
        /// A log was said to be gone, while it was there.
        LogMissing = "log-missing",
        /// A linearizable read lacks something acknowledged before it was sent.
        StaleRead = "stale-read",
        /// A read shows something that was sent only after its answer.
        FutureRead = "future-read",
        /// A read lacks something older than the bound it was asked for, or than the age it stated.
        StaleBeyondBound = "stale-beyond-bound",
        /// A read shows less than its client had seen and demanded.
        SessionBroken = "session-broken",
    }
}

impl Kind {
    /// The property that it breaks, as `jepsen/README.md` numbers them.
    #[must_use]
    pub fn property(self) -> &'static str {
        match self {
            Self::ReplicasDiffer | Self::DigestsDiffer | Self::ReadRewritten => "P1",
            Self::OffsetGap | Self::OffsetOverlap | Self::ReadGap => "P2",
            Self::LostAppend | Self::MovedAppend | Self::TornBatch | Self::WrongCount => "P3",
            Self::DuplicateRecord | Self::SequenceBroken => "P4",
            Self::PhantomRecord | Self::RefusedButPresent => "P5",
            Self::RealTimeOrder
            | Self::StaleRead
            | Self::FutureRead
            | Self::PositionBackwards
            | Self::TimestampBackwards => "P6",
            Self::ExpectedOffsetIgnored | Self::ExpectedOffsetMisjudged => "P7",
            Self::StaleEpoch
            | Self::FencedAppend
            | Self::EpochBeforeGrant
            | Self::EpochGrantedTwice
            | Self::EpochBackwards
            | Self::WrongEpoch => "P8",
            Self::ProducerReordered | Self::ProducerHole => "P9",
            Self::StaleBeyondBound => "P10",
            Self::SessionBroken => "P11",
            Self::TermRewritten => "P12",
            Self::TrimUndone
            | Self::TrimUnasked
            | Self::TrimmedShown
            | Self::IncarnationReused
            | Self::CreatedNotEmpty
            | Self::DeletedRecordBack
            | Self::DeletedLogAnswers
            | Self::IncarnationsMixed
            | Self::WrongIncarnation
            | Self::LogMissing => "P13",
            Self::DamagedRecord => "P14",
        }
    }
}
