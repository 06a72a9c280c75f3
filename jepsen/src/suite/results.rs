//! The verdict on a run: the checkers' report, what the servers owe beside it, and whether the run
//! was worth anything.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    fmt::Write as _,
};

use quorate_jepsen_core::{
    check::{Report, Verdict, check},
    history::History,
    ids::{Moment, Node, OpId},
    op::{Answer, Call, Op},
};
use serde::Serialize;

use super::{
    sides::{self, Sides},
    timeline::{FaultMark, Mark},
};
use crate::nemesis::fault::Kind;

/// Operations shown on either side of a counterexample.
const AROUND: usize = 20;

/// Acknowledged appends without which a run shows nothing.
const ENOUGH: usize = 50;

/// A leader out of reach for longer is replaced, whatever the machine.
const LONG_ENOUGH_NS: u64 = 4_000_000_000;

/// What one kind of faults came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// How often it was installed.
    pub times: usize,
    /// How often it was seen to do something.
    pub effective: usize,
    /// How often the leader was among those hit.
    pub leaders: usize,
    /// How often only followers were hit.
    pub followers: usize,
}

/// What was covered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// By kind of fault.
    pub faults: BTreeMap<Kind, Done>,
    /// Times at which another node, or the same in another term, was first seen to lead.
    pub leader_changes: usize,
    /// Appends acknowledged.
    pub ok: usize,
    /// Operations whose fate the client never learned.
    pub open: usize,
    /// Appends refused for a lower epoch.
    pub fenced: usize,
    /// Reads refused because what they demanded could not be had.
    pub too_stale: usize,
    /// From the end of each fault to the next acknowledged append, milliseconds; absent: none came.
    pub resumed_ms: Vec<Option<u64>>,
    /// The longest time without an acknowledged append, milliseconds.
    pub longest_gap_ms: u64,
    /// What nodes said that were cut off from the majority.
    pub sides: Sides,
}

/// All of it.
#[derive(Debug)]
pub struct Results {
    /// What the checkers say.
    pub report: Report,
    /// What the servers owe beside it.
    pub failures: Vec<String>,
    /// What was covered.
    pub coverage: Coverage,
    /// What was not, and should have been.
    pub gaps: Vec<String>,
}

impl Results {
    /// Judges a run.
    #[must_use]
    pub fn of(history: &History, marks: &[Mark], recovery_limit_ms: u64) -> Self {
        let mut report = check(history);
        earliest_first(&mut report, history);
        let (sides, wrong) = sides::look(history, marks);
        let coverage = Coverage { sides, ..coverage(history, marks) };
        let mut failures: Vec<String> = marks
            .iter()
            .filter_map(|mark| match mark {
                Mark::Failure { what, .. } => Some(what.clone()),
                _ => None,
            })
            .collect();
        for (number, resumed) in coverage.resumed_ms.iter().enumerate() {
            match resumed {
                Some(ms) if *ms <= recovery_limit_ms => {}
                Some(ms) => failures.push(format!(
                    "after fault {number} was healed, no append was acknowledged for {ms} ms \
                     ({recovery_limit_ms} allowed)"
                )),
                None => failures
                    .push(format!("after fault {number} was healed, no append was acknowledged")),
            }
        }
        failures.extend(wrong);
        failures.extend(two_leaders(marks));
        let mut gaps = gaps(&coverage, marks);
        if coverage.faults.contains_key(&Kind::Aside) && !sides::seen(&history.asked, &sides) {
            gaps.push("too few reads were sent to nodes that were cut off".to_owned());
        }
        Self { report, failures, coverage, gaps }
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.report.verdict() {
            Verdict::Invalid => Verdict::Invalid,
            _ if !self.failures.is_empty() => Verdict::Invalid,
            Verdict::Unknown => Verdict::Unknown,
            Verdict::Valid if self.gaps.is_empty() => Verdict::Valid,
            Verdict::Valid => Verdict::Unknown,
        }
    }

    /// For `results.json`.
    #[must_use]
    pub fn json(&self, history: &History) -> serde_json::Value {
        let anomalies: Vec<_> = self
            .report
            .kinds()
            .into_iter()
            .filter_map(|(kind, count)| {
                let first = self.report.anomalies.iter().find(|anomaly| anomaly.kind == kind)?;
                Some(serde_json::json!({
                    "anomaly": kind.name(),
                    "count": count,
                    "first": first.to_string(),
                    "operations": first.ops.iter().map(|op| op.0).collect::<Vec<_>>(),
                    "around": around(history, &first.log, &first.ops),
                }))
            })
            .collect();
        serde_json::json!({
            "verdict": name(self.verdict()),
            "name": history.name,
            "seed": history.seed,
            "anomalies": anomalies,
            "failures": self.failures,
            "cannot-be-judged": self.report.missing,
            "coverage": self.coverage,
            "coverage-gaps": self.gaps,
            "records": {
                "acknowledged": self.report.counts.acknowledged,
                "refused": self.report.counts.refused,
                "unknown": self.report.counts.unknown,
                "unknown-stored": self.report.counts.unknown_present,
                "stored": self.report.counts.stored,
            },
        })
    }
}

/// A verdict as people write it.
#[must_use]
pub fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Invalid => "INVALID",
        Verdict::Unknown => "unknown",
    }
}

/// The operations on the log before and after each of `ops`, as lines, theirs marked.
#[must_use]
pub fn around(history: &History, log: &str, ops: &[OpId]) -> Vec<String> {
    let on_log: Vec<&Op> = history.ops.iter().filter(|op| op.call.log() == log).collect();
    let mut lines: Vec<String> = Vec::new();
    let mut shown = 0;
    // Those involved may be far from each other: what is between them is left out.
    for (at, _) in on_log.iter().enumerate().filter(|(_, op)| ops.contains(&op.id)) {
        let (from, to) =
            (at.saturating_sub(AROUND).max(shown), (at + AROUND + 1).min(on_log.len()));
        if from > shown && shown > 0 {
            lines.push(format!("   ... {} operations", from - shown));
        }
        lines.extend(
            on_log[from.min(to)..to].iter().map(|op| {
                format!("{} {}", if ops.contains(&op.id) { "->" } else { "  " }, line(op))
            }),
        );
        shown = shown.max(to);
    }
    lines
}

/// One operation as a line for people.
#[must_use]
pub fn line(op: &Op) -> String {
    let seconds = |at: Moment| at.0 as f64 / 1e9;
    let returned = op.returned.map_or("      ...".to_owned(), |at| format!("{:9.4}", seconds(at)));
    let mut text =
        format!("{:9.4} {returned} s  op {:<6} p{:<3} ", seconds(op.invoked), op.id.0, op.process);
    let done = match &op.call {
        Call::Append(append) => {
            let ids: Vec<_> = append.records.iter().map(|id| id.0.to_string()).collect();
            let mut call = format!("append {} [{}]", append.log, ids.join(" "));
            if let Some(offset) = append.expected_offset {
                write!(call, " expecting {offset}").expect("a String takes everything");
            }
            if let Some(epoch) = append.writer_epoch {
                write!(call, " epoch {epoch}").expect("a String takes everything");
            }
            if let Some(producer) = &append.producer {
                write!(call, " by {producer}").expect("a String takes everything");
            }
            call
        }
        Call::Create { log } => format!("create {log}"),
        Call::Delete { log } => format!("delete {log}"),
        Call::Fence { log } => format!("fence {log}"),
        Call::Trim { log, before } => format!("trim {log} up to {before}"),
        Call::Read { log, from, .. } => format!("read {log} from {from}"),
    };
    let came = match &op.answer {
        Answer::Appended { first_offset, next_offset, deduplicated, .. } => {
            let again = if *deduplicated { ", seen before" } else { "" };
            format!("ok {first_offset}..{next_offset}{again}")
        }
        Answer::Created { created, next_offset, .. } => {
            format!("ok {} end {next_offset}", if *created { "created" } else { "was there" })
        }
        Answer::Deleted { .. } => "ok deleted".to_owned(),
        Answer::Fenced { epoch, next_offset, .. } => format!("ok epoch {epoch} at {next_offset}"),
        Answer::Trimmed { start, .. } => format!("ok begins at {start}"),
        Answer::Read { batches, next_offset, .. } => {
            format!("ok {} batches, end {next_offset}", batches.len())
        }
        Answer::Refused { kind, .. } => format!("refused {kind}"),
        Answer::AppliedUnplaced { kind } => format!("applied {kind}"),
        Answer::Unknown { kind } => format!("unknown {kind}"),
    };
    text += &format!("{done}  =>  {came}");
    text
}

/// The first that is shown is the first that happened: the rest often follows from it.
fn earliest_first(report: &mut Report, history: &History) {
    let called: HashMap<OpId, Moment> = history.ops.iter().map(|op| (op.id, op.invoked)).collect();
    report.anomalies.sort_by_cached_key(|anomaly| {
        anomaly.ops.iter().filter_map(|id| called.get(id).copied()).max()
    });
}

fn faults(marks: &[Mark]) -> impl Iterator<Item = &FaultMark> {
    marks.iter().filter_map(|mark| match mark {
        Mark::Fault(fault) => Some(fault),
        _ => None,
    })
}

fn coverage(history: &History, marks: &[Mark]) -> Coverage {
    let mut coverage = Coverage::default();
    for fault in faults(marks) {
        let done = coverage.faults.entry(fault.kind).or_default();
        done.times += 1;
        done.effective += usize::from(fault.count > 0);
        if fault.hit_leader {
            done.leaders += 1;
        } else {
            done.followers += 1;
        }
    }
    let mut leader = None;
    for mark in marks {
        let Mark::Sample { nodes, .. } = mark else { continue };
        // Of several that say so, the one of the highest term is right.
        let now = nodes.iter().filter(|node| node.leads).max_by_key(|node| node.term);
        let now = now.map(|node| (node.node, node.term));
        if now.is_some() && now != leader {
            coverage.leader_changes += usize::from(leader.is_some());
            leader = now;
        }
    }
    let mut acknowledged = Vec::new();
    for op in &history.ops {
        match (&op.call, &op.answer) {
            (Call::Append(_), Answer::Appended { .. }) => {
                coverage.ok += 1;
                acknowledged.extend(op.returned);
            }
            (Call::Read { .. }, Answer::Unknown { .. }) => {}
            (_, Answer::Unknown { .. }) => coverage.open += 1,
            (_, Answer::Refused { kind, .. }) if kind == "FENCED" => coverage.fenced += 1,
            (_, Answer::Refused { kind, .. }) if kind == "TOO_STALE" => coverage.too_stale += 1,
            _ => {}
        }
    }
    acknowledged.sort_unstable();
    let gaps = acknowledged.windows(2).map(|pair| pair[1].0 - pair[0].0);
    coverage.longest_gap_ms = gaps.max().unwrap_or_default() / 1_000_000;
    coverage.resumed_ms = faults(marks)
        .map(|fault| {
            let next = acknowledged.partition_point(|at| *at < fault.to);
            acknowledged.get(next).map(|at| (at.0 - fault.to.0) / 1_000_000)
        })
        .collect();
    coverage
}

/// The name of a failure: more than one node said that it led a term (P12).
pub const TWO_LEADERS: &str = "two-leaders";

/// A term has one leader, whenever its nodes are asked.
fn two_leaders(marks: &[Mark]) -> Vec<String> {
    let mut led: BTreeMap<u64, BTreeSet<Node>> = BTreeMap::new();
    for mark in marks {
        let Mark::Sample { nodes, .. } = mark else { continue };
        for node in nodes.iter().filter(|node| node.leads) {
            led.entry(node.term).or_default().insert(node.node);
        }
    }
    let several = led.into_iter().filter(|(_, nodes)| nodes.len() > 1);
    let told = several.map(|(term, nodes)| {
        let names: Vec<_> = nodes.iter().map(|node| format!("n{node}")).collect();
        format!("{TWO_LEADERS} of term {term}: {} led it, and a term has one", names.join(", "))
    });
    told.collect()
}

/// Property 16: what a run must have seen to mean anything.
fn gaps(coverage: &Coverage, marks: &[Mark]) -> Vec<String> {
    let mut gaps = Vec::new();
    if coverage.ok < ENOUGH {
        gaps.push(format!("only {} appends were acknowledged", coverage.ok));
    }
    for (kind, done) in &coverage.faults {
        if done.effective == 0 {
            gaps.push(format!("{kind} was installed {} times and never did anything", done.times));
        }
    }
    let took_leader = faults(marks).any(|fault| {
        fault.hit_leader
            && matches!(fault.kind, Kind::Kill | Kind::Pause | Kind::KillAll | Kind::PowerAll)
            && fault.to.0 - fault.from.0 > LONG_ENOUGH_NS
    });
    if took_leader && coverage.leader_changes == 0 {
        gaps.push("the leader was taken away and no other was seen".to_owned());
    }
    if took_leader && coverage.open == 0 {
        gaps.push("no answer was ever lost, though the leader was taken away".to_owned());
    }
    gaps
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.coverage;
        writeln!(
            f,
            "{:<16} {:>6} {:>10} {:>8} {:>10}",
            "fault", "times", "effective", "leader", "followers"
        )?;
        for (kind, done) in &c.faults {
            writeln!(
                f,
                "{:<16} {:>6} {:>10} {:>8} {:>10}",
                kind.name(),
                done.times,
                done.effective,
                done.leaders,
                done.followers
            )?;
        }
        let resumed = c.resumed_ms.iter().flatten().max();
        writeln!(
            f,
            "{} leader changes, {} operations left open, {} fenced off, {} reads refused as too \
             stale\nlongest time without an acknowledgement {} ms, after the end of a fault {} ms",
            c.leader_changes,
            c.open,
            c.fenced,
            c.too_stale,
            c.longest_gap_ms,
            resumed.map_or("-".to_owned(), u64::to_string)
        )?;
        if c.sides != Sides::default() {
            let s = &c.sides;
            writeln!(
                f,
                "nodes cut off from the majority were sent {} linearizable reads, and {} bounded \
                 ones, of which they answered {} from what they had proven before",
                s.linearizable, s.bounded, s.bounded_answered
            )?;
        }
        write!(f, "{}", self.report)?;
        for failure in &self.failures {
            writeln!(f, "  failed: {failure}")?;
        }
        for gap in &self.gaps {
            writeln!(f, "  not covered: {gap}")?;
        }
        writeln!(f, "verdict: {}", name(self.verdict()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::timeline::NodeSample;

    fn sample(leaders: &[(u64, u64)]) -> Mark {
        let node = |(node, term): &(u64, u64)| NodeSample {
            node: Node(*node),
            leads: true,
            term: *term,
            committed: 0,
            applied: 0,
            age_ms: None,
        };
        Mark::Sample { at: Moment(0), nodes: leaders.iter().map(node).collect() }
    }

    #[test]
    fn a_term_has_one_leader_and_a_moment_may_have_two() {
        // An old leader that does not know yet is none of this.
        let sound = [sample(&[(1, 1)]), sample(&[(1, 1), (2, 2)]), sample(&[(2, 2)])];
        assert_eq!(two_leaders(&sound), Vec::<String>::new());
        let found = two_leaders(&[&sound[..], &[sample(&[(3, 2)])]].concat());
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("two-leaders of term 2: n2, n3"), "{found:?}");
    }
}
