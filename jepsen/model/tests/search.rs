//! The whole state space, within bounds; and a counterexample for each mistake.

use quorate_age_model::{Mistake, Protocol};
use stateright::{Checker, Model};

const AGE: &str = "a stated age is never too young";

/// Two changes of leader around one append and one probe.
const LEADERS: Protocol =
    Protocol { mistake: Mistake::None, max_time: 2, max_appends: 1, max_term: 3, max_probes: 1 };

/// Two appends and two probes, one change of leader. A pause is a message that takes long.
const TRAFFIC: Protocol =
    Protocol { mistake: Mistake::None, max_time: 1, max_appends: 2, max_term: 2, max_probes: 2 };

fn search(bounds: Protocol, mistake: Mistake) -> impl Checker<Protocol> {
    Protocol { mistake, ..bounds }.checker().threads(2).spawn_bfs().join()
}

#[test]
fn the_protocol_holds() {
    for bounds in [LEADERS, TRAFFIC] {
        let done = search(bounds.clone(), Mistake::None);
        assert!(done.unique_state_count() > 10_000, "the search went somewhere");
        done.assert_properties();
        println!("{bounds:?}: {} states", done.unique_state_count());
    }
}

#[test]
fn every_mistake_has_a_counterexample() {
    for mistake in Mistake::ALL {
        let bounds = if mistake == Mistake::JoinsRound { TRAFFIC } else { LEADERS };
        let done = search(bounds, mistake);
        let path = done.discovery(AGE).unwrap_or_else(|| panic!("{mistake:?} was not caught"));
        println!(
            "{mistake:?}: {} steps: {:?}",
            path.clone().into_actions().len(),
            path.into_actions()
        );
    }
}

/// Why the second search is there.
#[test]
fn one_probe_does_not_show_what_two_show() {
    let done = search(LEADERS, Mistake::JoinsRound);
    assert!(done.discovery(AGE).is_none());
}
