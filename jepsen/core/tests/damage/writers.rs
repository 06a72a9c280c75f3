//! Promises to writers: producers, writer epochs, expected offsets (P4, P7 to P9).

use super::*;

/// Damages `history` so that `kind` describes it; `false`: that is another file's business.
pub fn damage(kind: Kind, history: &mut History, seed: &mut Seed) -> bool {
    match kind {
        Kind::ProducerReordered => {
            let [a, b] = two_of_a_producer(history);
            let (a, b) = (stored_at(history, &history.ops[a]), stored_at(history, &history.ops[b]));
            everywhere(history, |replica| {
                let (left, right) = replica.batches.split_at_mut(b);
                std::mem::swap(&mut left[a].records, &mut right[0].records);
                renumber(replica);
            });
        }
        Kind::ProducerHole => {
            let [a, _] = two_of_a_producer(history);
            let batch = stored_at(history, &history.ops[a]);
            history.ops[a].answer = Answer::Unknown { kind: "UNAVAILABLE".into() };
            everywhere(history, |replica| {
                replica.batches.remove(batch);
                renumber(replica);
            });
        }
        Kind::SequenceBroken => {
            let [a, _] = two_of_a_producer(history);
            let batch = stored_at(history, &history.ops[a]);
            everywhere(history, |replica| {
                replica.batches[batch].producer.as_mut().unwrap().1 += 7;
            });
        }
        Kind::StaleEpoch => everywhere(history, |replica| {
            replica.batches.last_mut().unwrap().writer_epoch = None;
        }),
        Kind::FencedAppend => {
            let end = history.replicas[0].next_offset;
            let at = some_op(
                history,
                seed,
                |op| matches!(op.answer, Answer::Fenced { next_offset, .. } if next_offset < end),
            );
            if let Answer::Fenced { epoch, .. } = &mut history.ops[at].answer {
                epoch.0 = 1 << 40;
            }
        }
        Kind::EpochBeforeGrant => {
            let at = some_op(history, seed, |op| matches!(op.answer, Answer::Fenced { .. }));
            let end = history.replicas[0].next_offset;
            if let Answer::Fenced { epoch, next_offset, .. } = &mut history.ops[at].answer {
                (*epoch, *next_offset) = (Epoch(1), end);
            }
        }
        Kind::EpochGrantedTwice => {
            let at = some_op(history, seed, |op| matches!(op.answer, Answer::Fenced { .. }));
            let again = Op { id: OpId(1 << 40), ..history.ops[at].clone() };
            history.ops.push(again);
        }
        Kind::EpochBackwards => {
            let fences: Vec<_> = history
                .ops
                .iter()
                .enumerate()
                .filter(|(_, op)| matches!(op.answer, Answer::Fenced { .. }))
                .map(|(at, _)| at)
                .collect();
            let (first, last) = (fences[0], fences[fences.len() - 1]);
            let answer = history.ops[first].answer.clone();
            history.ops[first].answer = history.ops[last].answer.clone();
            history.ops[last].answer = answer;
        }
        Kind::WrongEpoch => {
            let at = some_op(history, seed, acknowledged);
            if let Call::Append(append) = &mut history.ops[at].call {
                append.writer_epoch = Some(Epoch(1 << 40));
            }
        }
        Kind::ExpectedOffsetIgnored => {
            let at = some_op(history, seed, acknowledged);
            if let Call::Append(append) = &mut history.ops[at].call {
                append.expected_offset = Some(Offset(1 << 40));
            }
        }
        Kind::ExpectedOffsetMisjudged => {
            let at = some_op(
                history,
                seed,
                |op| matches!(&op.answer, Answer::Refused { kind, .. } if kind == "OFFSET_MISMATCH"),
            );
            let expected = append(&history.ops[at]).unwrap().expected_offset;
            if let Answer::Refused { next_offset, .. } = &mut history.ops[at].answer {
                *next_offset = expected;
            }
        }
        _ => return false,
    }
    true
}
