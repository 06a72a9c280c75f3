//! What is stored: records that are missing, elsewhere, twice, damaged or nobody's (P1 to P5, P14).

use super::*;

/// Damages `history` so that `kind` describes it; `false`: that is another file's business.
pub fn damage(kind: Kind, history: &mut History, seed: &mut Seed) -> bool {
    match kind {
        Kind::LostAppend => {
            let at = some_op(history, seed, acknowledged);
            let batch = stored_at(history, &history.ops[at]);
            everywhere(history, |replica| {
                replica.batches.remove(batch);
                renumber(replica);
            });
        }
        Kind::MovedAppend => {
            // Two neighbours of one size change places.
            let at = 1
                + (0..)
                    .find(|at| {
                        let batches = &history.replicas[0].batches;
                        batches[*at].records.len() == batches[at + 1].records.len()
                            && history.ops.iter().any(|op| {
                                acknowledged(op)
                                    && append(op).unwrap().records[0]
                                        == batches[*at].records[0].unwrap()
                            })
                    })
                    .expect("two of one size");
            everywhere(history, |replica| {
                let (left, right) = replica.batches.split_at_mut(at);
                std::mem::swap(&mut left[at - 1].records, &mut right[0].records);
            });
        }
        Kind::DuplicateRecord => {
            let at = some_op(history, seed, acknowledged);
            let again = history.replicas[0].batches[stored_at(history, &history.ops[at])].clone();
            everywhere(history, |replica| {
                let last = replica.batches.last().unwrap().clone();
                replica.batches.push(Batch { records: again.records.clone(), ..last });
                renumber(replica);
            });
        }
        Kind::PhantomRecord => everywhere(history, |replica| {
            let last = replica.batches.last().unwrap().clone();
            replica.batches.push(batch(&[RecordId(1 << 60)], &last));
            renumber(replica);
        }),
        Kind::DamagedRecord => {
            let at = seed.below(history.replicas[0].batches.len() as u64) as usize;
            everywhere(history, |replica| replica.batches[at].records[0] = None);
        }
        Kind::RefusedButPresent => {
            let at = some_op(history, seed, |op| {
                append(op).is_some() && matches!(op.answer, Answer::Refused { .. })
            });
            let records = append(&history.ops[at]).unwrap().records.clone();
            everywhere(history, |replica| {
                let last = replica.batches.last().unwrap().clone();
                replica.batches.push(batch(&records, &last));
                renumber(replica);
            });
        }
        Kind::TornBatch => {
            let at = some_op(history, seed, |op| {
                acknowledged(op) && append(op).unwrap().records.len() > 1
            });
            let batch = stored_at(history, &history.ops[at]);
            everywhere(history, |replica| replica.batches[batch].records.swap(0, 1));
        }
        Kind::WrongCount => {
            let at = some_op(history, seed, acknowledged);
            if let Answer::Appended { next_offset, .. } = &mut history.ops[at].answer {
                next_offset.0 += 1;
            }
        }
        Kind::OffsetGap => {
            let at = seed.below(history.replicas[0].batches.len() as u64) as usize;
            everywhere(history, |replica| {
                replica.batches.remove(at);
            });
        }
        Kind::OffsetOverlap => everywhere(history, |replica| {
            let last = replica.batches.last().unwrap().clone();
            replica.batches.push(last);
        }),
        Kind::ReplicasDiffer => {
            let replica = seed.pick(&[0, 1, 2]);
            history.replicas[*replica].batches.last_mut().unwrap().crc32c ^= 1;
        }
        Kind::DigestsDiffer => history.digests[2].digest = "0ther".into(),
        Kind::ReadRewritten => {
            let at = long_read(history, seed);
            if let Answer::Read { batches, .. } = &mut history.ops[at].answer {
                batches.last_mut().unwrap().records[0] = Some(RecordId(1 << 50));
            }
        }
        Kind::ReadGap => {
            let at = long_read(history, seed);
            if let Answer::Read { batches, .. } = &mut history.ops[at].answer {
                batches.remove(batches.len() / 2);
            }
        }
        _ => return false,
    }
    true
}
