//! A log begins where the furthest acknowledged trim put it, or where one did whose answer was lost;
//! nowhere else, and what was before is not shown again.

use super::{FinalLog, Findings, Kind};
use crate::{
    ids::{Moment, Offset, OpId},
    op::{Answer, Call, Op},
};

pub(super) fn check(log: &FinalLog, ops: &[&Op], found: &mut Findings) {
    let mut asked_for = Offset(0);
    // By time of the answer: how far it was known that the log is trimmed.
    let mut known: Vec<(Moment, Offset, OpId)> = Vec::new();
    for op in ops {
        let Call::Trim { before, .. } = &op.call else { continue };
        if !matches!(op.answer, Answer::Refused { .. }) {
            asked_for = asked_for.max(*before);
        }
        let (Answer::Trimmed { start, .. }, Some(returned)) = (&op.answer, op.returned) else {
            continue;
        };
        if start < before || *start > log.start {
            let at = if start < before { start } else { &log.start };
            let what = format!("trimmed up to {before}, and it begins at {at}");
            found.add(Kind::TrimUndone, &log.name, &[op.id], what);
        }
        known.push((returned, *start, op.id));
    }
    if log.start > asked_for {
        let what = format!("it begins at {}, and nobody trimmed behind {asked_for}", log.start);
        found.add(Kind::TrimUnasked, &log.name, &[], what);
    }
    known.sort_unstable();
    for at in 1..known.len() {
        if known[at - 1].1 > known[at].1 {
            (known[at].1, known[at].2) = (known[at - 1].1, known[at - 1].2);
        }
    }
    for op in ops {
        let (Call::Read { linearizable: true, .. }, Answer::Read { batches, .. }) =
            (&op.call, &op.answer)
        else {
            continue;
        };
        let before = known.partition_point(|(returned, ..)| *returned < op.invoked);
        if let Some((_, start, trim)) = before.checked_sub(1).map(|at| known[at])
            && let Some(first) = batches.first().map(|batch| batch.first_offset)
            && first < start
        {
            let what = format!("shows offset {first}, trimmed up to {start} before");
            found.add(Kind::TrimmedShown, &log.name, &[op.id, trim], what);
        }
    }
}
