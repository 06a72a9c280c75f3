//! `Read`, `ReadMany` and `Tail`, and what they share with the other reading RPCs.
//!
//! - `ask`: what a request asks for, by name, by the log's own level, by the operator's floor.
//! - `header`: what an answer says about itself.
//! - `cursor`: which batches go into the next message.
//! - `serve`, `many`, `tail`: the RPCs.
mod ask;
mod cursor;
mod header;
mod many;
mod serve;
mod tail;

use std::pin::Pin;

use futures::Stream;
use quorate_proto::v1::{Consistency, Effect, ErrorKind, ReadHeader, ReadResponse};
use quorate_state_machine::{
    outcome::LogDescription,
    types::{GroupId, LogName},
};
use tokio::sync::mpsc;
use tonic::Status;

use self::ask::Asked;
pub(super) use self::{
    ask::{read_level, wire_level},
    header::{header, role},
    many::{Answers as ManyAnswers, many},
    serve::read,
    tail::tail,
};
use super::{
    context::{Context, Deadline},
    errors::{self, ApiError},
};
use crate::{
    read::levels::{Ask, Basis, Level, Satisfied, Served},
    runtime,
};

/// Responses prepared ahead of a slow reader: bounds a stream's memory to a few messages.
const AHEAD: usize = 2;

pub(super) type ResponseStream = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

/// Waits until this replica may answer, as asked.
async fn satisfy(
    context: &Context,
    group: GroupId,
    ask: &Ask,
    deadline: Deadline,
) -> Result<Satisfied, ApiError> {
    let started = runtime::now();
    let reader = &context.sides(group).reader;
    let satisfied = async { reader.satisfy(ask).await.map_err(ApiError::from) };
    let satisfied = deadline.run(satisfied, Effect::None).await.map_err(|error| {
        let told = [ErrorKind::Deadline, ErrorKind::NotLeader, ErrorKind::Unavailable];
        match told.contains(&error.0.kind()) && ask.level != Level::Eventual {
            true => offering(context, group, error),
            false => error,
        }
    });
    let outcome = match &satisfied {
        Ok(satisfied) if satisfied.given == ask.level && !satisfied.position_unmet => "ok",
        Ok(_) => "marked",
        Err(error) => error.outcome_of_read(),
    };
    context.metrics.read(ask.level.name(), outcome, started.elapsed());
    satisfied
}

fn look(
    context: &Context,
    group: GroupId,
    ask: &Ask,
    satisfied: Satisfied,
) -> Result<Served, ApiError> {
    Ok(context.sides(group).reader.look(ask, satisfied)?)
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
    let satisfied = satisfy(context, group, &ask, deadline).await?;
    look(context, group, &ask, satisfied)
}

/// What is asked of a log.
#[derive(Clone, Debug)]
pub(super) struct AskedOfLog {
    pub group: GroupId,
    pub name: LogName,
    /// Its own level counts where none is named.
    pub consistency: Option<Consistency>,
    /// Only this incarnation.
    pub incarnation: Option<u64>,
}

/// An answer from memory, or a view with the log in it.
#[expect(clippy::large_enum_variant, reason = "matched at once, never stored")]
pub(super) enum Found<T> {
    /// What was made of what is in memory.
    Answer(T),
    /// The view.
    View(Served, LogDescription),
}

/// The log as asked: first `quick` is shown what is in memory, if that is enough; where it makes no
/// answer of it, or there is nothing, a view is taken. All errors about the log come from a view.
pub(super) async fn find<T>(
    context: &Context,
    log: AskedOfLog,
    deadline: Deadline,
    quick: impl Fn(&Basis, &LogDescription) -> Option<T>,
) -> Result<Found<T>, ApiError> {
    let AskedOfLog { group, name, consistency, incarnation } = log;
    let asked = Asked::of(context, group, consistency)?;
    let mut ask = match asked.needs_default() {
        true => asked.ask(context, ask::default_of(context, group, &name)?),
        false => asked.ask(context, None),
    };
    loop {
        let satisfied = satisfy(context, group, &ask, deadline).await?;
        // What is read says what it had to satisfy: the level may have been raised meanwhile.
        let raised = |log: &LogDescription| {
            let now = asked.needs_default().then(|| asked.ask(context, log.read_level))?;
            (ask.level.and(now.level) != ask.level).then_some(now)
        };
        if let Some((basis, log)) = context.sides(group).reader.glimpse(&ask, satisfied, &name)
            && incarnation.is_none_or(|asked| asked == log.incarnation.0)
            && raised(&log).is_none()
            && let Some(answer) = quick(&basis, &log)
        {
            return Ok(Found::Answer(answer));
        }
        let served = look(context, group, &ask, satisfied)?;
        let log = log_in(&served, &name, incarnation)
            .map_err(|error| error.decided_by(header(context, group, &served.basis, None)))?;
        match raised(&log) {
            Some(now) => ask = now,
            None => return Ok(Found::View(served, log)),
        }
    }
}

/// The log as asked, in a view.
pub(super) async fn view_of_log(
    context: &Context,
    log: AskedOfLog,
    deadline: Deadline,
) -> Result<(Served, LogDescription), ApiError> {
    match find(context, log, deadline, |_, _| None::<std::convert::Infallible>).await? {
        Found::View(served, log) => Ok((served, log)),
        Found::Answer(never) => match never {},
    }
}

fn log_in(
    served: &Served,
    name: &LogName,
    incarnation: Option<u64>,
) -> Result<LogDescription, ApiError> {
    let log = served.view.log(name)?.ok_or_else(|| ApiError::log_not_found(name.as_str()))?;
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
