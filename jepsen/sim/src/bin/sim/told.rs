//! What came out of a run, for people.

use quorate_sim::{
    run::{Outcome, Plan},
    shrink,
};

use crate::args::Shape;

/// The verdict, what broke, and how to see it again.
pub fn report(outcome: &Outcome, shape: &Shape) {
    println!("seed {}: {:?}", outcome.seed, outcome.verdict());
    for violation in &outcome.violations {
        println!("  {violation}");
    }
    for missing in &outcome.missing {
        println!("  cannot be judged: {missing}");
    }
    println!("  again: sim replay {} {}", outcome.seed, shape.arguments().join(" "));
}

/// As few faults as break the same.
pub fn print_shrunk(plan: &Plan, failed: &Outcome, shape: &Shape) {
    /// Runs that shrinking may take.
    const BUDGET: usize = 150;
    let shrunk = shrink::shrink(plan, failed, BUDGET);
    println!(
        "{} of {} faults are enough ({} runs):",
        shrunk.keep.len(),
        failed.schedule.len(),
        shrunk.runs
    );
    for planned in &shrunk.outcome.schedule {
        println!("  {planned}");
    }
    for violation in &shrunk.outcome.violations {
        println!("  {violation}");
    }
    let keep: Vec<_> = shrunk.keep.iter().map(ToString::to_string).collect();
    println!(
        "  again: sim replay {} --keep {} {}",
        failed.seed,
        keep.join(","),
        shape.arguments().join(" ")
    );
}
