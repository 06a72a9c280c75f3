//! The whole state space, within bounds; and a counterexample for each mistake.

use quorate_age_model::{Mistake, Protocol};
use stateright::{Checker, Model};

const AGE: &str = "a stated age is never too young";

fn search(mistake: Mistake) -> impl Checker<Protocol> {
    let bounds = Protocol { mistake, max_time: 2, max_appends: 1, max_term: 3, max_probes: 1 };
    bounds.checker().threads(2).spawn_bfs().join()
}

#[test]
fn the_protocol_holds() {
    let done = search(Mistake::None);
    assert!(done.unique_state_count() > 10_000, "the search went somewhere");
    done.assert_properties();
    println!("{} states", done.unique_state_count());
}

#[test]
fn every_mistake_has_a_counterexample() {
    for mistake in [
        Mistake::StampedOnArrival,
        Mistake::LeaderExempt,
        Mistake::RoundReusedAcrossTerms,
        Mistake::NoWaitForApply,
        Mistake::HeartbeatIsEvidence,
    ] {
        let done = search(mistake);
        let path = done.discovery(AGE).unwrap_or_else(|| panic!("{mistake:?} was not caught"));
        println!(
            "{mistake:?}: {} steps: {:?}",
            path.clone().into_actions().len(),
            path.into_actions()
        );
    }
}
