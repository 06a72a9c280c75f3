//! A counterexample as a picture and as sentences: what was done, in the order in which it was, and who
//! led meanwhile.

mod ending;
mod meanwhile;
mod picture;
mod words;

use quorate_jepsen_core::{check::Anomaly, history::History, op::Op};

pub use ending::in_the_end;
pub use meanwhile::{led, meanwhile};
pub use words::sentences;

/// More of an operation's records and batches than these are only counted.
const SHOWN: usize = 6;

/// The operations involved, in the order in which they were called.
#[must_use]
pub fn involved<'a>(history: &'a History, anomaly: &Anomaly) -> Vec<&'a Op> {
    history.ops.iter().filter(|op| anomaly.ops.contains(&op.id)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use quorate_jepsen_core::{
        check::{Kind, check},
        ids::{Moment, Node, Offset, OpId, Process, RecordId},
        op::{Answer, Append, Batch, Call, Claim, ReplicaLog},
    };

    use super::{super::charts::Charts, *};

    /// One append, acknowledged; then a read that does not show it.
    pub fn stale() -> History {
        let log = || "orders".to_owned();
        let op = |id, from, to, call, answer| Op {
            id: OpId(id),
            process: Process(id as u32),
            invoked: Moment(from),
            returned: Some(Moment(to)),
            call,
            answer,
        };
        let append = Append { log: log(), records: vec![RecordId(7)], ..Append::default() };
        let appended = Answer::Appended {
            first_offset: Offset(0),
            next_offset: Offset(1),
            deduplicated: false,
            stamp: None,
        };
        let read = Call::Read { log: log(), from: Offset(0), linearizable: true };
        let shown = Answer::Read { batches: Vec::new(), next_offset: Offset(0), stamp: None };
        let batch = Batch {
            first_offset: Offset(0),
            records: vec![Some(RecordId(7))],
            timestamp_ms: 1,
            crc32c: 0,
            writer_epoch: None,
            producer: None,
        };
        let replica = ReplicaLog {
            node: Node(1),
            log: log(),
            incarnation: None,
            start_offset: Offset(0),
            next_offset: Offset(1),
            batches: vec![batch],
        };
        History {
            ops: vec![
                op(1, 1_000_000, 2_000_000, Call::Append(append), appended),
                op(2, 3_000_000, 4_000_000, read, shown),
            ],
            claims: vec![Claim {
                op: OpId(2),
                node: Node(3),
                bound_ms: None,
                age_ms: None,
                at_least: None,
                served: None,
            }],
            replicas: vec![replica],
            expected_replicas: 1,
            ..History::default()
        }
    }

    #[test]
    fn a_counterexample_is_told_step_by_step() {
        let history = stale();
        let report = check(&history);
        let found = report.anomalies.iter().find(|found| found.kind == Kind::StaleRead).unwrap();
        let ops = involved(&history, found);
        assert_eq!(ops.iter().map(|op| op.id.0).collect::<Vec<_>>(), [1, 2]);
        let text = sentences(&history, &ops);
        for part in [
            "client 1 appended record 7 to &quot;orders&quot;",
            "acknowledged, at offsets 0 to 0",
            "by n3: the log is empty",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        let picture = Charts::new(&history, &[]).story(&history, &ops).unwrap();
        for part in ["client 1", "client 2", "1 acknowledged", "2 the log is empty"] {
            assert!(picture.contains(part), "{part:?} is not in {picture}");
        }
    }

    #[test]
    fn copies_are_told_with_their_places() {
        let mut history = stale();
        let mut copy = history.replicas[0].batches[0].clone();
        copy.first_offset = Offset(1);
        history.replicas[0].batches.push(copy);
        let mut other = history.replicas[0].clone();
        other.node = Node(2);
        history.replicas.push(other);
        let found = check(&history).anomalies;
        let found = found.iter().find(|found| found.kind == Kind::DuplicateRecord).unwrap();
        let told = in_the_end(&history, &involved(&history, found));
        assert_eq!(told, ["In the end n1, n2 had record 7 2 times, at offsets 0, 1"]);
    }

    #[test]
    fn what_is_far_apart_is_shown_with_a_gap() {
        let mut history = stale();
        let between = history.ops[0].clone();
        for number in 0..200 {
            let at = Moment(2_000_001 + number);
            let (id, records) = (OpId(10 + number), vec![RecordId(100 + number)]);
            let call =
                Call::Append(Append { log: "orders".to_owned(), records, ..Append::default() });
            let answer = Answer::Unknown { kind: "x".to_owned() };
            history.ops.push(Op { id, invoked: at, returned: None, call, answer, ..between });
        }
        history.ops.sort_by_key(|op| (op.invoked, op.id));
        let lines = crate::suite::results::around(&history, "orders", &[OpId(1), OpId(2)]);
        let marked = lines.iter().filter(|line| line.starts_with("->")).count();
        assert_eq!(marked, 2, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("... 160 operations")), "{lines:#?}");
    }
}
