//! Many seeds: their sum, what never happened, and the first that fails with fewer faults.

use std::{collections::BTreeMap, time::Instant};

use quorate_jepsen_core::check::Verdict;
use quorate_sim::{
    many,
    run::{Outcome, Plan},
    schedule::{self, Theme},
};

use crate::{
    args::Shape,
    told::{print_shrunk, report},
};

/// Runs them; the worst verdict.
pub fn run_seeds(
    seeds: u64,
    from: Option<u64>,
    keep_going: bool,
    shape: &Shape,
) -> anyhow::Result<Verdict> {
    let plan = shape.plan()?;
    let from = from.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| since.as_secs() * 10_000)
    });
    let began = Instant::now();
    let mut total: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut verdict, mut runs, mut ticks) = (Verdict::Valid, 0, 0);
    let mut failed: Option<Outcome> = None;
    println!("{seeds} runs from seed {from}");
    many::run_many(&plan, from, seeds, shape.jobs(), |outcome| {
        runs += 1;
        ticks += outcome.ticks;
        for (what, count) in &outcome.counts {
            *total.entry(what).or_default() += count;
        }
        verdict = worse(verdict, outcome.verdict());
        let fine = outcome.verdict() == Verdict::Valid;
        if !fine {
            report(&outcome, shape);
            if failed.is_none() && !outcome.violations.is_empty() {
                failed = Some(outcome);
            }
        }
        fine || keep_going
    });
    let seconds = began.elapsed().as_secs_f64();
    println!("\n{runs} runs, {} simulated seconds in {seconds:.1} s: {verdict:?}", ticks / 1000);
    for (what, count) in &total {
        println!("  {count:>10} {what}");
    }
    if let Some(failed) = &failed {
        println!();
        let plan = Plan { seed: failed.seed, ..plan };
        print_shrunk(&plan, failed, shape);
    } else if let Some(why) = not_covered(&total, plan.theme).filter(|_| seeds >= COVERED_BY) {
        // Enough runs to expect everything to have happened at least once.
        println!("cannot be judged: {why}");
        verdict = worse(verdict, Verdict::Unknown);
    }
    Ok(verdict)
}

/// From so many runs on, everything must have happened at least once (P16).
const COVERED_BY: u64 = 200;

/// What never happened, of what such runs are for.
fn not_covered(total: &BTreeMap<&'static str, u64>, theme: Option<Theme>) -> Option<String> {
    let mut wanted = vec![
        "records acknowledged",
        "records unknown but stored",
        "fences",
        "logs deleted",
        "reads",
        "refused bounds",
        "leader changes",
    ];
    let faults = theme.unwrap_or(Theme::Mixed).faults();
    if faults.contains("crash-point") {
        wanted.push("deaths at crash points");
    }
    if faults.contains("isolate") {
        wanted.push("messages lost");
    }
    if theme.is_none_or(|theme| theme == Theme::Mixed) {
        wanted.extend(["lost log entries", "lost votes"]);
        wanted.extend(schedule::points());
    }
    wanted.extend(faults);
    let never: Vec<_> =
        wanted.into_iter().filter(|what| total.get(what).is_none_or(|n| *n == 0)).collect();
    (!never.is_empty()).then(|| format!("never happened: {}", never.join(", ")))
}

fn worse(a: Verdict, b: Verdict) -> Verdict {
    match (a, b) {
        (Verdict::Invalid, _) | (_, Verdict::Invalid) => Verdict::Invalid,
        (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
        _ => Verdict::Valid,
    }
}
