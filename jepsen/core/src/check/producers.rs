//! A producer's records are there in the order in which it sent them, without holes (G4).

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
};

use super::{FinalLog, Findings, Kind};
use crate::{
    ids::{Offset, OpId, RecordId},
    op::{Answer, Batch, Call, Op},
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
    stored_sequences(log, ops, found);
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
fn stored_sequences(log: &FinalLog, ops: &[&Op], found: &mut Findings) {
    let mut last: BTreeMap<&str, (u64, &Batch)> = BTreeMap::new();
    // Only a log in which something is wrong needs it.
    let senders = LazyCell::new(|| senders(ops));
    for batch in &log.batches {
        let Some((producer, sequence)) = &batch.producer else { continue };
        let before = last.insert(producer, (*sequence, batch));
        let right = before
            .map_or(log.start > Offset(0) || *sequence == 0, |(last, _)| *sequence == last + 1);
        if !right {
            let at = batch.first_offset;
            let before_it = before.map_or("it is the first".to_owned(), |(last, batch)| {
                format!("the one before it, at offset {}, has {last}", batch.first_offset)
            });
            let what = format!(
                "producer {producer}: the batch at offset {at} has sequence {sequence}, and {before_it}"
            );
            let both = before.map(|(_, batch)| batch).into_iter().chain([batch]);
            let records = both.flat_map(|batch| batch.records.iter().flatten());
            // A batch that is stored twice was sent by one operation.
            let sent: BTreeSet<OpId> =
                records.filter_map(|record| senders.get(record).copied()).collect();
            found.add(Kind::SequenceBroken, &log.name, &sent.into_iter().collect::<Vec<_>>(), what);
        }
    }
}

/// Which append sent a record.
fn senders(ops: &[&Op]) -> BTreeMap<RecordId, OpId> {
    let sent = ops.iter().filter_map(|op| match &op.call {
        Call::Append(append) => Some(append.records.iter().map(|record| (*record, op.id))),
        _ => None,
    });
    sent.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::check as judge,
        history::History,
        ids::{Moment, Node, Process},
        op::{Append, ReplicaLog},
    };

    const LOG: &str = "orders";

    fn append(id: u64, record: u64) -> Op {
        Op {
            id: OpId(id),
            process: Process(1),
            invoked: Moment(id * 10),
            returned: Some(Moment(id * 10 + 5)),
            call: Call::Append(Append {
                log: LOG.to_owned(),
                records: vec![RecordId(record)],
                producer: Some("p".to_owned()),
                ..Append::default()
            }),
            answer: Answer::Unknown { kind: "x".to_owned() },
        }
    }

    /// Batches of one record each, as (record, sequence).
    fn stored(batches: &[(u64, u64)]) -> ReplicaLog {
        let batch = |(at, (record, sequence)): (usize, &(u64, u64))| Batch {
            first_offset: Offset(at as u64),
            records: vec![Some(RecordId(*record))],
            timestamp_ms: 1,
            crc32c: 0,
            writer_epoch: None,
            producer: Some(("p".to_owned(), *sequence)),
        };
        ReplicaLog {
            node: Node(1),
            log: LOG.to_owned(),
            incarnation: None,
            start_offset: Offset(0),
            next_offset: Offset(batches.len() as u64),
            batches: batches.iter().enumerate().map(batch).collect(),
        }
    }

    /// The operations that a broken sequence names.
    fn involved(ops: &[Op], batches: &[(u64, u64)]) -> Vec<u64> {
        let history = History {
            ops: ops.to_vec(),
            replicas: vec![stored(batches)],
            expected_replicas: 1,
            ..History::default()
        };
        let found = judge(&history).anomalies;
        let found = found.iter().find(|found| found.kind == Kind::SequenceBroken).unwrap();
        found.ops.iter().map(|op| op.0).collect()
    }

    #[test]
    fn a_broken_sequence_names_who_sent_both_batches() {
        let ops = [append(1, 7), append(2, 8), append(3, 9)];
        // One is skipped: whoever sent the batch before it, and its own sender.
        assert_eq!(involved(&ops, &[(7, 0), (8, 1), (9, 3)]), [2, 3]);
        // One append that is stored twice is one operation.
        assert_eq!(involved(&ops, &[(7, 0), (8, 1), (8, 1), (9, 2)]), [2]);
        // None is before the first.
        assert_eq!(involved(&ops, &[(9, 3)]), [3]);
    }
}
