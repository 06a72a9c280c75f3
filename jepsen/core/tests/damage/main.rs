//! A good history is damaged in one place, and the checker must name the damage: every anomaly
//! there is, by its name, under many seeds.
#[path = "../common/mod.rs"]
mod common;
mod find;
mod lives;
mod order;
mod records;
mod writers;

use std::collections::BTreeSet;

use quorate_jepsen_core::{
    check::{Kind, Verdict, check},
    history::History,
    ids::{Epoch, Moment, Offset, OpId, Process, RecordId},
    op::{Answer, Append, Batch, Call, Op, ReplicaLog},
    seed::Seed,
};

use find::*;

const SEEDS: u64 = 25;

/// A history damaged so that `kind` describes it.
fn damaged(kind: Kind, number: u64) -> History {
    let mut seed = Seed::new(number).fork(kind.name());
    let mut history = common::good(number, 250);
    let done = records::damage(kind, &mut history, &mut seed)
        || order::damage(kind, &mut history, &mut seed)
        || writers::damage(kind, &mut history, &mut seed);
    if !done {
        history = common::lives::lives(number, 600);
        assert!(lives::damage(kind, &mut history, &mut seed), "nobody knows how to do {kind}");
    }
    history.ops.sort_by_key(|op| (op.invoked, op.id));
    history
}

#[test]
fn honest_histories_are_valid() {
    for seed in 0..200 {
        let report = check(&common::good(seed, 200));
        assert_eq!(report.verdict(), Verdict::Valid, "seed {seed}: {report}");
        let report = check(&common::lives::lives(seed, 300));
        assert_eq!(report.verdict(), Verdict::Valid, "logs of seed {seed}: {report}");
    }
}

#[test]
fn every_damage_is_named() {
    let mut missed = BTreeSet::new();
    for kind in Kind::ALL {
        for number in 0..SEEDS {
            let report = check(&damaged(*kind, number));
            if !report.kinds().contains_key(kind) {
                missed.insert(format!("{kind} under seed {number}: {report}"));
            }
        }
    }
    assert!(missed.is_empty(), "not named:\n{}", missed.into_iter().collect::<String>());
}

#[test]
fn every_damage_to_a_log_that_is_gone_is_named() {
    let mut missed = BTreeSet::new();
    for kind in lives::PAST {
        for number in 0..SEEDS {
            let mut history = common::lives::lives(number, 600);
            lives::damage_past(*kind, &mut history, &mut Seed::new(number).fork(kind.name()));
            history.ops.sort_by_key(|op| (op.invoked, op.id));
            let report = check(&history);
            if !report.kinds().contains_key(kind) {
                missed.insert(format!("{kind} under seed {number}: {report}"));
            }
        }
    }
    assert!(missed.is_empty(), "not named:\n{}", missed.into_iter().collect::<String>());
}

/// A name that no log has at the end is judged by what is known of those that had it.
#[test]
fn a_log_that_is_gone_at_the_end_was_deleted() {
    for number in 0..SEEDS {
        let mut history = common::lives::lives(number, 600);
        let last = history.replicas[0].incarnation;
        // One whose answer was lost may have done it.
        history.ops.retain(|op| {
            !matches!((&op.call, &op.answer), (Call::Delete { .. }, Answer::Unknown { .. }))
        });
        find::everywhere(&mut history, |replica| {
            (replica.incarnation, replica.next_offset) = (None, Offset(0));
            replica.batches.clear();
        });
        let report = check(&history);
        assert!(report.kinds().contains_key(&Kind::LogMissing), "seed {number}: {report}");
        lives::delete_at_the_end(&mut history, last);
        let report = check(&history);
        assert_eq!(report.verdict(), Verdict::Valid, "seed {number}: {report}");
        find::everywhere(&mut history, |replica| replica.incarnation = last);
        let report = check(&history);
        assert!(report.kinds().contains_key(&Kind::DeletedLogAnswers), "seed {number}: {report}");
    }
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
        let at = find::claimed(&history, &mut Seed::new(1));
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
    for history in [common::good(3, 300), common::lives::lives(3, 300)] {
        let mut file = Vec::new();
        history.write(&mut file).unwrap();
        assert_eq!(History::read(file.as_slice()).unwrap(), history);
    }
}

#[test]
fn a_large_history_is_judged_quickly() {
    // Not a benchmark: a check that were quadratic would take minutes here.
    let report = check(&common::good(5, 60_000));
    assert_eq!(report.verdict(), Verdict::Valid, "{report}");
}
