//! The life of a log: create, describe, list, trim, delete, fence, change its read level.

use quorate_proto::v1::{
    CreateLogRequest, CreateLogResponse, DeleteLogRequest, DeleteLogResponse, DescribeLogRequest,
    DescribeLogResponse, FenceRequest, FenceResponse, ListLogsRequest, ListLogsResponse, LogInfo,
    SetReadLevelRequest, SetReadLevelResponse, TrimLogRequest, TrimLogResponse,
};
use quorate_state_machine::{
    command::Command,
    limits,
    outcome::{Accepted, LogDescription},
    types::{GroupId, Incarnation, LogName, Offset, WriterEpoch},
};

use tonic::Status;

use super::{
    context::{Context, Deadline},
    errors::{self, ApiError},
    forward, read,
};
use crate::read::levels::Basis;

/// A log on the wire.
#[must_use]
pub fn info(group: GroupId, log: &LogDescription) -> LogInfo {
    LogInfo {
        name: log.name.as_str().to_owned(),
        group: group.0,
        incarnation: log.incarnation.0,
        start_offset: log.start_offset.0,
        next_offset: log.next_offset.0,
        writer_epoch: log.writer_epoch.map(|e| e.0),
        created_ms: log.created.0,
        last_timestamp_ms: log.last_timestamp.0,
        stored_bytes: log.stored_bytes,
        producers: log.producers,
        read_level: log.read_level.map(read::wire_level),
    }
}

pub(super) async fn create(
    context: &Context,
    request: CreateLogRequest,
    deadline: Deadline,
) -> Result<CreateLogResponse, ApiError> {
    let (name, group) = context.locate(&request.name)?;
    let read_level = read::read_level(request.read_level)?;
    let command = Command::CreateLog { name, if_absent: request.if_absent, read_level };
    let (outcome, accepted) = context.execute(group, command, deadline).await?;
    let Accepted::Created(log, created) = accepted else {
        unreachable!("a create command is answered with Created");
    };
    Ok(CreateLogResponse {
        log: Some(info(group, &log)),
        created,
        position: context.position(group, outcome.at, log.incarnation),
        stamp: Some(errors::stamp(group, &outcome)),
    })
}

pub(super) async fn delete(
    context: &Context,
    request: DeleteLogRequest,
    deadline: Deadline,
) -> Result<DeleteLogResponse, ApiError> {
    let (name, group) = context.locate(&request.name)?;
    let command = Command::DeleteLog { name, incarnation: request.incarnation.map(Incarnation) };
    let (outcome, accepted) = context.execute(group, command, deadline).await?;
    let Accepted::Deleted(_) = accepted else {
        unreachable!("a delete command is answered with Deleted");
    };
    Ok(DeleteLogResponse {
        // About the group: a token of a log that is gone is refused, and who deleted it could not
        // read his own deletion by it.
        position: context.position(group, outcome.at, Incarnation(0)),
        stamp: Some(errors::stamp(group, &outcome)),
    })
}

pub(super) async fn trim(
    context: &Context,
    request: TrimLogRequest,
    deadline: Deadline,
) -> Result<TrimLogResponse, ApiError> {
    let (name, group) = context.locate(&request.name)?;
    let command = Command::TrimLog {
        name,
        before: Offset(request.before_offset),
        incarnation: request.incarnation.map(Incarnation),
    };
    let (outcome, accepted) = context.execute(group, command, deadline).await?;
    let Accepted::Trimmed(incarnation, start) = accepted else {
        unreachable!("a trim command is answered with Trimmed");
    };
    Ok(TrimLogResponse {
        start_offset: start.0,
        position: context.position(group, outcome.at, incarnation),
        stamp: Some(errors::stamp(group, &outcome)),
    })
}

pub(super) async fn fence(
    context: &Context,
    request: FenceRequest,
    deadline: Deadline,
) -> Result<FenceResponse, ApiError> {
    let (name, group) = context.locate(&request.log)?;
    let command = Command::Fence {
        name,
        min_epoch: request.min_epoch.map(WriterEpoch),
        incarnation: request.incarnation.map(Incarnation),
    };
    let (outcome, accepted) = context.execute(group, command, deadline).await?;
    let Accepted::Fenced(incarnation, epoch) = accepted else {
        unreachable!("a fence command is answered with Fenced");
    };
    Ok(FenceResponse {
        writer_epoch: epoch.0,
        incarnation: incarnation.0,
        next_offset: outcome.next_offset.0,
        position: context.position(group, outcome.at, incarnation),
        stamp: Some(errors::stamp(group, &outcome)),
    })
}

pub(super) async fn set_read_level(
    context: &Context,
    request: SetReadLevelRequest,
    deadline: Deadline,
) -> Result<SetReadLevelResponse, ApiError> {
    let (name, group) = context.locate(&request.name)?;
    let command = Command::SetReadLevel {
        name,
        read_level: read::read_level(request.read_level)?,
        incarnation: request.incarnation.map(Incarnation),
    };
    let (outcome, accepted) = context.execute(group, command, deadline).await?;
    let Accepted::ReadLevelSet(log) = accepted else {
        unreachable!("a change of the read level is answered with ReadLevelSet");
    };
    Ok(SetReadLevelResponse {
        position: context.position(group, outcome.at, log.incarnation),
        stamp: Some(errors::stamp(group, &outcome)),
        log: Some(info(group, &log)),
    })
}

pub(super) async fn describe(
    context: &Context,
    request: DescribeLogRequest,
    deadline: Deadline,
) -> Result<DescribeLogResponse, Status> {
    let (name, group) = context.locate(&request.name)?;
    let consistency = request.consistency.clone();
    let asked = read::AskedOfLog { group, name, consistency, incarnation: None };
    let answer = |basis: &Basis, log: &LogDescription| DescribeLogResponse {
        header: Some(read::header(context, group, basis, Some(log))),
        log: Some(info(group, log)),
    };
    let found = read::find(context, asked, deadline, |basis, log| Some(answer(basis, log))).await;
    match found {
        Ok(read::Found::Answer(answered)) => Ok(answered),
        Ok(read::Found::View(served, log)) => Ok(answer(&served.basis, &log)),
        Err(error) if forward::asked(request.consistency.as_ref()) && forward::helps(&error) => {
            forward::describe(context, group, request, deadline, error).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Lists over all groups, sorted by name. With several groups each page asks every group for a
/// full page and merges: the price of a global order without a global index.
pub(super) async fn list(
    context: &Context,
    request: ListLogsRequest,
    deadline: Deadline,
) -> Result<ListLogsResponse, ApiError> {
    let page = limits::check_page_size(request.page_size as usize)?;
    if request.prefix.len() > limits::MAX_LOG_NAME_BYTES {
        limits::check_log_name(&request.prefix)?;
    }
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(LogName::new(token)?),
    };
    if forward::asked(request.consistency.as_ref()) {
        return Err(ApiError::unsupported(
            "a list is not forwarded: its groups may have different leaders; use ON_UNMET_WAIT",
        ));
    }
    let mut found: Vec<(GroupId, LogDescription)> = Vec::new();
    let mut headers = Vec::with_capacity(context.groups.len());
    for number in 0..context.groups.len() as u32 {
        let group = GroupId(number);
        let served = read::view(context, group, request.consistency.clone(), deadline).await?;
        let logs = served.view.list(&request.prefix, after.as_ref().map(LogName::as_str), page)?;
        found.extend(logs.into_iter().map(|log| (group, log)));
        headers.push(read::header(context, group, &served.basis, None));
    }
    found.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    // A full page may be the last one; the next page is empty then.
    let more = found.len() >= page;
    found.truncate(page);
    let next_page = match found.last() {
        Some((_, last)) if more => last.name.as_str().to_owned(),
        _ => String::new(),
    };
    Ok(ListLogsResponse {
        logs: found.iter().map(|(group, log)| info(*group, log)).collect(),
        next_page,
        headers,
    })
}
