//! One seed again: as it was, with fewer faults, or in two processes to compare them.

use std::{fs::File, path::PathBuf};

use quorate_jepsen_core::check::Verdict;
use quorate_sim::{
    run::{self, Plan},
    shrink,
};

use crate::{
    args::Shape,
    told::{print_shrunk, report},
};

/// Runs a seed again.
///
/// # Errors
/// The shape is none, or the history can't be written.
pub fn replay(
    seed: u64,
    trace: bool,
    keep: Option<Vec<usize>>,
    history: Option<PathBuf>,
    (shrink, digest): (bool, bool),
    shape: &Shape,
) -> anyhow::Result<Verdict> {
    let mut plan = Plan { seed, trace, ..shape.plan()? };
    if let Some(keep) = keep {
        // The schedule is known once the run has begun: a first run tells it.
        let drawn = run::run(&Plan { trace: false, ..plan.clone() }).schedule;
        plan.schedule = Some(shrink::pick(&drawn, &keep));
    }
    let outcome = run::run(&plan);
    if digest {
        println!("{} {:016x}", outcome.trace.0, outcome.trace.1);
        return Ok(Verdict::Valid);
    }
    for (at, planned) in outcome.schedule.iter().enumerate() {
        println!("{at:>4} {planned}");
    }
    for (what, count) in &outcome.counts {
        println!("  {count:>10} {what}");
    }
    let (lines, hash) = outcome.trace;
    println!("{} simulated ms, trace {hash:016x} of {lines} lines", outcome.ticks);
    report(&outcome, shape);
    if let Some(path) = history {
        outcome.history.write(File::create(path)?)?;
    }
    if shrink && !outcome.violations.is_empty() {
        print_shrunk(&Plan { trace: false, ..plan }, &outcome, shape);
    }
    Ok(outcome.verdict())
}

/// Runs seeds in two processes each, and compares their traces.
///
/// # Errors
/// A process can't be run.
pub fn meta(seeds: u64, from: u64, shape: &Shape) -> anyhow::Result<Verdict> {
    let me = std::env::current_exe()?;
    let digest = |seed: u64| -> anyhow::Result<String> {
        let mut command = std::process::Command::new(&me);
        command.arg("replay").arg(seed.to_string()).arg("--digest").args(shape.arguments());
        let done = command.output()?;
        let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        anyhow::ensure!(done.status.success(), "replaying seed {seed} failed: {text}");
        Ok(text)
    };
    let mut verdict = Verdict::Valid;
    for seed in from..from + seeds {
        let (first, second) = (digest(seed)?, digest(seed)?);
        let same = first == second;
        println!("seed {seed}: {first} {}", if same { "twice" } else { "and then another" });
        if !same {
            println!("  and then: {second}");
            verdict = Verdict::Invalid;
        }
    }
    Ok(verdict)
}
