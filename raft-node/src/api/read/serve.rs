//! `Read`: what is there now.

use std::sync::Arc;

use quorate_proto::v1::{ReadRequest, ReadResponse};
use quorate_state_machine::types::Offset;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    AHEAD, Answers,
    cursor::{Cursor, or_unlimited, start_of},
    header, stream_of, view_of_log,
};
use crate::{
    api::{
        context::{Context, Deadline},
        errors::ApiError,
        forward,
    },
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
    let view =
        view_of_log(&context, group, &name, consistency, request.incarnation, deadline).await;
    let (served, log) = match view {
        Err(error) if forward::asked(request.consistency.as_ref()) && forward::helps(&error) => {
            return forward::read(&context, group, request, deadline, error).await;
        }
        other => other?,
    };
    let from = start_of(&served, &log, request.from, log.start_offset)
        .map_err(|error| error.decided_by(header(&context, group, &served, Some(&log))))?;
    let end = match request.to_offset {
        Some(to) if to < from.0 => {
            let why = format!("the range {from}..{to} ends before it begins");
            return Err(ApiError::invalid(why).into());
        }
        Some(to) => Offset(to.min(log.next_offset.0)),
        None => log.next_offset,
    };
    let mut cursor = Cursor {
        next: from,
        end,
        records_left: or_unlimited(request.max_records),
        bytes_left: or_unlimited(request.max_bytes),
    };
    let metrics = context.metrics.clone();
    let recent = context.sides(group).reader.group().recent().clone();
    let step = move |cursor: &mut Cursor, served: &_, log: &_| match cursor.done() {
        true => Ok(Vec::new()),
        false => cursor.step(served, log, &recent, &metrics),
    };
    let batches = step(&mut cursor, &served, &log)?;
    // Behind the first records; it goes out even when there is nothing to read.
    let said = header(&context, group, &served, Some(&log));
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
