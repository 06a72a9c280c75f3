//! What was being done to the cluster during a counterexample, and who led.

use quorate_jepsen_core::{ids::Moment, op::Op};

use super::super::charts::seconds;
use crate::suite::timeline::{self, FaultMark, Mark};

/// The faults that a counterexample is told with.
struct Around<'a> {
    /// When its first operation was called.
    from: Moment,
    /// When the last one was answered.
    to: Moment,
    during: Vec<&'a FaultMark>,
    /// The last one before, if there was none meanwhile: what led to it is often its healing.
    before: Option<&'a FaultMark>,
}

impl<'a> Around<'a> {
    fn of(marks: &'a [Mark], ops: &[&Op]) -> Self {
        let from = ops.iter().map(|op| op.invoked).min().unwrap_or_default();
        let to = ops.iter().filter_map(|op| op.returned).max().unwrap_or(from);
        let mut faults = timeline::faults(marks);
        let during = |fault: &&FaultMark| fault.from <= to && fault.to >= from;
        let during: Vec<_> = faults.clone().filter(during).collect();
        let before = faults.rfind(|fault| fault.to < from).filter(|_| during.is_empty());
        Self { from, to, during, before }
    }

    fn first(&self) -> Option<&'a FaultMark> {
        self.before.or_else(|| self.during.iter().min_by_key(|fault| fault.from).copied())
    }
}

/// What was being done to the cluster from the first of them to the last.
#[must_use]
pub fn meanwhile(marks: &[Mark], ops: &[&Op]) -> Vec<String> {
    let around = Around::of(marks, ops);
    let told = |fault: &FaultMark, when: &str| {
        let hit: Vec<_> = fault.hit.iter().map(|node| format!("n{node}")).collect();
        format!(
            "{when}, from {:.3} s to {:.3} s: {}, which hit {} ({}). {}",
            seconds(fault.from),
            seconds(fault.to),
            fault.what,
            hit.join(" "),
            fault.effect,
            fault.kind.what()
        )
    };
    let before = around.before.map(|fault| {
        let ago = seconds(around.from) - seconds(fault.to);
        told(fault, &format!("The fault before ended {ago:.1} s earlier"))
    });
    let during = around.during.into_iter().map(|fault| told(fault, "Meanwhile"));
    before.into_iter().chain(during).collect()
}

/// Who led before the fault (before the first step, if there was none), and who came to lead until
/// the last step; nothing, if no node was asked.
#[must_use]
pub fn led(marks: &[Mark], ops: &[&Op]) -> Option<String> {
    let around = Around::of(marks, ops);
    let leaders = timeline::leaders(marks);
    let (since, when) = match around.first() {
        Some(fault) if fault.from <= around.from => (fault.from, "when that fault began"),
        _ => (around.from, "at step 1"),
    };
    let known = leaders.partition_point(|lead| lead.since <= since);
    let later = leaders[known..].iter().take_while(|lead| lead.since <= around.to);
    let first = match known.checked_sub(1).map(|at| leaders[at]) {
        Some(lead) => format!("n{} {when}, in term {}", lead.node, lead.term),
        None if leaders.is_empty() => return None,
        None => format!("nobody that was seen {when}"),
    };
    let later: Vec<_> = later
        .map(|lead| {
            format!("n{} from {:.1} s on, in term {}", lead.node, seconds(lead.since), lead.term)
        })
        .collect();
    let later = match later.as_slice() {
        [] => "nobody else until the last step".to_owned(),
        some => some.join("; "),
    };
    Some(format!("Who led: {first}; {later} (as the nodes said, five times a second)"))
}

#[cfg(test)]
mod tests {
    use quorate_jepsen_core::{
        ids::{Node, OpId, Process},
        op::{Answer, Call},
    };

    use super::*;
    use crate::{nemesis::fault::Kind, suite::timeline::NodeSample};

    const S: u64 = 1_000_000_000;

    fn op(from: u64, to: u64) -> Op {
        Op {
            id: OpId(1),
            process: Process(1),
            invoked: Moment(from * S),
            returned: Some(Moment(to * S)),
            call: Call::Fence { log: "orders".to_owned() },
            answer: Answer::Unknown { kind: "x".to_owned() },
        }
    }

    fn leads(at: u64, node: u64, term: u64) -> Mark {
        let (committed, applied, age_ms) = (0, 0, None);
        let sample = NodeSample { node: Node(node), leads: true, term, committed, applied, age_ms };
        Mark::Sample { at: Moment(at * S), nodes: vec![sample] }
    }

    fn fault(from: u64, to: u64) -> Mark {
        Mark::Fault(FaultMark {
            kind: Kind::Kill,
            what: "kill target=leader".to_owned(),
            from: Moment(from * S),
            to: Moment(to * S),
            hit: vec![Node(1)],
            hit_leader: true,
            healing: None,
            apart: Vec::new(),
            count: 1,
            effect: "1 killed".to_owned(),
        })
    }

    fn told(marks: &[Mark], op: &Op) -> String {
        led(marks, &[op]).unwrap().replace(" (as the nodes said, five times a second)", "")
    }

    #[test]
    fn who_led_before_the_fault_is_said_and_who_leads_then() {
        let marks = [leads(1, 1, 1), fault(3, 8), leads(5, 3, 2), leads(9, 2, 3)];
        let then = "n3 from 5.0 s on, in term 2";
        assert_eq!(
            told(&marks, &op(6, 7)),
            format!("Who led: n1 when that fault began, in term 1; {then}")
        );
        // The fault before counts, too, and whoever came until the last step.
        assert_eq!(
            told(&marks, &op(9, 10)),
            format!(
                "Who led: n1 when that fault began, in term 1; {then}; \
                 n2 from 9.0 s on, in term 3"
            )
        );
        // It began only after the first step.
        assert_eq!(
            told(&marks, &op(2, 4)),
            "Who led: n1 at step 1, in term 1; nobody else until the last step"
        );
    }

    #[test]
    fn who_was_not_seen_is_not_named() {
        assert_eq!(led(&[fault(3, 8)], &[&op(6, 7)]), None);
        assert_eq!(
            told(&[leads(5, 3, 2)], &op(4, 7)),
            "Who led: nobody that was seen at step 1; n3 from 5.0 s on, in term 2"
        );
    }
}
