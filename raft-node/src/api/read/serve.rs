//! `Read`: what is there now.

use std::sync::Arc;

use quorate_proto::v1::{CallRead, ReadRequest, ReadResponse};
use quorate_state_machine::{
    outcome::LogDescription,
    types::{GroupId, LogName, Offset},
};
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    AHEAD, Answers, AskedOfLog, Found,
    cursor::{Cursor, or_unlimited, seek_in, start_of},
    find, header, stream_of,
};
use crate::{
    api::{
        context::{Context, Deadline},
        errors::ApiError,
        forward,
    },
    read::levels::{Basis, Served},
    runtime,
};

/// What is there now. Fails before the stream starts if the read can't be served as asked.
pub(in crate::api) async fn read(
    context: Arc<Context>,
    request: ReadRequest,
    deadline: Deadline,
) -> Result<Answers, Status> {
    let (name, group) = context.locate(&request.log)?;
    let (first, rest) = match begin(&context, group, name, &request, deadline).await {
        Ok(begun) => begun,
        Err(error) if forward::asked(request.consistency.as_ref()) && forward::helps(&error) => {
            return forward::read(&context, group, request, deadline, error).await;
        }
        Err(error) => return Err(error.into()),
    };
    let said = first.header.clone().expect("the first message has a header");
    let Some(Rest { served, log, mut cursor }) = rest else {
        return Ok((Box::pin(futures::stream::iter([Ok(first)])), said));
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    runtime::spawn(async move {
        let recent = context.sides(group).reader.group().recent();
        let mut message = Ok(first);
        loop {
            let last = message.is_err() || cursor.done();
            if sender.send(message).await.is_err() || last {
                return;
            }
            message = cursor
                .step(&served, &log, recent, &context.metrics)
                .map(|batches| ReadResponse { batches, ..ReadResponse::default() })
                .map_err(ApiError::into_status);
        }
    });
    Ok((stream_of(receiver), said))
}

/// What [`read`] would send, if that is one message of this node's own.
pub(super) async fn read_at_once(
    context: &Context,
    request: &ReadRequest,
    deadline: Deadline,
) -> Result<Result<ReadResponse, CallRead>, ApiError> {
    let (name, group) = context.locate(&request.log)?;
    match begin(context, group, name, request, deadline).await {
        Ok((whole, None)) => Ok(Ok(whole)),
        Ok((_, Some(_))) => Ok(Err(CallRead::Large)),
        Err(error) if forward::asked(request.consistency.as_ref()) && forward::helps(&error) => {
            Ok(Err(CallRead::Forward))
        }
        Err(error) => Err(error),
    }
}

/// What is still to be sent behind the first message.
struct Rest {
    served: Served,
    log: LogDescription,
    cursor: Cursor,
}

/// The first message, which has the header, and what comes behind it.
async fn begin(
    context: &Context,
    group: GroupId,
    name: LogName,
    request: &ReadRequest,
    deadline: Deadline,
) -> Result<(ReadResponse, Option<Rest>), ApiError> {
    let consistency = request.consistency.clone();
    let asked = AskedOfLog { group, name, consistency, incarnation: request.incarnation };
    let quick = |basis: &Basis, log: &LogDescription| at_once(context, group, request, basis, log);
    let (served, log) = match find(context, asked, deadline, quick).await? {
        Found::Answer(whole) => return Ok((whole, None)),
        Found::View(served, log) => (served, log),
    };
    let refused =
        |error: ApiError| error.decided_by(header(context, group, &served.basis, Some(&log)));
    let from = start_of(&log, request.from, log.start_offset, seek_in(&served.view, &log))
        .map_err(refused)?;
    let mut cursor = cursor_of(request, &log, from)?;
    let recent = context.sides(group).reader.group().recent();
    let batches = match cursor.done() {
        true => Vec::new(),
        false => cursor.step(&served, &log, recent, &context.metrics)?,
    };
    // Behind the first records; it goes out even when there is nothing to read.
    let said = header(context, group, &served.basis, Some(&log));
    let first = ReadResponse { header: Some(said), batches, ..ReadResponse::default() };
    let rest = (!cursor.done()).then(|| Rest { served, log, cursor });
    Ok((first, rest))
}

/// The whole answer, if it is one message and all in memory: most reads of what is new are, and
/// cost no look at the storage.
fn at_once(
    context: &Context,
    group: GroupId,
    request: &ReadRequest,
    basis: &Basis,
    log: &LogDescription,
) -> Option<ReadResponse> {
    // Where a time is, only the storage knows.
    let seek = |_| Err(ApiError::invalid("not in memory"));
    let from = start_of(log, request.from, log.start_offset, seek).ok()?;
    let mut cursor = cursor_of(request, log, from).ok()?;
    let mut batches = Vec::new();
    if !cursor.done() {
        let recent = context.sides(group).reader.group().recent();
        batches = cursor.step_in_memory(log.incarnation, recent, &context.metrics)?;
    }
    if !cursor.done() {
        return None;
    }
    // Behind the data: its age is stated as of now.
    let said = header(context, group, basis, Some(log));
    Some(ReadResponse { header: Some(said), batches, ..ReadResponse::default() })
}

/// What a read covers.
fn cursor_of(
    request: &ReadRequest,
    log: &LogDescription,
    from: Offset,
) -> Result<Cursor, ApiError> {
    let end = match request.to_offset {
        Some(to) if to < from.0 => {
            let why = format!("the range {from}..{to} ends before it begins");
            return Err(ApiError::invalid(why));
        }
        Some(to) => Offset(to.min(log.next_offset.0)),
        None => log.next_offset,
    };
    Ok(Cursor {
        next: from,
        end,
        records_left: or_unlimited(request.max_records),
        bytes_left: or_unlimited(request.max_bytes),
    })
}
