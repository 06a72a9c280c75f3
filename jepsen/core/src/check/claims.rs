//! A read with a bound, and one that states its age, shows everything acknowledged that long before
//! (G7); a read after a position shows what was there at that position (G8).
//!
//! A read is right iff it has every append whose answer came before (its call − the bound). That is
//! equivalent to the claim, not an approximation of it.

use std::collections::BTreeMap;

use super::{Findings, Kind, reads};
use crate::{
    history::History,
    ids::{Moment, OpId},
    op::{Answer, Op},
};

/// Clocks count whole milliseconds: one at each end.
const GRAIN_MS: u64 = 2;

pub(super) fn check(history: &History, found: &mut Findings) {
    if history.claims.is_empty() {
        return;
    }
    let ops: BTreeMap<OpId, &Op> = history.ops.iter().map(|op| (op.id, op)).collect();
    let mut ends = BTreeMap::new();
    for claim in &history.claims {
        let Some(op) = ops.get(&claim.op) else { continue };
        let Answer::Read { next_offset, .. } = &op.answer else { continue };
        let log = op.call.log();
        if let Some(position) = claim.at_least
            && *next_offset < position
        {
            let what = format!(
                "n{} showed it up to {next_offset} to one that had seen {position}",
                claim.node
            );
            found.add(Kind::SessionBroken, log, &[op.id], what);
        }
        // The smaller of what was demanded and what was promised. The answer's age is as of when it
        // was given, which was after the call.
        let Some(ms) = claim.bound_ms.into_iter().chain(claim.age_ms).min() else { continue };
        let ends = ends.entry(log).or_insert_with(|| {
            let on_log: Vec<_> = history.ops.iter().filter(|op| op.call.log() == log).collect();
            reads::acknowledged_ends(&on_log)
        });
        let since = Moment(op.invoked.0.saturating_sub((ms + GRAIN_MS) * 1_000_000));
        let before = ends.partition_point(|(returned, ..)| *returned < since);
        if let Some((at, end, ack)) = before.checked_sub(1).map(|at| ends[at])
            && end > *next_offset
        {
            let what = format!(
                "n{} showed it up to {next_offset}, lacking nothing older than {ms} ms; up to {end} \
                 was acknowledged {} ms before",
                claim.node,
                (op.invoked.0 - at.0) / 1_000_000
            );
            found.add(Kind::StaleBeyondBound, log, &[op.id, ack], what);
        }
    }
}
