//! `Append` and `AppendMulti`: validation, and the shape of the answer.

use bytes::Bytes;
use quorate_proto::v1::{
    Ack, AppendMultiRequest, AppendMultiResponse, AppendPart as WirePart, AppendRequest,
    AppendResponse, AppendedPart, Effect,
};
use quorate_state_machine::{
    batch::{self, RecordRef},
    command::{AppendPart, Command},
    limits,
    outcome::{Accepted, Appended, Outcome},
    planted,
    types::{Batch, GroupId, Incarnation, LogName, Offset, ProducerId, Sequence, WriterEpoch},
};

use super::{
    context::{Context, Deadline},
    errors::{self, ApiError},
};
use crate::runtime;

/// Checks one part of an append. Costs one pass over the batch's bytes (count and CRC32C); the
/// bytes themselves are never copied here.
pub(super) fn part(context: &Context, wire: WirePart) -> Result<(GroupId, AppendPart), ApiError> {
    let (log, group) = context.locate(&wire.log)?;
    let conditions = wire.conditions.unwrap_or_default();
    let producer = match conditions.producer {
        None => None,
        Some(p) => {
            let id: [u8; 16] = p.id.as_ref().try_into().map_err(|_| {
                ApiError::invalid(format!("a producer id has 16 bytes, not {}", p.id.len()))
            })?;
            Some((ProducerId(id), Sequence(p.sequence)))
        }
    };
    Ok((
        group,
        AppendPart {
            log,
            expected_offset: conditions.expected_offset.map(Offset),
            writer_epoch: conditions.writer_epoch.map(WriterEpoch),
            producer,
            incarnation: conditions.incarnation.map(Incarnation),
            batch: batch_of(wire.batch, wire.batch_crc32c, &wire.records)?,
        },
    ))
}

/// The batch as the client encoded it, or plain records encoded here, once.
fn batch_of(
    encoded: Bytes,
    crc32c: Option<u32>,
    records: &[quorate_proto::v1::Record],
) -> Result<Batch, ApiError> {
    match (encoded.is_empty(), records.is_empty()) {
        (false, true) => Ok(Batch::validate(encoded, crc32c)?),
        (true, false) => {
            let encoded = batch::encode(records.iter().map(|r| RecordRef {
                value: &r.value,
                key: r.key.as_deref(),
                headers: r.headers.iter().map(|h| (h.key.as_str(), h.value.as_ref())).collect(),
            }));
            Ok(Batch::validate(encoded, None)?)
        }
        (true, true) => Err(ApiError::invalid("an append needs at least one record")),
        (false, false) => Err(ApiError::invalid("give either `batch` or `records`, not both")),
    }
}

pub(super) fn check_ack(ack: i32) -> Result<(), ApiError> {
    match Ack::try_from(ack) {
        Ok(Ack::Unspecified | Ack::Quorum) => Ok(()),
        Err(_) => Err(ApiError::unsupported(format!("this node knows no acknowledgement {ack}"))),
    }
}

fn appended(a: &Appended) -> AppendedPart {
    AppendedPart {
        first_offset: a.first_offset.0,
        next_offset: a.next_offset.0,
        timestamp_ms: a.timestamp.0,
        deduplicated: a.deduplicated,
        incarnation: a.incarnation.0,
    }
}

/// Counts an append that was answered.
pub(super) fn count(
    context: &Context,
    result: Result<&Accepted, &ApiError>,
    bytes: usize,
    started: runtime::Instant,
) {
    let (outcome, records) = match result {
        Ok(Accepted::Appended(parts)) if parts.iter().all(|p| p.deduplicated) => ("repeated", 0),
        Ok(Accepted::Appended(parts)) => {
            let records = parts.iter().map(|p| p.next_offset.0 - p.first_offset.0).sum();
            ("appended", records)
        }
        Ok(_) => unreachable!("an append command is answered with Appended"),
        Err(error) if error.0.effect() == Effect::Unknown => ("unknown", 0),
        Err(_) => ("refused", 0),
    };
    let bytes = if outcome == "appended" { bytes as u64 } else { 0 };
    context.metrics.append_done(outcome, records, bytes, started.elapsed());
}

/// Makes the answer to a single append.
pub(super) fn response(
    context: &Context,
    group: GroupId,
    (outcome, accepted): &(Outcome, Accepted),
) -> AppendResponse {
    let Accepted::Appended(parts) = accepted else {
        unreachable!("an append command is answered with Appended");
    };
    let part = parts.first().expect("one answer per part");
    AppendResponse {
        part: Some(appended(part)),
        position: context.position(group, outcome.at, part.incarnation),
        stamp: Some(errors::stamp(group, outcome)),
    }
}

/// A planted fault: the condition is judged before the append is proposed.
fn expected_offset_by_leader(
    context: &Context,
    group: GroupId,
    part: &AppendPart,
) -> Result<(), ApiError> {
    let view = context.sides(group).reader.group().view()?;
    let log = view.log(&part.log)?;
    match (log, part.expected_offset) {
        (Some(log), Some(expected)) if log.next_offset != expected => {
            Err(ApiError::internal("not the expected offset"))
        }
        _ => Ok(()),
    }
}

/// One batch to one log.
pub(super) async fn append(
    context: &Context,
    request: AppendRequest,
    deadline: Deadline,
) -> Result<AppendResponse, ApiError> {
    check_ack(request.ack)?;
    let wire = request.part.ok_or_else(|| ApiError::invalid("the append has no part"))?;
    let (group, part) = part(context, wire)?;
    if planted::is("expected_offset_by_leader") {
        expected_offset_by_leader(context, group, &part)?;
    }
    let (bytes, started) = (part.batch.bytes.len(), runtime::now());
    #[cfg(feature = "planted")]
    if planted::is("batch_split_on_retry")
        && let Some(done) = super::split::append(context, group, &part, deadline).await?
    {
        return Ok(response(context, group, &done));
    }
    let done = context.execute(group, Command::Append(vec![part]), deadline).await;
    count(context, done.as_ref().map(|(_, accepted)| accepted), bytes, started);
    Ok(response(context, group, &done?))
}

/// Several logs of one group, atomically.
pub(super) async fn append_multi(
    context: &Context,
    request: AppendMultiRequest,
    deadline: Deadline,
) -> Result<AppendMultiResponse, ApiError> {
    check_ack(request.ack)?;
    limits::check_multi_parts(request.parts.len())?;
    let mut parts: Vec<AppendPart> = Vec::with_capacity(request.parts.len());
    let mut home: Option<(LogName, GroupId)> = None;
    let mut bytes = 0;
    for wire in request.parts {
        let (group, part) = part(context, wire)?;
        match &home {
            Some((name, first)) if *first != group => {
                return Err(ApiError::cross_group(
                    (name.as_str(), *first),
                    (part.log.as_str(), group),
                ));
            }
            Some(_) => {}
            None => home = Some((part.log.clone(), group)),
        }
        bytes += part.batch.bytes.len();
        parts.push(part);
    }
    limits::check_entry_bytes(bytes)?;
    let (_, group) = home.ok_or_else(|| ApiError::invalid("the append has no parts"))?;
    let started = runtime::now();
    let done = context.execute(group, Command::Append(parts), deadline).await;
    count(context, done.as_ref().map(|(_, accepted)| accepted), bytes, started);
    let (outcome, accepted) = done?;
    let Accepted::Appended(parts) = accepted else {
        unreachable!("an append command is answered with Appended");
    };
    Ok(AppendMultiResponse {
        parts: parts.iter().map(appended).collect(),
        // About the group, not about one log.
        position: context.position(group, outcome.at, Incarnation(0)),
        stamp: Some(errors::stamp(group, &outcome)),
    })
}
