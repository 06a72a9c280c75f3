//! Positions never go back: not along a log, not from an answer to a later call's answer, and a
//! log index has one term for ever (G3, G6).

use std::collections::BTreeMap;

use super::{Findings, Kind, lives::Lives};
use crate::{
    history::History,
    ids::{Incarnation, Moment, Offset, OpId, Stamp},
    op::{Answer, Call, Op},
};

pub(super) fn check(history: &History, lives: &Lives, found: &mut Findings) {
    let mut groups: BTreeMap<u32, Vec<(&Op, Stamp)>> = BTreeMap::new();
    for op in &history.ops {
        if let Some(stamp) = op.answer.stamp() {
            groups.entry(stamp.group).or_default().push((op, stamp));
        }
    }
    for stamped in groups.values_mut() {
        stamped.sort_by_key(|(op, stamp)| (stamp.log_index, op.invoked, op.id));
        one_term_an_index(stamped, found);
        real_time(stamped, found);
        along_logs(stamped, lives, found);
    }
}

fn one_term_an_index(stamped: &[(&Op, Stamp)], found: &mut Findings) {
    for pair in stamped.windows(2) {
        let ((a, x), (b, y)) = (pair[0], pair[1]);
        if y.term < x.term || (x.log_index == y.log_index && x.term != y.term) {
            let what = format!(
                "index {} of term {}, index {} of term {}",
                x.log_index, x.term, y.log_index, y.term
            );
            found.add(Kind::TermRewritten, a.call.log(), &[a.id, b.id], what);
        }
    }
}

/// Answers that must be of the state at or behind everything answered before the call.
fn ordered(op: &Op) -> bool {
    !matches!(op.call, Call::Read { linearizable: false, .. })
}

/// From the highest index down, keeping the earliest answer of a higher index.
fn real_time(stamped: &[(&Op, Stamp)], found: &mut Findings) {
    let mut earliest: Option<(Moment, OpId, Stamp)> = None;
    let mut pending: Option<(Moment, OpId, Stamp)> = None;
    for (op, stamp) in stamped.iter().rev() {
        // Equal indexes do not order each other: one entry carries many answers.
        if let Some(seen) = pending
            && seen.2.log_index > stamp.log_index
        {
            if earliest.is_none_or(|(at, ..)| seen.0 < at) {
                earliest = Some(seen);
            }
            pending = None;
        }
        if let Some((returned, other, higher)) = earliest
            && ordered(op)
            && returned < op.invoked
        {
            let what = format!(
                "answered from log index {}, though called after an answer from log index {}",
                stamp.log_index, higher.log_index
            );
            found.add(Kind::PositionBackwards, op.call.log(), &[other, op.id], what);
        }
        if let Some(returned) = op.returned
            && pending.is_none_or(|(at, ..)| returned < at)
        {
            pending = Some((returned, op.id, *stamp));
        }
    }
}

fn along_logs(stamped: &[(&Op, Stamp)], lives: &Lives, found: &mut Findings) {
    let mut logs: BTreeMap<(&str, Option<Incarnation>), Vec<(Offset, u64, OpId)>> = BTreeMap::new();
    for (op, stamp) in stamped {
        if let Answer::Appended { first_offset, deduplicated: false, .. } = &op.answer {
            let log = logs.entry((op.call.log(), lives.answered(op))).or_default();
            log.push((*first_offset, stamp.log_index, op.id));
        }
    }
    for ((log, _), mut appends) in logs {
        appends.sort_unstable();
        for pair in appends.windows(2) {
            let ((a, x, first), (b, y, second)) = (pair[0], pair[1]);
            if y < x {
                let what = format!("offset {a} at index {x}, offset {b} at index {y}");
                found.add(Kind::PositionBackwards, log, &[first, second], what);
            }
        }
    }
}
