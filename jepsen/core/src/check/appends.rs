//! What was acknowledged is there once, at its offset; what was refused is not; the rest at most
//! once; and nothing else (G1, G2, G4, G10).

use super::{FinalLog, Findings, Kind, placed::Placed};
use crate::{
    ids::{Offset, OpId, RecordId},
    op::{Answer, Append, Call, Op},
};

pub(super) fn check(log: &FinalLog, ops: &[&Op], found: &mut Findings) {
    let mut sent: Vec<(RecordId, OpId)> = Vec::new();
    for op in ops {
        let Call::Append(append) = &op.call else { continue };
        sent.extend(append.records.iter().map(|record| (*record, op.id)));
        match &op.answer {
            Answer::Appended { first_offset, next_offset, .. } => {
                acknowledged(log, op.id, append, (*first_offset, *next_offset), found);
            }
            Answer::AppliedUnplaced { .. } if log.start == Offset(0) => {
                if let Some(absent) = append.records.iter().find(|id| log.offset_of(**id).is_none())
                {
                    lost(log, op.id, *absent, found);
                }
            }
            Answer::Refused { kind, .. } => {
                let first = append.records.iter().find_map(|id| log.offset_of(*id));
                if let Some(offset) = first {
                    let what = format!("refused as {kind}, yet at offset {offset}");
                    found.add(Kind::RefusedButPresent, &log.name, &[op.id], what);
                }
            }
            _ => {}
        }
        in_one_piece(log, op.id, append, found);
    }
    sent.sort_unstable();
    everything_was_sent(log, &sent, found);
}

fn lost(log: &FinalLog, op: OpId, record: RecordId, found: &mut Findings) {
    let what = format!("record {record} was acknowledged and is nowhere");
    found.add(Kind::LostAppend, &log.name, &[op], what);
}

fn acknowledged(
    log: &FinalLog,
    op: OpId,
    append: &Append,
    (first, next): (Offset, Offset),
    found: &mut Findings,
) {
    if next != first.plus(append.records.len()) {
        let what = format!("{} records acknowledged at {first}..{next}", append.records.len());
        found.add(Kind::WrongCount, &log.name, &[op], what);
    }
    for (at, record) in append.records.iter().enumerate() {
        let promised = first.plus(at);
        let places = log.places_of(*record);
        if places.is_empty() && promised >= log.start {
            lost(log, op, *record, found);
            return;
        }
        if let Some(place) = places.first()
            && !places.iter().any(|place| place.offset == promised)
        {
            let what = format!("acknowledged at offset {promised}, found at {}", place.offset);
            found.add(Kind::MovedAppend, &log.name, &[op], what);
            return;
        }
    }
}

/// All records of an append or none, next to each other, in order, in one stored batch.
fn in_one_piece(log: &FinalLog, op: OpId, append: &Append, found: &mut Findings) {
    let places: Vec<Option<Placed>> =
        append.records.iter().map(|id| log.places_of(*id).first().copied()).collect();
    let present = places.iter().flatten().count();
    // A trim may have cut the batch.
    let trimmed = places.iter().flatten().any(|place| place.offset == log.start);
    if present == 0 || (trimmed && log.start > Offset(0)) {
        return;
    }
    let whole = places.windows(2).all(|pair| match (pair[0], pair[1]) {
        (Some(a), Some(b)) => b.offset == a.offset.plus(1) && a.batch == b.batch,
        _ => false,
    });
    if present < places.len() || !whole {
        let place = |place: &Option<Placed>| {
            place.map_or("nowhere".to_owned(), |place| place.offset.to_string())
        };
        let offsets: Vec<_> = places.iter().map(place).collect();
        let what = format!("its records, in order, are at offsets {}", offsets.join(", "));
        found.add(Kind::TornBatch, &log.name, &[op], what);
    }
}

fn everything_was_sent(log: &FinalLog, sent: &[(RecordId, OpId)], found: &mut Findings) {
    let by = |record: RecordId| {
        let at = sent.partition_point(|(other, _)| *other < record);
        sent.get(at).filter(|(other, _)| *other == record).map(|(_, op)| *op)
    };
    for pair in log.placed().windows(2) {
        if pair[0].record == pair[1].record {
            let (a, b) = (pair[0].offset, pair[1].offset);
            let what = format!("record {} is at offset {a} and at offset {b}", pair[0].record);
            found.add(Kind::DuplicateRecord, &log.name, by(pair[0].record).as_slice(), what);
        }
    }
    for place in log.placed() {
        if by(place.record).is_none() {
            let what = format!("record {} at offset {}", place.record, place.offset);
            found.add(Kind::PhantomRecord, &log.name, &[], what);
        }
    }
    for batch in &log.batches {
        for (at, record) in batch.records.iter().enumerate() {
            if record.is_none() {
                let what = format!("no intact payload at offset {}", batch.first_offset.plus(at));
                found.add(Kind::DamagedRecord, &log.name, &[], what);
            }
        }
    }
}
