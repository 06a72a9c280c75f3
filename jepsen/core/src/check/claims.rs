//! A read with a bound, and one that states its age, shows everything acknowledged that long before
//! (G7); a read after a position shows what was there at that position (G8).
//!
//! A read is right iff it has every append whose answer came before (its call − the bound). That is
//! equivalent to the claim, not an approximation of it.

use std::collections::BTreeMap;

use super::{Findings, Kind, lives::Lives, reads};
use crate::{
    history::History,
    ids::{Moment, OpId},
    op::{Answer, Op},
};

/// Clocks count whole milliseconds: one at each end.
const GRAIN_MS: u64 = 2;

/// The moment before which everything acknowledged must be shown. A node whose clock is slow takes
/// more time for less.
fn before(from: Moment, ms: u64, error_ppm: u64) -> Moment {
    let late = ms.saturating_mul(error_ppm) / 1_000_000u64.saturating_sub(error_ppm).max(1);
    let ms = ms.saturating_add(GRAIN_MS).saturating_add(late);
    Moment(from.0.saturating_sub(ms.saturating_mul(1_000_000)))
}

pub(super) fn check(history: &History, lives: &Lives, found: &mut Findings) {
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
                "n{} showed the offsets before {next_offset} to a client that had seen all before \
                 {position} and demanded that",
                claim.node
            );
            found.add(Kind::SessionBroken, log, &[op.id], what);
        }
        // Whichever demands more. The answer's age is as of when it was given, which was after the
        // call.
        let bound = claim.bound_ms.map(|ms| (op.invoked, ms));
        let age = claim.age_ms.map(|ms| (claim.served.unwrap_or(op.invoked), ms));
        let since = |(from, ms)| before(from, ms, history.clock_error_ppm);
        let Some((from, ms)) = bound.into_iter().chain(age).max_by_key(|told| since(*told)) else {
            continue;
        };
        let incarnation = lives.answered(op);
        let ends = ends.entry((log, incarnation)).or_insert_with(|| {
            let on_log: Vec<_> = lives.ops(history, log, incarnation).collect();
            reads::acknowledged_ends(&on_log)
        });
        if let Some(later) = lives.replaced_before(op, since((from, ms))) {
            let what = format!(
                "n{} showed a log that another had replaced, which must lack nothing older than \
                 {ms} ms",
                claim.node
            );
            found.add(Kind::StaleBeyondBound, log, &[op.id, later], what);
        }
        let before = ends.partition_point(|(returned, ..)| *returned < since((from, ms)));
        if let Some((at, end, ack)) = before.checked_sub(1).map(|at| ends[at])
            && end > *next_offset
        {
            let what = format!(
                "n{} showed the offsets before {next_offset}, and must lack nothing older than \
                 {ms} ms; all before {end} had been acknowledged {} ms before the read was sent",
                claim.node,
                (from.0 - at.0) / 1_000_000
            );
            found.add(Kind::StaleBeyondBound, log, &[op.id, ack], what);
        }
    }
}
