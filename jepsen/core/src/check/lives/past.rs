//! Logs that are gone: what their readers were shown and their writers were told has to agree, and
//! none of it is in another log of the name.

use std::collections::BTreeMap;

use super::Lives;
use crate::{
    check::{FinalLog, Findings, Kind, expected, fencing, order, reads},
    ids::{Incarnation, Node, Offset, OpId, RecordId},
    op::{Answer, Append, Batch, Call, Op, ReplicaLog},
};

/// A record, seen in a log by somebody.
type Seen = (RecordId, Incarnation, Option<OpId>);

pub(super) fn check(
    name: &str,
    ops: &[&Op],
    last: Option<&FinalLog>,
    lives: &Lives<'_>,
    found: &mut Findings,
) {
    let mut seen = everything_seen(ops, lives);
    if let Some(log) = last
        && let Some(incarnation) = log.incarnation
    {
        seen.extend(log.placed().iter().map(|placed| (placed.record, incarnation, None)));
    }
    seen.sort_unstable();
    seen.dedup_by_key(|(record, incarnation, _)| (*record, *incarnation));
    stays_where_it_was(name, &seen, found);
    was_sent(name, ops, &seen, found);
    let last = last.and_then(|log| log.incarnation);
    for life in lives.ranks.get(name).into_iter().flatten() {
        if Some(life.incarnation) != last {
            let meant = |op: &&&Op| {
                let told = lives.answered(op).or_else(|| lives.asked(op));
                told.is_none_or(|told| told == life.incarnation)
            };
            let ops: Vec<&Op> = ops.iter().filter(meant).copied().collect();
            judge(name, life.incarnation, &ops, lives, found);
        }
    }
}

fn everything_seen(ops: &[&Op], lives: &Lives<'_>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for op in ops {
        let Some(incarnation) = lives.answered(op) else { continue };
        match (&op.call, &op.answer) {
            (Call::Append(append), Answer::Appended { .. }) => {
                let records = append.records.iter();
                seen.extend(records.map(|record| (*record, incarnation, Some(op.id))));
            }
            (_, Answer::Read { batches, .. }) => {
                let records = batches.iter().flat_map(|batch| &batch.records).flatten();
                seen.extend(records.map(|record| (*record, incarnation, Some(op.id))));
            }
            _ => {}
        }
    }
    seen
}

fn stays_where_it_was(name: &str, seen: &[Seen], found: &mut Findings) {
    for pair in seen.windows(2) {
        let ((record, one, a), (other, two, b)) = (pair[0], pair[1]);
        if record == other && one != two {
            let what = format!("record {record} is in incarnation {one} and in {two}");
            let ops: Vec<OpId> = a.into_iter().chain(b).collect();
            found.add(Kind::DeletedRecordBack, name, &ops, what);
        }
    }
}

/// Nothing that nobody appended, and nothing that was refused.
fn was_sent(name: &str, ops: &[&Op], seen: &[Seen], found: &mut Findings) {
    let appends: Vec<(&Append, &Op)> = ops
        .iter()
        .filter_map(|op| match &op.call {
            Call::Append(append) => Some((append, *op)),
            _ => None,
        })
        .collect();
    let mut sent: Vec<(RecordId, bool)> = appends
        .iter()
        .flat_map(|(append, op)| {
            let refused = matches!(op.answer, Answer::Refused { .. });
            append.records.iter().map(move |record| (*record, refused))
        })
        .collect();
    sent.sort_unstable();
    for (record, incarnation, op) in seen {
        let at = sent.partition_point(|(other, _)| other < record);
        let kind = match sent.get(at).filter(|(other, _)| other == record) {
            None => Kind::PhantomRecord,
            Some((_, true)) => Kind::RefusedButPresent,
            Some((_, false)) => continue,
        };
        let what = format!("record {record} in incarnation {incarnation}");
        found.add(kind, name, op.as_slice(), what);
    }
}

/// Puts together what was shown of a log, and judges it as far as parts can be judged.
fn judge(
    name: &str,
    incarnation: Incarnation,
    ops: &[&Op],
    lives: &Lives<'_>,
    found: &mut Findings,
) {
    let answers = || ops.iter().filter(|op| lives.answered(op) == Some(incarnation));
    let mut shown: BTreeMap<Offset, (Batch, OpId)> = BTreeMap::new();
    for op in answers() {
        let Answer::Read { batches, .. } = &op.answer else { continue };
        for batch in batches {
            for (at, record) in batch.records.iter().enumerate() {
                let first_offset = batch.first_offset.plus(at);
                let one = Batch { first_offset, records: vec![*record], ..batch.clone() };
                let (known, first) = shown.entry(first_offset).or_insert((one.clone(), op.id));
                if *known != one {
                    let what = format!("two reads show different records at offset {first_offset}");
                    found.add(Kind::ReadRewritten, name, &[*first, op.id], what);
                }
            }
        }
    }
    let mut told: BTreeMap<Offset, (RecordId, OpId)> = BTreeMap::new();
    for op in answers() {
        let (Call::Append(append), Answer::Appended { first_offset, .. }) = (&op.call, &op.answer)
        else {
            continue;
        };
        for (at, record) in append.records.iter().enumerate() {
            let offset = first_offset.plus(at);
            let read = shown.get(&offset).map(|(batch, op)| (batch.records[0], *op));
            let before = told.insert(offset, (*record, op.id)).map(|(id, op)| (Some(id), op));
            for (other, by) in read.into_iter().chain(before) {
                if other != Some(*record) {
                    let what = format!("acknowledged at offset {offset}, where another one is");
                    found.add(Kind::MovedAppend, name, &[op.id, by], what);
                }
            }
        }
    }
    let batches: Vec<Batch> = shown.into_values().map(|(batch, _)| batch).collect();
    let log = FinalLog::new(&ReplicaLog {
        node: Node(0),
        log: name.to_owned(),
        incarnation: Some(incarnation),
        start_offset: Offset(0),
        next_offset: batches.last().map_or(Offset(0), Batch::next_offset),
        batches,
    });
    for pair in log.placed().windows(2).filter(|pair| pair[0].record == pair[1].record) {
        let (a, b) = (pair[0].offset, pair[1].offset);
        let what = format!("record {} is at offset {a} and at offset {b}", pair[0].record);
        found.add(Kind::DuplicateRecord, name, &[], what);
    }
    reads::linearizable(name, ops, found);
    fencing::check(&log, ops, found);
    expected::check(&log, ops, found);
    order::check(&log, ops, found);
}
