use super::*;

const NOW: Duration = Duration::from_millis(50);
const LEADING: Leading =
    Leading { me: 1, last: LogIndex(10_000), patience: Duration::from_millis(1000) };

fn address(node: NodeId) -> NodeAddress {
    NodeAddress { peer: format!("h{node}:1"), client: format!("h{node}:2") }
}

fn member(node: NodeId, voter: bool) -> (NodeId, Member) {
    let matched = Some(LEADING.last);
    (node, Member { address: address(node), voter, matched, heard: Some(NOW) })
}

/// Voters 1, 2, 3; learner 4.
fn members() -> Members {
    let nodes = [member(1, true), member(2, true), member(3, true), member(4, false)];
    Members { log_index: LogIndex(7), changing: false, nodes: nodes.into() }
}

fn change(promote: &[NodeId], remove: &[NodeId]) -> Change {
    let set = |ids: &[NodeId]| ids.iter().copied().collect();
    Change { promote: set(promote), remove: set(remove), if_log_index: None }
}

fn go(promote: &[NodeId], remove_voters: &[NodeId], remove_learners: &[NodeId]) -> Step {
    let set = |ids: &[NodeId]| ids.iter().copied().collect();
    Step::Go {
        promote: set(promote),
        remove_voters: set(remove_voters),
        remove_learners: set(remove_learners),
    }
}

#[test]
fn what_is_asked_is_what_is_done() {
    let m = members();
    assert_eq!(m.judge(&change(&[4], &[]), LEADING), Ok(go(&[4], &[], &[])));
    assert_eq!(m.judge(&change(&[4], &[2]), LEADING), Ok(go(&[4], &[2], &[])));
    assert_eq!(m.judge(&change(&[], &[2, 4]), LEADING), Ok(go(&[], &[2], &[4])));
}

#[test]
fn asking_twice_does_no_harm() {
    let m = members();
    assert_eq!(m.judge(&change(&[2], &[9]), LEADING), Ok(Step::Nothing));
    // But a change that is half done gets finished.
    let half = Members { changing: true, ..m };
    assert_eq!(half.judge(&change(&[2], &[9]), LEADING), Ok(go(&[], &[], &[])));
}

#[test]
fn somebody_else_was_faster() {
    let asked = Change { if_log_index: Some(LogIndex(6)), ..change(&[4], &[]) };
    let refused = Refusal::Outdated { asked: LogIndex(6), now: LogIndex(7) };
    assert_eq!(members().judge(&asked, LEADING), Err(refused));
    let asked = Change { if_log_index: Some(LogIndex(7)), ..asked };
    assert!(members().judge(&asked, LEADING).is_ok());
}

#[test]
fn contradictions_are_named() {
    let m = members();
    assert_eq!(m.judge(&change(&[4], &[4]), LEADING), Err(Refusal::Both(4)));
    assert_eq!(m.judge(&change(&[5], &[]), LEADING), Err(Refusal::Unknown(5)));
    assert_eq!(m.judge(&change(&[], &[1]), LEADING), Err(Refusal::Leader(1)));
}

#[test]
fn nobody_votes_who_is_behind_or_silent() {
    let edge = LogIndex(LEADING.last.0 - MAX_LAG);
    let cases: [(Option<LogIndex>, Option<Duration>, bool); 5] = [
        (Some(edge), Some(NOW), true),
        (Some(LogIndex(edge.0 - 1)), Some(NOW), false),
        (None, Some(NOW), false),
        (Some(LEADING.last), None, false),
        (Some(LEADING.last), Some(LEADING.patience + NOW), false),
    ];
    for (matched, heard, fine) in cases {
        let mut m = members();
        let learner = m.nodes.get_mut(&4).unwrap();
        (learner.matched, learner.heard) = (matched, heard);
        let judged = m.judge(&change(&[4], &[]), LEADING);
        assert_eq!(judged.is_ok(), fine, "{matched:?} {heard:?}: {judged:?}");
        assert!(fine || matches!(judged, Err(Refusal::Lagging { node: 4, .. })), "{judged:?}");
    }
}

#[test]
fn the_living_stay_a_majority() {
    let mut m = members();
    m.nodes.get_mut(&3).unwrap().heard = Some(LEADING.patience * 2);
    // Of 1 and the dead 3 no majority lives.
    let refused = m.judge(&change(&[], &[2]), LEADING);
    let expected = Refusal::NoQuorum { voters: 2, ready: 1, needed: 2, lacking: "3".to_owned() };
    assert_eq!(refused, Err(expected));
    // The dead one may go, be replaced, or be outvoted by another one.
    assert!(m.judge(&change(&[], &[3]), LEADING).is_ok());
    assert!(m.judge(&change(&[4], &[3]), LEADING).is_ok());
    assert!(m.judge(&change(&[4], &[]), LEADING).is_ok());
    // The leader counts itself, whatever it knows of itself as a peer.
    let me = m.nodes.get_mut(&1).unwrap();
    (me.matched, me.heard) = (None, None);
    assert!(m.judge(&change(&[], &[3]), LEADING).is_ok());
}

#[test]
fn a_learner_has_an_id_and_addresses_of_its_own() {
    let m = members();
    assert_eq!(m.learner(5, &address(5)), Ok(true));
    assert_eq!(m.learner(4, &address(4)), Ok(false));
    let elsewhere = m.learner(4, &address(5));
    assert_eq!(elsewhere, Err(Refusal::OtherAddress { node: 4, known: address(4) }));
    for taken in ["h2:1", "h2:2"] {
        let at = NodeAddress { peer: taken.to_owned(), client: "h5:2".to_owned() };
        let refused = Refusal::SameAddress { other: 2, address: taken.to_owned() };
        assert_eq!(m.learner(5, &at), Err(refused));
    }
}
