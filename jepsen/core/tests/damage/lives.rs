//! Logs that are deleted and created again (P13), and the other properties in a log that is gone.

use quorate_jepsen_core::{
    ids::{Incarnation, Node, Stamp},
    op::{Claim, Identity},
};

use super::*;

/// Damages `history` so that `kind` describes it; `false`: that is another file's business.
pub fn damage(kind: Kind, history: &mut History, seed: &mut Seed) -> bool {
    match kind {
        Kind::IncarnationReused => {
            let [one, two] = two_of(history, seed, created);
            set(history, two, incarnation(history, one));
        }
        Kind::CreatedNotEmpty => {
            let at = some_op(history, seed, created);
            if let Answer::Created { next_offset, .. } = &mut history.ops[at].answer {
                next_offset.0 = 1;
            }
        }
        Kind::DeletedRecordBack => {
            let [one, two] = two_of(history, seed, shows);
            let back = shown(history, one).records.clone();
            if let Answer::Read { batches, .. } = &mut history.ops[two].answer {
                batches[0].records[0] = back[0];
            }
        }
        Kind::DeletedLogAnswers => {
            // Its position is from before, only the clock knows.
            let last = history.replicas[0].incarnation;
            let old = some_op(history, seed, |op| {
                acknowledged(op) && answered(history, op).is_some_and(|is| Some(is) != last)
            });
            let end = history.ops.iter().filter_map(|op| op.returned).max().unwrap();
            history.ops[old].invoked = Moment(end.0 + 1);
            history.ops[old].returned = Some(Moment(end.0 + 2));
        }
        Kind::IncarnationsMixed => {
            // Its time is right, only its position is that of another.
            let [one, two] = two_of(history, seed, acknowledged);
            let later = history.ops[two].answer.stamp();
            if let Answer::Appended { stamp, .. } = &mut history.ops[one].answer {
                *stamp = later;
            }
        }
        Kind::WrongIncarnation => {
            let at = some_op(history, seed, |op| acknowledged(op) || shows(op));
            let id = history.ops[at].id;
            let identity = history.identities.iter_mut().find(|i| i.op == id).unwrap();
            identity.asked = Some(Incarnation(1));
        }
        Kind::LogMissing => {
            // Between two of one log.
            let log = history.replicas[0].incarnation;
            let of = |op: &Op| acknowledged(op) && answered(history, op) == log;
            let its: Vec<usize> =
                (0..history.ops.len()).filter(|at| of(&history.ops[*at])).collect();
            let at = its[its.len() / 2];
            let stamp = history.ops[at].answer.stamp().filter(|_| seed.one_in(2));
            history.ops[at].answer =
                Answer::Refused { kind: "LOG_NOT_FOUND".into(), next_offset: None, stamp };
            let records = append(&history.ops[at]).unwrap().records.clone();
            everywhere(history, |replica| {
                replica.batches.retain(|batch| batch.records[0] != Some(records[0]));
            });
        }
        _ => return false,
    }
    true
}

/// Of logs that were gone at the end, where no replica can be asked.
pub fn damage_past(kind: Kind, history: &mut History, seed: &mut Seed) {
    let last = history.replicas[0].incarnation;
    let past = |history: &History, op: &Op| {
        let is = answered(history, op);
        is.is_some() && is != last
    };
    match kind {
        Kind::ReadRewritten => {
            let [one, two] = two_that_show_the_same(history, seed, last);
            let other = shown(history, one).records.len() as u64;
            if let Answer::Read { batches, .. } = &mut history.ops[two].answer {
                batches[0].records[0] = Some(RecordId(other << 50));
            }
        }
        Kind::PhantomRecord => {
            let at = some_op(history, seed, |op| shows(op) && past(history, op));
            if let Answer::Read { batches, .. } = &mut history.ops[at].answer {
                batches[0].records[0] = Some(RecordId(1 << 50));
            }
        }
        Kind::RefusedButPresent => {
            let refused = some_op(history, seed, |op| {
                append(op).is_some() && matches!(op.answer, Answer::Refused { .. })
            });
            let record = append(&history.ops[refused]).unwrap().records[0];
            let at = some_op(history, seed, |op| shows(op) && past(history, op));
            if let Answer::Read { batches, .. } = &mut history.ops[at].answer {
                batches[0].records[0] = Some(record);
            }
        }
        Kind::MovedAppend => {
            let at = some_op(history, seed, |op| acknowledged(op) && past(history, op));
            let of = answered(history, &history.ops[at]);
            let other = some_op(history, seed, |op| {
                acknowledged(op) && op.id != history.ops[at].id && answered(history, op) == of
            });
            history.ops[other].answer = history.ops[at].answer.clone();
        }
        Kind::StaleRead => {
            // Sent after something was acknowledged, and empty.
            let first = |of: Option<Incarnation>| {
                let its = history.ops.iter().filter(|op| acknowledged(op));
                its.filter(|op| answered(history, op) == of).filter_map(|op| op.returned).min()
            };
            let at = some_op(history, seed, |op| {
                shows(op) && past(history, op) && first(answered(history, op)).is_some()
            });
            let first = first(answered(history, &history.ops[at])).expect("chosen so");
            let op = &mut history.ops[at];
            op.invoked = Moment(first.0 + 1);
            op.returned = Some(Moment(first.0 + 2));
            if let Call::Read { linearizable, .. } = &mut op.call {
                *linearizable = true;
            }
            if let Answer::Read { batches, next_offset, .. } = &mut op.answer {
                batches.clear();
                *next_offset = Offset(0);
            }
        }
        Kind::StaleBeyondBound => {
            // The right age for a log that is gone.
            let at = some_op(history, seed, |op| shows(op) && past(history, op));
            let end = history.ops.iter().filter_map(|op| op.returned).max().unwrap();
            let op = &mut history.ops[at];
            op.invoked = Moment(end.0 + 8_000_000);
            op.returned = Some(Moment(end.0 + 8_000_001));
            if let Call::Read { linearizable, .. } = &mut op.call {
                *linearizable = false;
            }
            let claim = Claim {
                op: op.id,
                node: Node(1),
                bound_ms: Some(5),
                age_ms: None,
                served: None,
                at_least: None,
            };
            history.claims.push(claim);
        }
        Kind::ExpectedOffsetIgnored => {
            let at = some_op(history, seed, |op| acknowledged(op) && past(history, op));
            if let Call::Append(append) = &mut history.ops[at].call {
                append.expected_offset = Some(Offset(1 << 40));
            }
        }
        Kind::EpochGrantedTwice => {
            let [one, two] = two_of(history, seed, |op| matches!(op.answer, Answer::Fenced { .. }));
            let Answer::Fenced { epoch: granted, .. } = history.ops[one].answer else { return };
            if let Answer::Fenced { epoch, .. } = &mut history.ops[two].answer {
                *epoch = granted;
            }
        }
        other => panic!("nobody knows how to do {other} to a log that is gone"),
    }
}

/// What [`damage_past`] can do.
pub const PAST: &[Kind] = &[
    Kind::ReadRewritten,
    Kind::PhantomRecord,
    Kind::RefusedButPresent,
    Kind::MovedAppend,
    Kind::StaleRead,
    Kind::StaleBeyondBound,
    Kind::ExpectedOffsetIgnored,
    Kind::EpochGrantedTwice,
];

/// The log is deleted after everything else.
pub fn delete_at_the_end(history: &mut History, asked: Option<Incarnation>) {
    let end = history.ops.iter().filter_map(|op| op.returned).max().unwrap();
    let index = |op: &Op| op.answer.stamp().map(|stamp| (stamp.log_index, stamp));
    let (log_index, last) = history.ops.iter().filter_map(index).max_by_key(|at| at.0).unwrap();
    let (op, stamp) = (OpId(1 << 40), Stamp { log_index: log_index + 1, ..last });
    history.ops.push(Op {
        id: op,
        process: Process(1 << 20),
        invoked: Moment(end.0 + 1),
        returned: Some(Moment(end.0 + 2)),
        call: Call::Delete { log: common::LOG.into() },
        answer: Answer::Deleted { stamp: Some(stamp) },
    });
    history.identities.push(Identity { op, asked, answered: None });
}

fn created(op: &Op) -> bool {
    matches!(op.answer, Answer::Created { created: true, .. })
}

fn shows(op: &Op) -> bool {
    matches!(&op.answer, Answer::Read { batches, .. } if !batches.is_empty())
}

fn shown(history: &History, at: usize) -> &Batch {
    match &history.ops[at].answer {
        Answer::Read { batches, .. } => &batches[0],
        other => panic!("{other:?} shows nothing"),
    }
}

fn answered(history: &History, op: &Op) -> Option<Incarnation> {
    let identity = history.identities.iter().find(|identity| identity.op == op.id)?;
    identity.answered.or(identity.asked)
}

fn incarnation(history: &History, at: usize) -> Incarnation {
    answered(history, &history.ops[at]).expect("it answered")
}

fn set(history: &mut History, at: usize, incarnation: Incarnation) {
    let id = history.ops[at].id;
    let identity = history.identities.iter_mut().find(|identity| identity.op == id);
    identity.expect("it answered").answered = Some(incarnation);
}

/// Two such calls that two logs answered, one after the other.
fn two_of(history: &History, seed: &mut Seed, want: impl Fn(&Op) -> bool) -> [usize; 2] {
    let index = |at: usize| history.ops[at].answer.stamp().map(|stamp| stamp.log_index);
    let fit: Vec<usize> = (0..history.ops.len()).filter(|at| want(&history.ops[*at])).collect();
    let pairs: Vec<[usize; 2]> = fit
        .iter()
        .flat_map(|one| fit.iter().map(move |two| [*one, *two]))
        .filter(|[one, two]| {
            index(*one) < index(*two) && incarnation(history, *one) != incarnation(history, *two)
        })
        .collect();
    *seed.pick(&pairs)
}

/// Two reads of a log that is gone, which begin at one offset.
fn two_that_show_the_same(
    history: &History,
    seed: &mut Seed,
    last: Option<Incarnation>,
) -> [usize; 2] {
    let begins = |at: usize| shown(history, at).first_offset;
    let fit: Vec<usize> = (0..history.ops.len())
        .filter(|at| shows(&history.ops[*at]) && answered(history, &history.ops[*at]) != last)
        .collect();
    let pairs: Vec<[usize; 2]> = fit
        .iter()
        .flat_map(|one| fit.iter().map(move |two| [*one, *two]))
        .filter(|[one, two]| {
            one != two
                && begins(*one) == begins(*two)
                && incarnation(history, *one) == incarnation(history, *two)
        })
        .collect();
    *seed.pick(&pairs)
}
