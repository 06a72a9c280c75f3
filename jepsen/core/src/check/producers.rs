//! A producer's records are there in the order in which it sent them, without holes (G4).

use std::collections::BTreeMap;

use super::{FinalLog, Findings, Kind};
use crate::{
    ids::{Offset, OpId},
    op::{Answer, Call, Op},
};

pub(super) fn check(log: &FinalLog, ops: &[&Op], found: &mut Findings) {
    // `ops` are sorted by invocation, so each producer's list is in the order of its submissions.
    let mut producers: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in ops {
        if let Call::Append(append) = &op.call
            && let Some(producer) = &append.producer
        {
            producers.entry(producer).or_default().push(op);
        }
    }
    for (producer, ops) in producers {
        sent_order(log, producer, &ops, found);
    }
    stored_sequences(log, found);
}

fn sent_order(log: &FinalLog, producer: &str, ops: &[&Op], found: &mut Findings) {
    let mut last: Option<(Offset, OpId)> = None;
    let mut absent: Option<OpId> = None;
    for op in ops {
        let Call::Append(append) = &op.call else { continue };
        let offset = append.records.first().and_then(|id| log.offset_of(*id));
        match (offset, &op.answer) {
            (Some(offset), _) => {
                if let Some(absent) = absent.take() {
                    let what = format!("producer {producer}: absent, yet the next one is there");
                    found.add(Kind::ProducerHole, &log.name, &[absent, op.id], what);
                }
                if let Some((before, earlier)) = last
                    && before >= offset
                {
                    let what = format!("producer {producer}: at {before}, the next at {offset}");
                    found.add(Kind::ProducerReordered, &log.name, &[earlier, op.id], what);
                }
                last = Some((offset, op.id));
            }
            // A refusal with effect NONE took no sequence.
            (None, Answer::Refused { .. }) => {}
            (None, _) if log.start == Offset(0) => absent = Some(op.id),
            (None, _) => {}
        }
    }
}

/// What the server stored with the batches must tell the same story as the clients.
fn stored_sequences(log: &FinalLog, found: &mut Findings) {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for batch in &log.batches {
        let Some((producer, sequence)) = &batch.producer else { continue };
        let before = last.insert(producer, *sequence);
        let right = before.map_or(log.start > Offset(0) || *sequence == 0, |b| *sequence == b + 1);
        if !right {
            let before = before.map_or("at the begin".to_owned(), |b| format!("behind {b}"));
            let what = format!(
                "producer {producer}: sequence {sequence} at offset {}, {before}",
                batch.first_offset
            );
            found.add(Kind::SequenceBroken, &log.name, &[], what);
        }
    }
}
