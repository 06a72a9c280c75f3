//! Fewer faults that still break the same property: the schedule of a failing run, cut down.

use crate::{
    run::{self, Outcome, Plan},
    schedule::Planned,
};

/// A failing run with as few faults as were found to be enough.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// Places in the drawn schedule of the faults that stay.
    pub keep: Vec<usize>,
    /// The run with these.
    pub outcome: Outcome,
    /// Runs that it took.
    pub runs: usize,
}

/// The faults at these places.
#[must_use]
pub fn pick(schedule: &[Planned], keep: &[usize]) -> Vec<Planned> {
    keep.iter().filter_map(|at| schedule.get(*at).cloned()).collect()
}

/// Cuts down the schedule of `failed`, which is how `plan` went, in at most `budget` runs: first
/// large pieces, then smaller ones (Zeller's ddmin, complements only).
#[must_use]
pub fn shrink(plan: &Plan, failed: &Outcome, budget: usize) -> Shrunk {
    let schedule = failed.schedule.clone();
    let property = failed.violations.first().map(|v| v.property.clone()).unwrap_or_default();
    let mut best = Shrunk { keep: (0..schedule.len()).collect(), outcome: failed.clone(), runs: 0 };
    let mut piece = schedule.len().div_ceil(2).max(1);
    loop {
        let mut cut = false;
        let mut at = 0;
        while at < best.keep.len() && best.runs < budget {
            let mut fewer = best.keep.clone();
            fewer.drain(at..(at + piece).min(fewer.len()));
            let plan = Plan { schedule: Some(pick(&schedule, &fewer)), ..plan.clone() };
            let outcome = run::run(&plan);
            best.runs += 1;
            if outcome.violations.iter().any(|v| v.property == property) {
                (best.keep, best.outcome, cut) = (fewer, outcome, true);
            } else {
                at += piece;
            }
        }
        if best.runs >= budget || (piece == 1 && !cut) {
            return best;
        }
        piece = piece.div_ceil(2).max(1);
    }
}
