//! Real time: what began after an acknowledgement is behind it in the log (G3).
//!
//! A sweep over the appends from the log's end, keeping the earliest answer seen: an append that
//! was called after that answer belongs behind it. An append without answer never ends.

use super::{FinalLog, Findings, Kind};
use crate::{
    ids::{Moment, Offset},
    op::{Answer, Call, Op},
};

pub(super) fn check(log: &FinalLog, ops: &[&Op], found: &mut Findings) {
    let mut placed: Vec<(Offset, &Op)> = ops
        .iter()
        .filter_map(|op| {
            let Call::Append(append) = &op.call else { return None };
            Some((log.offset_of(*append.records.first()?)?, *op))
        })
        .collect();
    placed.sort_by_key(|(offset, op)| (*offset, op.id));
    let mut earliest: Option<(Moment, Offset, &Op)> = None;
    for (offset, op) in placed.into_iter().rev() {
        if let Some((returned, behind, other)) = earliest
            && returned < op.invoked
        {
            let what = format!("at {offset}, called after the one at {behind} was acknowledged");
            found.add(Kind::RealTimeOrder, &log.name, &[op.id, other.id], what);
        }
        if let (Some(returned), Answer::Appended { .. }) = (op.returned, &op.answer)
            && earliest.is_none_or(|(before, ..)| returned < before)
        {
            earliest = Some((returned, offset, op));
        }
    }
}
