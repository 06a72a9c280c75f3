//! The checkers: one property a file, every anomaly with a name, and the verdict.
//!
//! Read [`placed`] first: it turns the replicas' final logs into an index from record to offset,
//! which all others lean on.

mod appends;
mod claims;
mod expected;
mod fencing;
mod kind;
mod layout;
mod lives;
mod order;
mod placed;
mod producers;
mod property;
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
pub use kind::Kind;
use lives::Lives;
pub use placed::FinalLog;
pub use property::{PROPERTIES, claim};

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
