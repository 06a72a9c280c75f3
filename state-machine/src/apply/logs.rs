//! The life of a log: create, delete, trim, fence, change its default read level.

use bytes::Bytes;

use super::{Context, Done, owned, session::Session};
use crate::{
    keys,
    limits::{MAX_LOGS_PER_GROUP, MAX_MIN_EPOCH},
    outcome::{Accepted, Refused},
    planted,
    types::{Incarnation, Offset, ReadLevel, WriterEpoch},
    values::LogMeta,
    view::{View, ViewError},
};

/// Bits of an incarnation that say which command of the entry created it.
const POSITION_BITS: u32 = 16;

pub(super) fn create<V: View>(
    session: &mut Session<'_, V>,
    context: Context,
    name: &str,
    if_absent: bool,
    read_level: Option<ReadLevel>,
) -> Result<Done, ViewError> {
    if let Some(log) = session.log(name)?.cloned() {
        let description = log.describe(owned(name));
        return Ok(if if_absent {
            Done::accepted(Some(&log), Accepted::Created(description, false))
        } else {
            Done::refused(Some(&log), Refused::LogExists(description))
        });
    }
    if session.group.logs >= MAX_LOGS_PER_GROUP {
        return Ok(Done::refused(None, Refused::TooManyLogs { limit: MAX_LOGS_PER_GROUP }));
    }
    let index = context.at.index.0;
    if index.leading_zeros() < POSITION_BITS {
        let refused = Refused::Overflow { log: owned(name), what: "the incarnation" };
        return Ok(Done::refused(None, refused));
    }
    let mut incarnation = Incarnation(index << POSITION_BITS | u64::from(context.position));
    if planted::is("identity_by_name") {
        incarnation =
            Incarnation(name.bytes().fold(1, |sum, byte| sum % (1 << 40) * 31 + u64::from(byte)));
    }
    let mut log = LogMeta::new(incarnation, session.group.log_time);
    log.read_level = read_level;
    session.group.logs += 1;
    session.set_row(keys::name(incarnation), Some(Bytes::copy_from_slice(name.as_bytes())));
    session.set_log(name, Some(log.clone()));
    Ok(Done::accepted(Some(&log), Accepted::Created(log.describe(owned(name)), true)))
}

/// The log, if it exists and is the one that is meant.
fn find<V: View>(
    session: &mut Session<'_, V>,
    name: &str,
    asked: Option<Incarnation>,
) -> Result<Result<LogMeta, Done>, ViewError> {
    Ok(match (session.log(name)?.cloned(), asked) {
        (None, _) => Err(Done::refused(None, Refused::LogNotFound(owned(name)))),
        (Some(log), Some(asked)) if asked != log.incarnation => {
            let actual = log.incarnation;
            let refused = Refused::LogRecreated { name: owned(name), asked, actual };
            Err(Done::refused(Some(&log), refused))
        }
        (Some(log), _) => Ok(log),
    })
}

pub(super) fn delete<V: View>(
    session: &mut Session<'_, V>,
    name: &str,
    incarnation: Option<Incarnation>,
) -> Result<Done, ViewError> {
    let log = match find(session, name, incarnation)? {
        Ok(log) => log,
        Err(done) => return Ok(done),
    };
    let group = &mut session.group;
    group.epoch_floor = group.epoch_floor.max(log.writer_epoch.map_or(0, |e| e.0));
    group.logs = group.logs.checked_sub(1).ok_or_else(|| {
        ViewError::corrupt("the group's row", "it counts fewer logs than there are")
    })?;
    session.delete_incarnation(log.incarnation);
    session.set_row(keys::name(log.incarnation), None);
    session.set_log(name, None);
    Ok(Done::accepted(None, Accepted::Deleted(log.incarnation)))
}

pub(super) fn trim<V: View>(
    session: &mut Session<'_, V>,
    name: &str,
    before: Offset,
    incarnation: Option<Incarnation>,
) -> Result<Done, ViewError> {
    let mut log = match find(session, name, incarnation)? {
        Ok(log) => log,
        Err(done) => return Ok(done),
    };
    if before > log.next_offset {
        let refused = Refused::TrimBeyondEnd {
            log: owned(name),
            asked: before,
            next_offset: log.next_offset,
        };
        return Ok(Done::refused(Some(&log), refused));
    }
    // Trimming to where it is trimmed already, or below, is fine and changes nothing.
    if before > log.start_offset {
        let trimmed = if before == log.next_offset {
            log.total_bytes
        } else {
            let batch = session.batch_at(log.incarnation, before)?.ok_or_else(|| {
                ViewError::corrupt(
                    format!("log {name:?}"),
                    format!("the batch of offset {before} is missing"),
                )
            })?;
            batch.bytes_before
        };
        if trimmed > log.total_bytes {
            return Err(ViewError::corrupt(
                format!("log {name:?}"),
                format!("the batch of offset {before} counts more bytes than the log"),
            ));
        }
        session.delete_batches(log.incarnation, log.start_offset, before);
        log.trimmed_bytes = trimmed;
        log.start_offset = before;
        session.set_log(name, Some(log.clone()));
    }
    let accepted = Accepted::Trimmed(log.incarnation, log.start_offset);
    Ok(Done::accepted(Some(&log), accepted))
}

pub(super) fn fence<V: View>(
    session: &mut Session<'_, V>,
    name: &str,
    min_epoch: Option<WriterEpoch>,
    incarnation: Option<Incarnation>,
) -> Result<Done, ViewError> {
    let mut log = match find(session, name, incarnation)? {
        Ok(log) => log,
        Err(done) => return Ok(done),
    };
    let overflow = || Refused::Overflow { log: owned(name), what: "the writer epoch" };
    let min = min_epoch.map_or(0, |e| e.0);
    if min > MAX_MIN_EPOCH {
        return Ok(Done::refused(Some(&log), overflow()));
    }
    let floor = session.group.epoch_floor.max(log.writer_epoch.map_or(0, |e| e.0));
    let Some(epoch) = floor.max(min.saturating_sub(1)).checked_add(1) else {
        return Ok(Done::refused(Some(&log), overflow()));
    };
    log.writer_epoch = Some(WriterEpoch(epoch));
    session.set_log(name, Some(log.clone()));
    let accepted = Accepted::Fenced(log.incarnation, WriterEpoch(epoch));
    Ok(Done::accepted(Some(&log), accepted))
}

pub(super) fn set_read_level<V: View>(
    session: &mut Session<'_, V>,
    name: &str,
    read_level: Option<ReadLevel>,
    incarnation: Option<Incarnation>,
) -> Result<Done, ViewError> {
    let mut log = match find(session, name, incarnation)? {
        Ok(log) => log,
        Err(done) => return Ok(done),
    };
    if log.read_level != read_level {
        log.read_level = read_level;
        session.set_log(name, Some(log.clone()));
    }
    let accepted = Accepted::ReadLevelSet(log.describe(owned(name)));
    Ok(Done::accepted(Some(&log), accepted))
}
