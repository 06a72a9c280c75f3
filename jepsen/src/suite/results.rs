//! The verdict on a run: the checkers' report, what the servers owe beside it, and whether the run
//! was worth anything.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use super::{
    coverage,
    sides::{self, Sides},
    timeline::Mark,
};
pub use super::{
    coverage::{Coverage, Done},
    lines::{around, line},
};
use crate::nemesis::fault::Kind;
use quorate_jepsen_core::{
    check::{Report, Verdict, check},
    history::History,
    ids::{Moment, Node, OpId},
};

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
        let coverage = Coverage { sides, ..coverage::of(history, marks) };
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
        let mut gaps = coverage::gaps(&coverage, marks);
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

/// The first that is shown is the first that happened: the rest often follows from it.
fn earliest_first(report: &mut Report, history: &History) {
    let called: HashMap<OpId, Moment> = history.ops.iter().map(|op| (op.id, op.invoked)).collect();
    report.anomalies.sort_by_cached_key(|anomaly| {
        anomaly.ops.iter().filter_map(|id| called.get(id).copied()).max()
    });
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
