//! Time and positions: what came before what, and what a read or a trim owes to it (P6, P10 to P13).

use super::*;

/// Damages `history` so that `kind` describes it; `false`: that is another file's business.
pub fn damage(kind: Kind, history: &mut History, seed: &mut Seed) -> bool {
    match kind {
        Kind::TimestampBackwards => {
            let at = 1 + seed.below(history.replicas[0].batches.len() as u64 - 1) as usize;
            everywhere(history, |replica| replica.batches[at].timestamp_ms = 0);
        }
        Kind::RealTimeOrder => {
            // The first append was called only after all answers.
            let at = first_append(history);
            history.ops[at].invoked = Moment(1 << 40);
            history.ops[at].returned = Some(Moment(1 << 41));
        }
        Kind::PositionBackwards => {
            let at = some_op(history, seed, |op| op.id.0 > 10 && acknowledged(op));
            if let Answer::Appended { stamp: Some(stamp), .. } = &mut history.ops[at].answer {
                (stamp.log_index, stamp.term) = (0, 1);
            }
        }
        Kind::TermRewritten => {
            let at = some_op(history, seed, |op| op.id.0 > 45 && acknowledged(op));
            if let Answer::Appended { stamp: Some(stamp), .. } = &mut history.ops[at].answer {
                stamp.term = 0;
            }
        }
        Kind::StaleRead => {
            let at = long_read(history, seed);
            history.ops[at].invoked = Moment(1 << 40);
            history.ops[at].returned = Some(Moment(1 << 41));
            if let Answer::Read { batches, next_offset, .. } = &mut history.ops[at].answer {
                let cut = batches.pop().unwrap();
                *next_offset = cut.first_offset;
            }
        }
        Kind::FutureRead => {
            let at = long_read(history, seed);
            history.ops[at].invoked = Moment(0);
            history.ops[at].returned = Some(Moment(1));
        }
        Kind::StaleBeyondBound => {
            let at = claimed(history, seed);
            let op = &mut history.ops[at];
            // Long after everything was acknowledged.
            (op.invoked, op.returned) = (Moment(1 << 40), Some(Moment(1 << 41)));
            if let Call::Read { linearizable, .. } = &mut op.call {
                *linearizable = false;
            }
            if let Answer::Read { batches, next_offset, .. } = &mut op.answer {
                let cut = batches.pop().unwrap();
                *next_offset = cut.first_offset;
            }
        }
        Kind::SessionBroken => {
            let at = claimed(history, seed);
            let id = history.ops[at].id;
            let claim = history.claims.iter_mut().find(|claim| claim.op == id).unwrap();
            claim.at_least = Some(Offset(1 << 40));
        }
        Kind::TrimUndone => {
            let start = history.replicas[0].next_offset;
            trim(history, start, Answer::Trimmed { start, stamp: None });
        }
        Kind::TrimUnasked => everywhere(history, |replica| {
            let gone = replica.batches.remove(0);
            replica.start_offset = gone.next_offset();
        }),
        Kind::TrimmedShown => {
            let at = long_read(history, seed);
            history.ops[at].invoked = Moment(1 << 40);
            history.ops[at].returned = Some(Moment(1 << 41));
            let start = history.replicas[0].next_offset;
            trim(history, start, Answer::Trimmed { start, stamp: None });
            everywhere(history, |replica| {
                replica.batches.clear();
                replica.start_offset = start;
            });
        }
        _ => return false,
    }
    true
}

/// A trim, early and alone.
fn trim(history: &mut History, before: Offset, answer: Answer) {
    history.ops.push(Op {
        id: OpId(1 << 40),
        process: Process(1 << 20),
        invoked: Moment(0),
        returned: Some(Moment(1)),
        call: Call::Trim { log: common::LOG.into(), before },
        answer,
    });
}
