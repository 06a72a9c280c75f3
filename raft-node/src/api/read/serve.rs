//! `Read`: what is there now.

use std::sync::Arc;

use quorate_proto::v1::{ReadRequest, ReadResponse};
use quorate_state_machine::{
    outcome::LogDescription,
    types::{GroupId, Offset},
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
    read::levels::Basis,
    runtime,
};

/// What is there now. Fails before the stream starts if the read can't be served as asked.
pub(in crate::api) async fn read(
    context: Arc<Context>,
    request: ReadRequest,
    deadline: Deadline,
) -> Result<Answers, Status> {
    let (name, group) = context.locate(&request.log)?;
    let consistency = request.consistency.clone();
    let asked = AskedOfLog { group, name, consistency, incarnation: request.incarnation };
    let quick =
        |basis: &Basis, log: &LogDescription| at_once(&context, group, &request, basis, log);
    let (served, log) = match find(&context, asked, deadline, quick).await {
        Ok(Found::Answer(answers)) => return Ok(answers),
        Ok(Found::View(served, log)) => (served, log),
        Err(error) if forward::asked(request.consistency.as_ref()) && forward::helps(&error) => {
            return forward::read(&context, group, request, deadline, error).await;
        }
        Err(error) => return Err(error.into()),
    };
    let refused =
        |error: ApiError| error.decided_by(header(&context, group, &served.basis, Some(&log)));
    let from = start_of(&log, request.from, log.start_offset, seek_in(&served.view, &log))
        .map_err(refused)?;
    let mut cursor = cursor_of(&request, &log, from)?;
    let metrics = context.metrics.clone();
    let recent = context.sides(group).reader.group().recent().clone();
    let step = move |cursor: &mut Cursor, served: &_, log: &_| match cursor.done() {
        true => Ok(Vec::new()),
        false => cursor.step(served, log, &recent, &metrics),
    };
    let batches = step(&mut cursor, &served, &log)?;
    // Behind the first records; it goes out even when there is nothing to read.
    let said = header(&context, group, &served.basis, Some(&log));
    let first = ReadResponse { header: Some(said.clone()), batches, ..ReadResponse::default() };
    let (sender, receiver) = mpsc::channel(AHEAD);
    runtime::spawn(async move {
        let mut message = Ok(first);
        loop {
            let last = message.is_err() || cursor.done();
            if sender.send(message).await.is_err() || last {
                return;
            }
            message = step(&mut cursor, &served, &log)
                .map(|batches| ReadResponse { batches, ..ReadResponse::default() })
                .map_err(ApiError::into_status);
        }
    });
    Ok((stream_of(receiver), said))
}

/// The whole answer, if it is one message and all in memory: most reads of what is new are, and
/// cost neither a look at the storage nor a task.
fn at_once(
    context: &Context,
    group: GroupId,
    request: &ReadRequest,
    basis: &Basis,
    log: &LogDescription,
) -> Option<Answers> {
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
    let message = ReadResponse { header: Some(said.clone()), batches, ..ReadResponse::default() };
    Some((Box::pin(futures::stream::iter([Ok(message)])), said))
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
