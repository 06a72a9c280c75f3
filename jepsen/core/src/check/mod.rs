//! The checkers: one property a file, every anomaly with a name, and the verdict.
//!
//! Read [`placed`] first: it turns the replicas' final logs into an index from record to offset,
//! which all others lean on.

mod appends;
mod claims;
mod expected;
mod fencing;
mod layout;
mod lives;
mod order;
mod placed;
mod producers;
mod reads;
mod replicas;
mod stamps;
mod trims;

use std::{collections::BTreeMap, fmt};

use crate::{
    history::History,
    ids::{Offset, OpId},
    op::{Answer, Call},
};
use lives::Lives;
pub use placed::FinalLog;

macro_rules! anomalies {
    ($(#[doc = $what:literal] $kind:ident = $name:literal,)*) => {
        /// What can be wrong with a history, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $(#[doc = $what] $kind,)* }

        impl Kind {
            /// Every anomaly there is.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name in reports.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$kind => $what,)* }.trim_start()
            }
        }
    };
}

anomalies! {
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Its name.
    pub kind: Kind,
    /// The log.
    pub log: String,
    /// What was found, for people.
    pub what: String,
    /// The operations involved.
    pub ops: Vec<OpId>,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in log {:?}: {}", self.kind, self.log, self.what)?;
        if !self.ops.is_empty() {
            let ops: Vec<_> = self.ops.iter().map(|op| format!("op {op}")).collect();
            write!(f, " ({})", ops.join(", "))?;
        }
        Ok(())
    }
}

/// What a history is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong, and enough was seen to say so.
    Valid,
    /// Something is wrong.
    Invalid,
    /// Too little was seen to judge. Not a pass.
    Unknown,
}

/// How much the history covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records acknowledged.
    pub acknowledged: usize,
    /// Records whose append was refused with effect NONE.
    pub refused: usize,
    /// Records whose append may or may not have taken effect.
    pub unknown: usize,
    /// Of those, the ones that are in the log.
    pub unknown_present: usize,
    /// Records in the final logs.
    pub stored: usize,
    /// Epochs granted.
    pub fences: usize,
    /// Logs deleted.
    pub deleted: usize,
    /// Reads answered.
    pub reads: usize,
}

/// The judgement.
#[derive(Clone, Debug)]
pub struct Report {
    /// Everything found wrong.
    pub anomalies: Vec<Anomaly>,
    /// Why the history cannot be judged, if it cannot.
    pub missing: Vec<String>,
    /// How much it covers.
    pub counts: Counts,
}

impl Report {
    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.anomalies.is_empty() {
            Verdict::Invalid
        } else if !self.missing.is_empty() {
            Verdict::Unknown
        } else {
            Verdict::Valid
        }
    }

    /// Names of the anomalies found, with how often.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<Kind, usize> {
        let mut kinds = BTreeMap::new();
        for anomaly in &self.anomalies {
            *kinds.entry(anomaly.kind).or_default() += 1;
        }
        kinds
    }
}

/// Examples of one anomaly that a report prints; the rest is counted.
const EXAMPLES: usize = 5;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        writeln!(
            f,
            "{:?}: {} records acknowledged, {} refused, {} unknown ({} of them stored), {} stored, \
             {} fences, {} reads",
            self.verdict(),
            c.acknowledged,
            c.refused,
            c.unknown,
            c.unknown_present,
            c.stored,
            c.fences,
            c.reads
        )?;
        for missing in &self.missing {
            writeln!(f, "  cannot be judged: {missing}")?;
        }
        for (kind, count) in self.kinds() {
            let examples = self.anomalies.iter().filter(|anomaly| anomaly.kind == kind);
            for anomaly in examples.take(EXAMPLES) {
                writeln!(f, "  {anomaly}")?;
            }
            if count > EXAMPLES {
                writeln!(f, "  ... and {} more of {kind}", count - EXAMPLES)?;
            }
        }
        Ok(())
    }
}

/// Where checkers put what they find.
#[derive(Debug, Default)]
struct Findings(Vec<Anomaly>);

impl Findings {
    fn add(&mut self, kind: Kind, log: &str, ops: &[OpId], what: String) {
        self.0.push(Anomaly { kind, log: log.to_owned(), what, ops: ops.to_vec() });
    }
}

/// Judges a history.
#[must_use]
pub fn check(history: &History) -> Report {
    let mut found = Findings::default();
    let mut missing = replicas::check(history, &mut found);
    let logs = FinalLog::of(history);
    let lives = Lives::of(history);
    for op in &history.ops {
        let log = op.call.log();
        if !logs.contains_key(log) && matches!(op.answer, Answer::Appended { .. }) {
            missing.push(format!("log {log:?} was appended to and never read back"));
        }
    }
    missing.sort();
    missing.dedup();
    for log in logs.values() {
        if lives.has(&log.name) && log.incarnation.is_none() {
            // Gone, so that nothing is left to judge; `lives` judges whether it may be.
            if log.next > Offset(0) {
                missing.push(format!("log {:?} was read back without its incarnation", log.name));
            }
            continue;
        }
        let ops: Vec<_> = lives.ops(history, &log.name, log.incarnation).collect();
        layout::check(log, &mut found);
        appends::check(log, &ops, &mut found);
        producers::check(log, &ops, &mut found);
        fencing::check(log, &ops, &mut found);
        expected::check(log, &ops, &mut found);
        order::check(log, &ops, &mut found);
        reads::check(log, &ops, &mut found);
        trims::check(log, &ops, &mut found);
    }
    lives.check(history, &logs, &mut found);
    stamps::check(history, &lives, &mut found);
    claims::check(history, &lives, &mut found);
    Report { anomalies: found.0, missing, counts: counts(history, &logs) }
}

fn counts(history: &History, logs: &BTreeMap<String, FinalLog>) -> Counts {
    let mut counts = Counts { stored: logs.values().map(FinalLog::len).sum(), ..Counts::default() };
    for op in &history.ops {
        match (&op.call, &op.answer) {
            (Call::Append(append), answer) => {
                let records = append.records.len();
                match answer {
                    Answer::Appended { .. } | Answer::AppliedUnplaced { .. } => {
                        counts.acknowledged += records;
                    }
                    Answer::Refused { .. } => counts.refused += records,
                    _ => {
                        counts.unknown += records;
                        let log = logs.get(&append.log);
                        counts.unknown_present += append
                            .records
                            .iter()
                            .filter(|id| log.is_some_and(|log| log.offset_of(**id).is_some()))
                            .count();
                    }
                }
            }
            (Call::Fence { .. }, Answer::Fenced { .. }) => counts.fences += 1,
            (Call::Delete { .. }, Answer::Deleted { .. }) => counts.deleted += 1,
            (Call::Read { .. }, Answer::Read { .. }) => counts.reads += 1,
            _ => {}
        }
    }
    counts
}
