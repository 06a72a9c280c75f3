//! Nothing of a lower epoch behind a higher one; each epoch granted once (G5).

use super::{FinalLog, Findings, Kind};
use crate::{
    ids::{Epoch, Moment, Offset, OpId},
    op::{Answer, Batch, Call, Op},
};

/// A granted epoch.
pub(super) struct Grant {
    epoch: Epoch,
    from: Offset,
    op: OpId,
    invoked: Moment,
    returned: Option<Moment>,
}

/// No epoch counts as epoch 0: below all that were ever granted.
fn epoch(batch: &Batch) -> Epoch {
    batch.writer_epoch.unwrap_or_default()
}

pub(super) fn check(log: &FinalLog, ops: &[&Op], found: &mut Findings) {
    for pair in log.batches.windows(2) {
        if epoch(&pair[1]) < epoch(&pair[0]) {
            let (low, high) = (epoch(&pair[1]), epoch(&pair[0]));
            let what = format!("epoch {low} at {} behind epoch {high}", pair[1].first_offset);
            found.add(Kind::StaleEpoch, &log.name, &[], what);
        }
    }
    let grants = granted_once_and_upwards(&log.name, ops, found);
    obeyed(log, &grants, found);
    stored_as_sent(log, ops, found);
}

/// By epoch.
fn grants(ops: &[&Op]) -> Vec<Grant> {
    let mut grants: Vec<Grant> = ops
        .iter()
        .filter_map(|op| match (&op.call, &op.answer) {
            (Call::Fence { .. }, Answer::Fenced { epoch, next_offset, .. }) => Some(Grant {
                epoch: *epoch,
                from: *next_offset,
                op: op.id,
                invoked: op.invoked,
                returned: op.returned,
            }),
            _ => None,
        })
        .collect();
    grants.sort_by_key(|grant| (grant.epoch, grant.op));
    grants
}

/// Judges what was granted, and returns it, by epoch.
pub(super) fn granted_once_and_upwards(log: &str, ops: &[&Op], found: &mut Findings) -> Vec<Grant> {
    let grants = grants(ops);
    for pair in grants.windows(2) {
        if pair[0].epoch == pair[1].epoch {
            let what = format!("epoch {}", pair[0].epoch);
            found.add(Kind::EpochGrantedTwice, log, &[pair[0].op, pair[1].op], what);
        }
    }
    // From the highest epoch down: the earliest answer among the higher ones.
    let mut earliest: Option<(Moment, &Grant)> = None;
    for grant in grants.iter().rev() {
        if let Some((returned, higher)) = earliest
            && returned < grant.invoked
            && higher.epoch > grant.epoch
        {
            let what = format!("{} was granted after {}", grant.epoch, higher.epoch);
            found.add(Kind::EpochBackwards, log, &[higher.op, grant.op], what);
        }
        if let Some(returned) = grant.returned
            && earliest.is_none_or(|(before, _)| returned < before)
        {
            earliest = Some((returned, grant));
        }
    }
    grants
}

/// For each grant: everything from its end on has at least its epoch, everything before has less.
/// Grants rise with epochs, so the extremes behind and before each batch decide.
fn obeyed(log: &FinalLog, grants: &[Grant], found: &mut Findings) {
    let mut lowest_behind = vec![(Epoch(u64::MAX), log.next); log.batches.len() + 1];
    for (at, batch) in log.batches.iter().enumerate().rev() {
        let here = (epoch(batch), batch.first_offset);
        lowest_behind[at] = here.min(lowest_behind[at + 1]);
    }
    let mut highest_before = vec![(Epoch(0), log.start); log.batches.len() + 1];
    for (at, batch) in log.batches.iter().enumerate() {
        highest_before[at + 1] = highest_before[at].max((epoch(batch), batch.first_offset));
    }
    for grant in grants {
        let at = log.batches.partition_point(|batch| batch.first_offset < grant.from);
        let (low, offset) = lowest_behind[at];
        if low < grant.epoch {
            let what =
                format!("epoch {low} at {offset}; {} granted at {}", grant.epoch, grant.from);
            found.add(Kind::FencedAppend, &log.name, &[grant.op], what);
        }
        let (high, offset) = highest_before[at];
        if high >= grant.epoch {
            let what =
                format!("epoch {high} at {offset}; {} granted at {}", grant.epoch, grant.from);
            found.add(Kind::EpochBeforeGrant, &log.name, &[grant.op], what);
        }
    }
}

fn stored_as_sent(log: &FinalLog, ops: &[&Op], found: &mut Findings) {
    for op in ops {
        let Call::Append(append) = &op.call else { continue };
        let Some(first) = append.records.first() else { continue };
        let Some(offset) = log.offset_of(*first) else { continue };
        let stored = log.at(offset).and_then(|(batch, _)| batch.writer_epoch);
        if stored != append.writer_epoch {
            let what = format!("sent {:?}, stored {stored:?} at {offset}", append.writer_epoch);
            found.add(Kind::WrongEpoch, &log.name, &[op.id], what);
        }
    }
}
