//! A good history is damaged in one place, and the checker must name the damage: every anomaly
//! there is, by its name, under many seeds.
mod common;

use std::collections::BTreeSet;

use quorate_jepsen_core::{
    check::{Kind, Verdict, check},
    history::History,
    ids::{Epoch, Moment, Offset, OpId, Process, RecordId},
    op::{Answer, Append, Batch, Call, Op, ReplicaLog},
    seed::Seed,
};

const SEEDS: u64 = 25;

fn everywhere(history: &mut History, mut change: impl FnMut(&mut ReplicaLog)) {
    history.replicas.iter_mut().for_each(&mut change);
}

/// Gives the batches dense offsets again.
fn renumber(replica: &mut ReplicaLog) {
    let mut next = replica.start_offset;
    for batch in &mut replica.batches {
        batch.first_offset = next;
        next = batch.next_offset();
    }
    replica.next_offset = next;
}

fn batch(records: &[RecordId], like: &Batch) -> Batch {
    let records = records.iter().copied().map(Some).collect();
    Batch { records, producer: None, ..like.clone() }
}

fn append(op: &Op) -> Option<&Append> {
    match &op.call {
        Call::Append(append) => Some(append),
        _ => None,
    }
}

/// A random operation with this property.
fn some_op(history: &History, seed: &mut Seed, want: impl Fn(&Op) -> bool) -> usize {
    let fit: Vec<_> = (0..history.ops.len()).filter(|at| want(&history.ops[*at])).collect();
    *seed.pick(&fit)
}

fn acknowledged(op: &Op) -> bool {
    matches!(op.answer, Answer::Appended { .. })
}

fn stored_at(history: &History, op: &Op) -> usize {
    let record = append(op).expect("an append").records[0];
    history.replicas[0]
        .batches
        .iter()
        .position(|batch| batch.records.contains(&Some(record)))
        .expect("it is stored")
}

/// Damages `history` so that `kind` describes it.
fn damage(kind: Kind, history: &mut History, seed: &mut Seed) {
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
        Kind::TimestampBackwards => {
            let at = 1 + seed.below(history.replicas[0].batches.len() as u64 - 1) as usize;
            everywhere(history, |replica| replica.batches[at].timestamp_ms = 0);
        }
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
        Kind::ReplicasDiffer => {
            let replica = seed.pick(&[0, 1, 2]);
            history.replicas[*replica].batches.last_mut().unwrap().crc32c ^= 1;
        }
        Kind::DigestsDiffer => history.digests[2].digest = "0ther".into(),
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
        Kind::StaleRead => {
            let at = long_read(history, seed);
            history.ops[at].invoked = Moment(1 << 40);
            history.ops[at].returned = Some(Moment(1 << 41));
            if let Answer::Read { batches, next_offset, .. } = &mut history.ops[at].answer {
                let cut = batches.pop().unwrap();
                *next_offset = cut.first_offset;
            }
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
        Kind::FutureRead => {
            let at = long_read(history, seed);
            history.ops[at].invoked = Moment(0);
            history.ops[at].returned = Some(Moment(1));
        }
    }
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

/// A read of which something was claimed.
fn claimed(history: &History, seed: &mut Seed) -> usize {
    some_op(history, seed, |op| {
        matches!(&op.answer, Answer::Read { batches, .. } if batches.len() > 2)
            && history.claims.iter().any(|claim| claim.op == op.id)
    })
}

fn long_read(history: &History, seed: &mut Seed) -> usize {
    some_op(
        history,
        seed,
        |op| matches!(&op.answer, Answer::Read { batches, .. } if batches.len() > 2),
    )
}

fn first_append(history: &History) -> usize {
    let first = history.replicas[0].batches[0].records[0].unwrap();
    let is = |op: &Op| append(op).is_some_and(|append| append.records[0] == first);
    history.ops.iter().position(is).unwrap()
}

fn two_of_a_producer(history: &History) -> [usize; 2] {
    let of = |producer: &str| -> Vec<usize> {
        (0..history.ops.len())
            .filter(|at| {
                append(&history.ops[*at]).and_then(|a| a.producer.as_deref()) == Some(producer)
            })
            .collect()
    };
    let ops = of("p0");
    [ops[0], ops[1]]
}

#[test]
fn honest_histories_are_valid() {
    for seed in 0..200 {
        let report = check(&common::good(seed, 200));
        assert_eq!(report.verdict(), Verdict::Valid, "seed {seed}: {report}");
    }
}

#[test]
fn every_damage_is_named() {
    let mut missed = BTreeSet::new();
    for kind in Kind::ALL {
        for number in 0..SEEDS {
            let mut history = common::good(number, 250);
            damage(*kind, &mut history, &mut Seed::new(number).fork(kind.name()));
            history.ops.sort_by_key(|op| (op.invoked, op.id));
            let report = check(&history);
            if !report.kinds().contains_key(kind) {
                missed.insert(format!("{kind} under seed {number}: {report}"));
            }
        }
    }
    assert!(missed.is_empty(), "not named:\n{}", missed.into_iter().collect::<String>());
}

/// What a bound allows is no anomaly.
#[test]
fn a_read_may_lack_what_is_younger_than_its_bound() {
    for seed in 0..50 {
        let mut history = common::good(seed, 200);
        for op in history.ops.iter_mut().filter(|op| matches!(op.call, Call::Read { .. })) {
            if let Call::Read { linearizable, .. } = &mut op.call {
                *linearizable = false;
            }
            // Answered from a state of a long time ago, counted in the model's microseconds.
            op.invoked.0 += 9_000_000;
            op.returned = op.returned.map(|at| Moment(at.0 + 9_000_000));
        }
        for claim in &mut history.claims {
            (claim.bound_ms, claim.age_ms) = (Some(7), Some(30));
        }
        assert_eq!(check(&history).verdict(), Verdict::Valid, "seed {seed}: {}", check(&history));
        for claim in &mut history.claims {
            (claim.bound_ms, claim.age_ms) = (Some(30), Some(5));
        }
        assert!(check(&history).kinds().contains_key(&Kind::StaleBeyondBound), "seed {seed}");
    }
}

/// What an age allows depends on when the answer was made, and on how wrong clocks may be.
#[test]
fn an_age_counts_from_the_answer_by_the_nodes_clock() {
    const MS: u64 = 1_000_000;
    let bounded = |served: u64, age_ms: u64, error_ppm: u64| {
        let mut history = common::good(1, 200);
        let at = claimed(&history, &mut Seed::new(1));
        let last = history.ops.iter().filter_map(|op| op.returned).max().unwrap();
        let op = &mut history.ops[at];
        if let Call::Read { linearizable, .. } = &mut op.call {
            *linearizable = false;
        }
        let (id, answered) = (op.id, last.0 + 2 * served);
        op.returned = Some(Moment(answered));
        if let Answer::Read { batches, next_offset, .. } = &mut op.answer {
            *next_offset = batches.pop().unwrap().first_offset;
        }
        for claim in history.claims.iter_mut().filter(|claim| claim.op == id) {
            (claim.bound_ms, claim.age_ms, claim.at_least) = (None, Some(age_ms), None);
            claim.served = Some(Moment(last.0 + served));
        }
        history.clock_error_ppm = error_ppm;
        check(&history).kinds().contains_key(&Kind::StaleBeyondBound)
    };
    assert!(!bounded(100 * MS, 100, 0), "acknowledged less than the age before the answer");
    assert!(bounded(110 * MS, 100, 0), "and more than that");
    assert!(!bounded(110 * MS, 100, 200_000), "which a slow clock took for less");
    assert!(bounded(130 * MS, 100, 200_000), "but not for that much less");
}

#[test]
fn a_replica_that_was_not_read_makes_the_verdict_unknown() {
    let mut history = common::good(1, 100);
    history.replicas.pop();
    assert_eq!(check(&history).verdict(), Verdict::Unknown);
    history.replicas.clear();
    assert_eq!(check(&history).verdict(), Verdict::Unknown);
}

#[test]
fn a_history_survives_its_file() {
    let history = common::good(3, 300);
    let mut file = Vec::new();
    history.write(&mut file).unwrap();
    assert_eq!(History::read(file.as_slice()).unwrap(), history);
}

#[test]
fn a_large_history_is_judged_quickly() {
    // Not a benchmark: a check that were quadratic would take minutes here.
    let report = check(&common::good(5, 60_000));
    assert_eq!(report.verdict(), Verdict::Valid, "{report}");
}
