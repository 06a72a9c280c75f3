//! `Read` and `Tail`, and what they share with the other reading RPCs.
//!
//! - `ask`: what a request asks for, by name, by the log's own level, by the operator's floor.
//! - `header`: what an answer says about itself.
//! - `cursor`: which batches go into the next message.
//! - `serve`, `tail`: the two RPCs.
mod ask;
mod cursor;
mod header;
mod serve;
mod tail;

use std::pin::Pin;

use futures::Stream;
use quorate_proto::v1::{Consistency, Effect, ErrorKind, ReadHeader, ReadResponse};
use quorate_state_machine::{
    outcome::LogDescription,
    types::{GroupId, LogName},
    view::ViewError,
};
use tokio::sync::mpsc;
use tonic::Status;

use self::ask::Asked;
pub(super) use self::{
    ask::{read_level, wire_level},
    header::{header, role},
    serve::read,
    tail::tail,
};
use super::{
    context::{Context, Deadline},
    errors::{self, ApiError},
};
use crate::{
    read::levels::{Ask, Level, Served},
    runtime,
};

/// Responses prepared ahead of a slow reader: bounds a stream's memory to a few messages.
const AHEAD: usize = 2;

pub(super) type ResponseStream = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

/// Local damage or I/O failure on the read path.
pub(super) fn view_error(error: &ViewError) -> ApiError {
    local_failure(&error.to_string())
}

/// The same, in words.
pub(super) fn local_failure(error: &str) -> ApiError {
    tracing::error!(error, "a read failed on this replica");
    ApiError::corrupt(format!(
        "this replica could not read its own data ({error}); ask another node, and run `quorate \
         verify --deep`"
    ))
}

/// A view of a group, as asked.
async fn serve_view(
    context: &Context,
    group: GroupId,
    ask: &Ask,
    deadline: Deadline,
) -> Result<Served, ApiError> {
    let started = runtime::now();
    let reader = &context.sides(group).reader;
    let view = async { reader.view(ask).await.map_err(ApiError::from) };
    let served = deadline.run(view, Effect::None).await.map_err(|error| {
        let told = [ErrorKind::Deadline, ErrorKind::NotLeader, ErrorKind::Unavailable];
        match told.contains(&error.0.kind()) && ask.level != Level::Eventual {
            true => offering(context, group, error),
            false => error,
        }
    });
    let outcome = match &served {
        Ok(served) if served.given == ask.level && !served.position_unmet => "ok",
        Ok(_) => "marked",
        Err(error) => error.outcome_of_read(),
    };
    context.metrics.read(ask.level.name(), outcome, started.elapsed());
    served
}

/// A refusal with what could be offered right now, and who may do better.
pub(super) fn offering(context: &Context, group: GroupId, mut error: ApiError) -> ApiError {
    let reader = &context.sides(group).reader;
    let applied = reader.group().watch_applied().borrow().index;
    error.0.age_ms = reader.freshener().age(group, applied).map(errors::age_ms);
    let leader = || reader.group().leader().filter(|leader| leader.id != context.node_id);
    error.0.leader = error.0.leader.take().or_else(|| leader().map(errors::hint));
    error
}

/// A view of a group at the asked consistency.
pub(super) async fn view(
    context: &Context,
    group: GroupId,
    consistency: Option<Consistency>,
    deadline: Deadline,
) -> Result<Served, ApiError> {
    let ask = Asked::of(context, group, consistency)?.ask(context, None);
    serve_view(context, group, &ask, deadline).await
}

/// The same, with the log in it, whose own level counts where the request names none.
pub(super) async fn view_of_log(
    context: &Context,
    group: GroupId,
    name: &LogName,
    consistency: Option<Consistency>,
    incarnation: Option<u64>,
    deadline: Deadline,
) -> Result<(Served, LogDescription), ApiError> {
    let asked = Asked::of(context, group, consistency)?;
    let mut ask = match asked.needs_default() {
        true => asked.ask(context, ask::default_of(context, group, name)?),
        false => asked.ask(context, None),
    };
    loop {
        let served = serve_view(context, group, &ask, deadline).await?;
        let log = log_in(&served, name, incarnation)
            .map_err(|error| error.decided_by(header(context, group, &served, None)))?;
        if asked.needs_default() {
            // What is read says what it had to satisfy: the level may have been raised meanwhile.
            let now = asked.ask(context, log.read_level);
            if ask.level.and(now.level) != ask.level {
                ask = now;
                continue;
            }
        }
        return Ok((served, log));
    }
}

fn log_in(
    served: &Served,
    name: &LogName,
    incarnation: Option<u64>,
) -> Result<LogDescription, ApiError> {
    let log = served
        .view
        .log(name)
        .map_err(|e| view_error(&e))?
        .ok_or_else(|| ApiError::log_not_found(name.as_str()))?;
    match incarnation {
        Some(asked) if asked != log.incarnation.0 => {
            Err(ApiError::log_recreated(name.as_str(), asked, log.incarnation.0))
        }
        _ => Ok(log),
    }
}

fn stream_of(receiver: mpsc::Receiver<Result<ReadResponse, Status>>) -> ResponseStream {
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

/// A stream of answers, and the header of the first: for the metadata, which goes before it.
pub(super) type Answers = (ResponseStream, ReadHeader);
