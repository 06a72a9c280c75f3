//! The state machine does what the naive model does.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quorate_state_machine::{
    command::Command,
    memory::Memory,
    outcome::{Accepted, Outcome},
    types::{Incarnation, ProducerId, Sequence},
};

use super::{
    reads,
    stream::{Entry, Resolved, Resolver, entries},
};

/// Applies entries one by one, and compares all that can be seen after each `every`th.
fn compare(entries: &[Entry], every: usize) -> Vec<(Resolved, Vec<Outcome>)> {
    let mut resolver = Resolver::default();
    let mut memory = Memory::new();
    let mut all = Vec::new();
    for (n, entry) in entries.iter().enumerate() {
        let resolved = resolver.resolve(entry);
        let outcomes = memory.apply(std::slice::from_ref(&resolved.item)).expect("sound state");
        let outcomes = outcomes.into_iter().next().expect("one list per item");
        if let Some(expected) = &resolved.expected {
            assert_eq!(&outcomes, expected, "entry {}", n + 1);
        }
        if (n + 1) % every == 0 || n + 1 == entries.len() {
            reads::check(&memory, &resolver.model);
        }
        all.push((resolved, outcomes));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn outcomes_and_reads_are_those_of_the_naive_model(entries in entries(true)) {
        compare(&entries, 7);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// While no producer expires: each (log, producer, sequence) is appended at most once, whatever
    /// is retried; every retry is answered with the original offsets; and offsets are dense.
    #[test]
    fn appends_happen_exactly_once_and_offsets_are_dense(entries in entries(false)) {
        let mut originals = BTreeMap::<(Incarnation, ProducerId, Sequence), _>::new();
        let mut ends = BTreeMap::<Incarnation, u64>::new();
        for (resolved, outcomes) in compare(&entries, usize::MAX) {
            for (command, outcome) in resolved.commands.iter().flatten().zip(&outcomes) {
                let (Command::Append(parts), Ok(Accepted::Appended(appended))) =
                    (command, &outcome.result)
                else {
                    continue;
                };
                for (part, done) in parts.iter().zip(appended) {
                    if let Some((producer, sequence)) = part.producer {
                        let key = (done.incarnation, producer, sequence);
                        let what = (done.first_offset, done.next_offset, done.timestamp);
                        if done.deduplicated {
                            prop_assert_eq!(originals.get(&key), Some(&what));
                        } else {
                            prop_assert_eq!(originals.insert(key, what), None);
                        }
                    }
                    if !done.deduplicated {
                        let end = ends.entry(done.incarnation).or_default();
                        prop_assert_eq!(*end, done.first_offset.0);
                        *end += u64::from(part.batch.count);
                        prop_assert_eq!(*end, done.next_offset.0);
                    }
                }
            }
        }
    }
}

/// The streams reach what they are for.
#[test]
fn streams_meet_every_outcome_they_can() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut codes = BTreeSet::new();
    let (mut repeated, mut expired) = (0, 0);
    for _ in 0..200 {
        let entries = entries(true).new_tree(&mut runner).expect("a stream").current();
        let mut resolver = Resolver::default();
        for entry in &entries {
            let resolved = resolver.resolve(entry);
            for outcome in resolved.expected.iter().flatten() {
                match &outcome.result {
                    Ok(Accepted::Appended(parts)) => {
                        repeated += parts.iter().filter(|part| part.deduplicated).count();
                    }
                    Ok(_) => {}
                    Err(refused) => {
                        codes.insert(refused.code());
                    }
                }
            }
            let now = resolver.model.log_time;
            let producers = resolver.model.logs.values().flat_map(|log| log.producers.values());
            expired += producers.filter(|p| p.used + 26 * 3_600_000 < now).count();
        }
    }
    // Without TooManyProducers, TooManyLogs, Overflow (limits no stream reaches) and Undecodable
    // (not predicted by the model).
    let reachable: BTreeSet<u8> =
        (1..=16).filter(|code| ![11, 13, 15, 16].contains(code)).collect();
    assert_eq!(codes, reachable);
    assert!(repeated > 100, "{repeated} repetitions");
    assert!(expired > 100, "{expired} expired producers seen");
}
