//! What nodes that were cut off from the majority said meanwhile: they can prove nothing, so they
//! must answer no linearizable read, and a bounded one only while what they had proven before is
//! young enough. This is beside the checkers of histories, which need something acknowledged
//! elsewhere to find an answer too old; here it is wrong by itself.

use std::collections::{BTreeMap, BTreeSet};

use quorate_jepsen_core::{
    history::History,
    ids::{Moment, Node, OpId},
    op::{Answer, Asked, Call, Claim, Op},
};
use serde::Serialize;

use super::timeline::{FaultMark, Mark};
use crate::direct::NO_ANSWER;

/// Clocks count whole milliseconds: one at each end.
const GRAIN_MS: u64 = 2;

/// Of the reads that are to fail at once, one in so many may get no word: a machine can be busy.
const SILENT_ONE_IN: usize = 4;

/// What cut-off nodes said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sides {
    /// Linearizable reads that were sent to them.
    pub linearizable: usize,
    /// Bounded reads that were sent to them.
    pub bounded: usize,
    /// Of these, the ones that they answered, which they may as long as the bound allows.
    pub bounded_answered: usize,
    /// Of the others, the ones that were to fail at once, and got no word before the client gave up.
    pub silent: usize,
}

/// Counts, and says what they should not have done.
#[must_use]
pub fn look(history: &History, marks: &[Mark]) -> (Sides, Vec<String>) {
    let ops: BTreeMap<OpId, &Op> = history.ops.iter().map(|op| (op.id, op)).collect();
    let claims: BTreeMap<OpId, &Claim> = history.claims.iter().map(|c| (c.op, c)).collect();
    let (mut sides, mut wrong, mut at_once) = (Sides::default(), Vec::new(), 0);
    for mark in marks {
        let Mark::Fault(fault) = mark else { continue };
        let Some(healing) = fault.healing else { continue };
        let leading = leading(marks, fault, healing);
        let apart = |node: &Node| fault.apart.contains(node) && !leading.contains(node);
        for asked in history.asked.iter().filter(|asked| apart(&asked.node)) {
            let Some((op, returned)) = ops.get(&asked.op).and_then(|op| Some((op, op.returned?)))
            else {
                continue;
            };
            if op.invoked < fault.from || returned > healing {
                continue;
            }
            let by = claims.get(&op.id).map(|claim| claim.node).filter(apart);
            let answered = by.filter(|_| matches!(op.answer, Answer::Read { .. }));
            if matches!(op.call, Call::Read { linearizable: true, .. }) {
                sides.linearizable += 1;
                if let Some(node) = answered {
                    wrong.push(format!(
                        "n{node} answered a linearizable read (op {}) while it was cut off from \
                         the majority",
                        op.id
                    ));
                }
            } else if let Some(bound_ms) = asked.bound_ms {
                sides.bounded += 1;
                sides.bounded_answered += usize::from(answered.is_some());
                at_once += usize::from(asked.or_fail && answered.is_none());
                sides.silent += usize::from(asked.or_fail && is_silent(op));
                let until = Moment(fault.from.0 + (bound_ms + GRAIN_MS) * 1_000_000);
                if let Some(node) = answered.filter(|_| op.invoked > until) {
                    wrong.push(format!(
                        "n{node} answered a read with a bound of {bound_ms} ms (op {}) after it had \
                         been cut off from the majority for {} ms",
                        op.id,
                        (op.invoked.0 - fault.from.0) / 1_000_000
                    ));
                }
            }
        }
    }
    if sides.silent > at_once / SILENT_ONE_IN {
        wrong.push(format!(
            "{} of {at_once} reads that were to fail at once got no word from nodes that were cut \
             off",
            sides.silent
        ));
    }
    (sides, wrong)
}

fn is_silent(op: &Op) -> bool {
    let (Answer::Unknown { kind } | Answer::Refused { kind, .. }) = &op.answer else {
        return false;
    };
    kind == NO_ANSWER || kind == "DEADLINE"
}

/// Those of them that came to lead a later term meanwhile: such a one was not cut off from all.
#[must_use]
pub fn leading(marks: &[Mark], fault: &FaultMark, healing: Moment) -> BTreeSet<Node> {
    let samples = marks.iter().filter_map(|mark| match mark {
        Mark::Sample { at, nodes } if *at <= healing => Some((*at, nodes)),
        _ => None,
    });
    let mut before = 0;
    let mut leading = BTreeSet::new();
    for (at, nodes) in samples {
        if at < fault.from {
            before = nodes.iter().map(|node| node.term).max().unwrap_or(before);
        } else {
            let later = nodes.iter().filter(|node| node.leads && node.term > before);
            leading.extend(later.map(|node| node.node));
        }
    }
    leading
}

/// Whether the reads were enough to show anything.
#[must_use]
pub fn seen(asked: &[Asked], sides: &Sides) -> bool {
    // Without a client that asks for bounds there is nothing to see.
    asked.iter().all(|asked| asked.bound_ms.is_none())
        || (sides.linearizable > 0 && sides.bounded > sides.bounded_answered)
}

#[cfg(test)]
mod tests {
    use quorate_jepsen_core::{
        ids::{Offset, Process},
        op::Answer,
    };

    use super::*;
    use crate::{nemesis::fault::Kind, suite::timeline::NodeSample};

    const MS: u64 = 1_000_000;

    fn cut() -> Mark {
        Mark::Fault(FaultMark {
            kind: Kind::Aside,
            what: String::new(),
            from: Moment(1000 * MS),
            to: Moment(5100 * MS),
            hit: vec![Node(1)],
            hit_leader: true,
            healing: Some(Moment(5000 * MS)),
            apart: vec![Node(1), Node(2)],
            count: 1,
            effect: String::new(),
        })
    }

    fn read(at_ms: u64, asked: Node, by: Option<Node>, bound_ms: Option<u64>) -> History {
        let id = OpId(at_ms);
        let none =
            || Answer::Refused { kind: "TOO_STALE".to_owned(), next_offset: None, stamp: None };
        let shown = || Answer::Read { batches: vec![], next_offset: Offset(0), stamp: None };
        let call =
            Call::Read { log: "a".to_owned(), from: Offset(0), linearizable: bound_ms.is_none() };
        let claim =
            |node| Claim { op: id, node, bound_ms, age_ms: None, at_least: None, served: None };
        History {
            ops: vec![Op {
                id,
                process: Process(1),
                invoked: Moment(at_ms * MS),
                returned: Some(Moment((at_ms + 10) * MS)),
                call,
                answer: if by.is_some() { shown() } else { none() },
            }],
            asked: vec![Asked { op: id, node: asked, bound_ms, or_fail: true }],
            claims: by.map(claim).into_iter().collect(),
            ..History::default()
        }
    }

    fn wrong(history: &History) -> usize {
        look(history, &[cut()]).1.len()
    }

    #[test]
    fn a_node_that_is_cut_off_proves_nothing() {
        let (in_, out) = (Node(2), Node(3));
        assert_eq!(wrong(&read(2000, in_, Some(in_), None)), 1);
        assert_eq!(wrong(&read(2000, in_, Some(out), None)), 0, "another answered");
        assert_eq!(wrong(&read(2000, out, Some(out), None)), 0, "the others go on");
        assert_eq!(wrong(&read(2000, in_, None, None)), 0, "refused");
        assert_eq!(wrong(&read(500, in_, Some(in_), None)), 0, "before");
        assert_eq!(wrong(&read(4995, in_, Some(in_), None)), 0, "answered after healing");
        assert_eq!(wrong(&read(1400, in_, Some(in_), Some(500))), 0, "proven before");
        assert_eq!(wrong(&read(1503, in_, Some(in_), Some(500))), 1);
    }

    #[test]
    fn reads_that_should_fail_at_once_do_not_hang() {
        let mut history = read(2000, Node(2), None, Some(100));
        history.ops[0].answer = Answer::Unknown { kind: NO_ANSWER.to_owned() };
        assert_eq!(wrong(&history), 1);
    }

    #[test]
    fn one_that_came_to_lead_is_not_cut_off() {
        let sample = |at, leads, term| Mark::Sample {
            at: Moment(at * MS),
            nodes: vec![NodeSample {
                node: Node(2),
                leads,
                term,
                committed: 1,
                applied: 1,
                age_ms: None,
            }],
        };
        let history = read(2000, Node(2), Some(Node(2)), None);
        let of = |marks: &[Mark]| look(&history, marks).1.len();
        assert_eq!(of(&[sample(900, false, 3), cut(), sample(1500, true, 4)]), 0);
        assert_eq!(of(&[sample(900, true, 3), cut(), sample(1500, true, 3)]), 1);
    }

    #[test]
    fn a_side_that_nobody_read_shows_nothing() {
        let refused = read(2000, Node(2), None, Some(100));
        let (sides, _) = look(&refused, &[cut()]);
        assert!(!seen(&refused.asked, &sides), "no linearizable read");
        assert!(seen(&refused.asked, &Sides { linearizable: 1, ..sides }));
    }
}
