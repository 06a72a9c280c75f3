//! Reads show what the log has, without holes; linearizable ones everything acknowledged before
//! they were sent; none of them anything sent after they were answered (G2, G3).

use super::{FinalLog, Findings, Kind};
use crate::{
    ids::{Moment, Offset, OpId, RecordId},
    op::{Answer, Batch, Call, Op},
};

pub(super) fn check(log: &FinalLog, ops: &[&Op], found: &mut Findings) {
    linearizable(&log.name, ops, found);
    let starts = latest_call_up_to(log, ops);
    for op in ops {
        let (Call::Read { from, .. }, Answer::Read { batches, next_offset, .. }, Some(returned)) =
            (&op.call, &op.answer, op.returned)
        else {
            continue;
        };
        shows_the_log(log, op.id, *from, batches, *next_offset, found);
        let below = starts.partition_point(|(offset, ..)| offset < next_offset);
        if let Some((_, called, late)) = below.checked_sub(1).map(|at| starts[at])
            && called > returned
        {
            let what = format!("ends at {next_offset}, before that append was sent");
            found.add(Kind::FutureRead, &log.name, &[op.id, late], what);
        }
    }
}

/// A linearizable read has everything acknowledged before it was sent.
pub(super) fn linearizable(log: &str, ops: &[&Op], found: &mut Findings) {
    let acknowledged = acknowledged_ends(ops);
    for op in ops {
        let (Call::Read { linearizable: true, .. }, Answer::Read { next_offset, .. }) =
            (&op.call, &op.answer)
        else {
            continue;
        };
        let before = acknowledged.partition_point(|(returned, ..)| *returned < op.invoked);
        if let Some((_, end, ack)) = before.checked_sub(1).map(|at| acknowledged[at])
            && end > *next_offset
        {
            let what = format!(
                "shows the offsets before {next_offset}; all before {end} had been acknowledged \
                 before it was sent"
            );
            found.add(Kind::StaleRead, log, &[op.id, ack], what);
        }
    }
}

/// By time of the answer: the highest end acknowledged so far, and by whom.
pub(super) fn acknowledged_ends(ops: &[&Op]) -> Vec<(Moment, Offset, OpId)> {
    let mut ends: Vec<(Moment, Offset, OpId)> = ops
        .iter()
        .filter_map(|op| match (&op.answer, op.returned) {
            (Answer::Appended { next_offset, .. }, Some(at)) => Some((at, *next_offset, op.id)),
            _ => None,
        })
        .collect();
    ends.sort_unstable();
    for at in 1..ends.len() {
        if ends[at - 1].1 > ends[at].1 {
            (ends[at].1, ends[at].2) = (ends[at - 1].1, ends[at - 1].2);
        }
    }
    ends
}

/// By offset: the latest call among the appends up to there, and whose.
fn latest_call_up_to(log: &FinalLog, ops: &[&Op]) -> Vec<(Offset, Moment, OpId)> {
    let mut calls: Vec<(Offset, Moment, OpId)> = ops
        .iter()
        .filter_map(|op| {
            let Call::Append(append) = &op.call else { return None };
            Some((log.offset_of(*append.records.first()?)?, op.invoked, op.id))
        })
        .collect();
    calls.sort_unstable();
    for at in 1..calls.len() {
        if calls[at - 1].1 > calls[at].1 {
            (calls[at].1, calls[at].2) = (calls[at - 1].1, calls[at - 1].2);
        }
    }
    calls
}

/// What is at an offset, for people.
fn named(record: Option<Option<RecordId>>) -> String {
    match record {
        Some(Some(record)) => format!("record {record}"),
        Some(None) => "damaged bytes".to_owned(),
        None => "nothing".to_owned(),
    }
}

fn shows_the_log(
    log: &FinalLog,
    op: OpId,
    from: Offset,
    batches: &[Batch],
    end: Offset,
    found: &mut Findings,
) {
    let mut next = from;
    for batch in batches {
        if batch.first_offset != next {
            let what = format!("{next} was due, {} came", batch.first_offset);
            found.add(Kind::ReadGap, &log.name, &[op], what);
            return;
        }
        for (at, record) in batch.records.iter().enumerate() {
            let offset = batch.first_offset.plus(at);
            let stored = log.at(offset).map(|(_, record)| record);
            if offset >= log.start && stored != Some(*record) {
                let what = format!(
                    "showed {} at offset {offset}, where the log has {}",
                    named(Some(*record)),
                    named(stored)
                );
                // Bytes that are nobody's are not another record: they are damaged.
                let kind = match record {
                    Some(_) => Kind::ReadRewritten,
                    None => Kind::DamagedRecord,
                };
                found.add(kind, &log.name, &[op], what);
                return;
            }
        }
        next = batch.next_offset();
    }
    if next < end {
        let what = format!("ended at {next}, the log at {end}");
        found.add(Kind::ReadGap, &log.name, &[op], what);
    }
}
