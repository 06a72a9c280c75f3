//! What a run covered: which faults did something, what clients got meanwhile, how soon service was
//! back. A run that covered too little is no pass.

use std::collections::BTreeMap;

use quorate_jepsen_core::{
    history::History,
    op::{Answer, Call},
};
use serde::Serialize;

use super::{
    sides::Sides,
    timeline::{self, Mark},
};
use crate::nemesis::fault::Kind;

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

/// Counts all of it, but for what cut-off nodes said.
pub(super) fn of(history: &History, marks: &[Mark]) -> Coverage {
    let mut coverage = Coverage::default();
    for fault in timeline::faults(marks) {
        let done = coverage.faults.entry(fault.kind).or_default();
        done.times += 1;
        done.effective += usize::from(fault.count > 0);
        if fault.hit_leader {
            done.leaders += 1;
        } else {
            done.followers += 1;
        }
    }
    coverage.leader_changes = timeline::leaders(marks).len().saturating_sub(1);
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
    coverage.resumed_ms = timeline::faults(marks)
        .map(|fault| {
            let next = acknowledged.partition_point(|at| *at < fault.to);
            acknowledged.get(next).map(|at| (at.0 - fault.to.0) / 1_000_000)
        })
        .collect();
    coverage
}

/// Property 16: what a run must have seen to mean anything.
pub(super) fn gaps(coverage: &Coverage, marks: &[Mark]) -> Vec<String> {
    let mut gaps = Vec::new();
    if coverage.ok < ENOUGH {
        gaps.push(format!("only {} appends were acknowledged", coverage.ok));
    }
    for (kind, done) in &coverage.faults {
        if done.effective == 0 {
            gaps.push(format!("{kind} was installed {} times and never did anything", done.times));
        }
    }
    let took_leader = timeline::faults(marks).any(|fault| {
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
