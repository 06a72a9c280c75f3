//! The simulation itself: a seed is a run, a planted fault is found, and shrunk.

use quorate_jepsen_core::check::{Kind, Verdict};
use quorate_sim::{
    invariants::leaders,
    mutants::{self, Mutant},
    run::{self, Plan},
    settle, shrink,
};

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        fault_ticks: 3000,
        nodes: None,
        groups: None,
        recreated: None,
        theme: None,
        schedule: None,
        mutant: None,
        trace: false,
    }
}

#[test]
fn a_seed_is_a_run() {
    let (first, second) = (run::run(&plan(11)), run::run(&plan(11)));
    assert_eq!(first.verdict(), Verdict::Valid, "{:?}", first.violations);
    assert_eq!(first.trace, second.trace);
    assert_eq!(first.history, second.history);
    assert_ne!(first.trace, run::run(&plan(12)).trace);
    assert!(first.counts["records acknowledged"] > 100, "{:?}", first.counts);
}

#[test]
fn mutants_are_caught_by_names_that_exist() {
    let known: Vec<&str> = Kind::ALL
        .iter()
        .map(|kind| kind.name())
        .chain([leaders::TWO, leaders::BACK, settle::NO_PROGRESS])
        .collect();
    for mutant in mutants::ALL {
        assert!(!mutant.caught_as.is_empty(), "{}", mutant.name);
        for name in mutant.caught_as {
            assert!(known.contains(name), "{}: {name}", mutant.name);
        }
    }
}

#[test]
fn a_planted_fault_is_found_and_its_schedule_shrunk() {
    let mutant = Mutant::named("skip_log_fsync").expect("there is one");
    let caught = mutant.hunt(&plan(0), 1, 100, 2).expect("caught");
    let failed = caught.outcome;
    let recreated = Some(mutant.recreated());
    let plan = Plan { mutant: Some(mutant.name), recreated, ..plan(failed.seed) };
    let shrunk = shrink::shrink(&plan, &failed, 40);
    assert!(shrunk.keep.len() <= failed.schedule.len());
    let schedule = shrink::pick(&failed.schedule, &shrunk.keep);
    let again = run::run(&Plan { schedule: Some(schedule), ..plan });
    assert_eq!(again.violations.first(), shrunk.outcome.violations.first());
    assert_eq!(again.trace, shrunk.outcome.trace, "a shrunk schedule replays as well");
}
