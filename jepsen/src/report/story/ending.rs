//! What the replicas had in the end, where that is not what was acknowledged.

use std::collections::BTreeMap;

use quorate_jepsen_core::{
    history::History,
    ids::RecordId,
    op::{Answer, Append, Call, Op},
};

use super::SHOWN;

/// What was at the offsets of acknowledged appends when all replicas were read back, a sentence a
/// replica that has something else there.
#[must_use]
pub fn in_the_end(history: &History, ops: &[&Op]) -> Vec<String> {
    let mut told = Vec::new();
    for op in ops {
        let (Call::Append(append), Answer::Appended { first_offset, next_offset, .. }) =
            (&op.call, &op.answer)
        else {
            continue;
        };
        let asked: Vec<_> = append.records.iter().map(|record| Some(*record)).collect();
        for replica in history.replicas.iter().filter(|replica| replica.log == append.log) {
            let there: Vec<_> = replica
                .batches
                .iter()
                .flat_map(|batch| (batch.first_offset.0..).zip(&batch.records))
                .filter(|(offset, _)| (first_offset.0..next_offset.0).contains(offset))
                .map(|(_, record)| *record)
                .collect();
            if there != asked {
                told.push(format!(
                    "In the end n{} had {} at offsets {first_offset} to {}",
                    replica.node,
                    records(&there),
                    next_offset.0.saturating_sub(1)
                ));
            }
        }
        told.extend(stored_again(history, append));
    }
    told
}

/// Where the records of an append were, if they were there more than once: a sentence for all replicas
/// that say the same.
fn stored_again(history: &History, append: &Append) -> Vec<String> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for replica in history.replicas.iter().filter(|replica| replica.log == append.log) {
        let stored = replica
            .batches
            .iter()
            .flat_map(|batch| (batch.first_offset.0..).zip(batch.records.iter().copied()));
        let mut places: BTreeMap<RecordId, Vec<u64>> = BTreeMap::new();
        for (offset, record) in stored {
            if let Some(record) = record.filter(|record| append.records.contains(record)) {
                places.entry(record).or_default().push(offset);
            }
        }
        for (record, offsets) in places.iter().filter(|(_, offsets)| offsets.len() > 1).take(SHOWN)
        {
            let offsets: Vec<_> = offsets.iter().map(ToString::to_string).collect();
            let what = format!(
                "record {record} {} times, at offsets {}",
                offsets.len(),
                offsets.join(", ")
            );
            told.entry(what).or_default().push(format!("n{}", replica.node));
        }
    }
    let sentence =
        |(what, nodes): (_, Vec<String>)| format!("In the end {} had {what}", nodes.join(", "));
    told.into_iter().map(sentence).collect()
}

fn records(all: &[Option<RecordId>]) -> String {
    let name = |record: &Option<RecordId>| {
        record.map_or("damaged bytes".to_owned(), |record| format!("record {record}"))
    };
    let mut names: Vec<_> = all.iter().take(SHOWN).map(name).collect();
    match all.len() {
        0 => return "nothing".to_owned(),
        more if more > SHOWN => names.push(format!("{} more", more - SHOWN)),
        _ => {}
    }
    names.join(", ")
}
