//! `Read` and `Tail`, and what they share with the other reading RPCs.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use quorate_proto::v1::{
    self as wire, Consistency, Effect, ReadFrom, ReadHeader, ReadMethod, ReadRequest, ReadResponse,
    TailRequest, read_from::From,
};
use quorate_state_machine::{
    outcome::LogDescription,
    read::StoredBatch,
    types::{GroupId, LogName, Offset, TimestampMs},
    view::ViewError,
};
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    context::{Context, Deadline},
    errors::{self, ApiError},
    forward,
    position::Position,
};
use crate::{
    raft::group::Role,
    read::{
        levels::{Ask, AtLeast, Evidence, Level, OnUnmet, Served},
        tail::{Follower, Woken},
    },
    runtime,
};

/// Bytes of batches in one response message: large enough to stream at full rate, small enough to
/// interleave with other streams of the connection.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// Responses prepared ahead of a slow reader: bounds a stream's memory to a few messages.
const AHEAD: usize = 2;

/// Position tokens in one read: enough for a session over every group of a large cluster.
const MAX_TOKENS: usize = 256;

/// Default of `TailRequest.header_interval_ms`.
const HEADER_INTERVAL: Duration = Duration::from_secs(1);

/// No header more often than this, whatever is asked.
const MIN_HEADER_INTERVAL: Duration = Duration::from_millis(10);

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

/// What a request asks for. Tokens of other groups are no business of this one's.
fn ask_of(
    context: &Context,
    group: GroupId,
    consistency: Option<Consistency>,
) -> Result<Ask, ApiError> {
    let consistency = consistency.unwrap_or_default();
    let bound = consistency.max_staleness_ms;
    let level = match (wire::Level::try_from(consistency.level), bound) {
        (Ok(wire::Level::Bounded), Some(ms)) => Level::Bounded(Duration::from_millis(ms)),
        (Ok(wire::Level::Bounded), None) => {
            return Err(ApiError::invalid("LEVEL_BOUNDED needs max_staleness_ms"));
        }
        (Ok(_), Some(_)) => {
            return Err(ApiError::invalid("max_staleness_ms goes with LEVEL_BOUNDED only"));
        }
        (Ok(wire::Level::Unspecified | wire::Level::Linearizable), None) => Level::Linearizable,
        (Ok(wire::Level::Eventual), None) => Level::Eventual,
        (Err(_), _) => {
            return Err(ApiError::invalid(format!("unknown level {}", consistency.level)));
        }
    };
    let on_unmet = match wire::OnUnmet::try_from(consistency.on_unmet) {
        Ok(wire::OnUnmet::Unspecified | wire::OnUnmet::Wait) => OnUnmet::Wait,
        Ok(wire::OnUnmet::Redirect) => OnUnmet::Redirect,
        // What can't be had here is forwarded by whoever gets this refusal.
        Ok(wire::OnUnmet::Fail | wire::OnUnmet::Forward) => OnUnmet::Fail,
        Ok(wire::OnUnmet::ServeAndMark) => OnUnmet::ServeAndMark,
        Err(_) => {
            return Err(ApiError::invalid(format!("unknown on_unmet {}", consistency.on_unmet)));
        }
    };
    if consistency.at_least.len() > MAX_TOKENS {
        return Err(ApiError::invalid(format!(
            "{} position tokens in one read; at most {MAX_TOKENS} are looked at",
            consistency.at_least.len()
        )));
    }
    let mut at_least = Vec::new();
    for token in &consistency.at_least {
        let position = Position::decode(token, context.cluster)
            .map_err(|e| ApiError::bad_position(&e.to_string()))?;
        if position.group == group {
            at_least.push(AtLeast { at: position.at, incarnation: position.incarnation });
        } else if position.group.0 as usize >= context.groups.len() {
            return Err(ApiError::bad_position("it names a group that this cluster has not"));
        }
    }
    let arrived = context.sides(group).reader.freshener().now();
    Ok(Ask { level, at_least, on_unmet, arrived })
}

/// A view of a group at the asked consistency.
pub(super) async fn view(
    context: &Context,
    group: GroupId,
    consistency: Option<Consistency>,
    deadline: Deadline,
) -> Result<Served, ApiError> {
    let ask = ask_of(context, group, consistency)?;
    let started = runtime::now();
    let reader = &context.sides(group).reader;
    let served =
        deadline.run(async { reader.view(&ask).await.map_err(ApiError::from) }, Effect::None).await;
    context.metrics.read(ask.level.name(), served.is_ok(), started.elapsed());
    served
}

/// The same, with the log in it.
pub(super) async fn view_of_log(
    context: &Context,
    group: GroupId,
    name: &LogName,
    consistency: Option<Consistency>,
    incarnation: Option<u64>,
    deadline: Deadline,
) -> Result<(Served, LogDescription), ApiError> {
    let served = view(context, group, consistency, deadline).await?;
    let log = log_in(&served, name, incarnation)?;
    Ok((served, log))
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

/// What an answer says about itself.
pub(super) fn header(
    context: &Context,
    group: GroupId,
    served: &Served,
    log: Option<&LogDescription>,
) -> ReadHeader {
    let vitals = context.sides(group).reader.group().vitals();
    ReadHeader {
        group: group.0,
        position: context.position(
            group,
            served.applied,
            log.map(|l| l.incarnation).unwrap_or_default(),
        ),
        term: served.applied.term.0,
        applied_index: served.applied.index.0,
        // Rounded up: a bound must never be below the truth.
        age_ms: context
            .sides(group)
            .reader
            .age(served)
            .map(|age| age.as_micros().div_ceil(1000) as u64),
        method: match served.evidence {
            Evidence::ReadIndex => ReadMethod::ReadIndex,
            Evidence::Probe => ReadMethod::Probe,
            Evidence::None => ReadMethod::Local,
        }
        .into(),
        served_by: context.node_id,
        role: role(vitals.role).into(),
        leader: vitals.leader.map(errors::hint),
        start_offset: log.map_or(0, |l| l.start_offset.0),
        next_offset: log.map_or(0, |l| l.next_offset.0),
        incarnation: log.map_or(0, |l| l.incarnation.0),
    }
}

/// Role on the wire.
#[must_use]
pub fn role(role: Role) -> wire::Role {
    match role {
        Role::Leader => wire::Role::Leader,
        Role::Follower => wire::Role::Follower,
        Role::Candidate => wire::Role::Candidate,
        Role::Learner => wire::Role::Learner,
    }
}

/// First offset of a read; trimmed and beyond-the-end are different, typed answers.
fn start_of(
    served: &Served,
    log: &LogDescription,
    from: Option<ReadFrom>,
    default: Offset,
) -> Result<Offset, ApiError> {
    let (start, next) = (log.start_offset, log.next_offset);
    let offset = match from.and_then(|f| f.from) {
        None => default,
        Some(From::Offset(offset)) => Offset(offset),
        Some(From::Last(n)) => Offset(next.0.saturating_sub(n).max(start.0)),
        Some(From::TimestampMs(at)) => {
            let found = served
                .view
                .offset_for_timestamp(log, TimestampMs(at))
                .map_err(|e| view_error(&e))?;
            found.unwrap_or(next).max(start)
        }
    };
    if offset < start {
        return Err(ApiError::trimmed(log.name.as_str(), offset.0, start.0, next.0));
    }
    if offset > next {
        return Err(ApiError::out_of_range(log.name.as_str(), offset.0, start.0, next.0));
    }
    Ok(offset)
}

fn on_wire(batch: StoredBatch, from: Offset, to: Offset) -> wire::StoredBatch {
    let end = batch.first_offset.0 + u64::from(batch.count);
    wire::StoredBatch {
        visible_from: from.0.max(batch.first_offset.0),
        visible_to: if to.0 < end { to.0 } else { 0 },
        first_offset: batch.first_offset.0,
        count: batch.count,
        timestamp_ms: batch.timestamp.0,
        batch: batch.bytes,
        batch_crc32c: batch.crc32c,
        writer_epoch: batch.writer_epoch.map(|e| e.0),
        producer: batch.producer.map(|(id, sequence)| wire::Producer {
            id: bytes::Bytes::copy_from_slice(&id.0),
            sequence: sequence.0,
        }),
    }
}

/// Where a sequence of messages stands.
struct Cursor {
    next: Offset,
    end: Offset,
    records_left: u64,
    bytes_left: u64,
}

/// A limit of 0 means none.
fn or_unlimited(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}

impl Cursor {
    fn done(&self) -> bool {
        self.next >= self.end || self.records_left == 0 || self.bytes_left == 0
    }

    /// Reads the next message's batches and moves on.
    fn step(
        &mut self,
        served: &Served,
        log: &LogDescription,
    ) -> Result<Vec<wire::StoredBatch>, ApiError> {
        let end = Offset(self.end.0.min(self.next.0.saturating_add(self.records_left)));
        let batches = served
            .view
            .batches(
                log.incarnation,
                self.next,
                end,
                MESSAGE_BYTES.min(usize::try_from(self.bytes_left).unwrap_or(usize::MAX)),
            )
            .map_err(|e| view_error(&e))?;
        let Some(last) = batches.last() else {
            return Err(ApiError::corrupt(format!(
                "log {:?} should have records from offset {} on, but none is stored here; ask \
                 another node, and run `quorate verify --deep`",
                log.name.as_str(),
                self.next
            )));
        };
        let reached = Offset((last.first_offset.0 + u64::from(last.count)).min(end.0));
        let bytes: u64 = batches.iter().map(|b| b.bytes.len() as u64).sum();
        let from = self.next;
        self.records_left = self.records_left.saturating_sub(reached.0 - from.0);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.next = reached;
        Ok(batches.into_iter().map(|b| on_wire(b, from, end)).collect())
    }
}

fn stream_of(receiver: mpsc::Receiver<Result<ReadResponse, Status>>) -> ResponseStream {
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

/// A stream of answers, and the header of the first: for the metadata, which goes before it.
pub(super) type Answers = (ResponseStream, ReadHeader);

/// What is there now. Fails before the stream starts if the read can't be served as asked.
pub(super) async fn read(
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
    let from = start_of(&served, &log, request.from, log.start_offset)?;
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
    let said = header(&context, group, &served, Some(&log));
    let mut first_header = Some(said.clone());
    let (sender, receiver) = mpsc::channel(AHEAD);
    runtime::spawn(async move {
        // The header goes out even when there is nothing to read.
        while first_header.is_some() || !cursor.done() {
            let batches = if cursor.done() { Ok(Vec::new()) } else { cursor.step(&served, &log) };
            let message = batches
                .map(|batches| ReadResponse { header: first_header.take(), batches })
                .map_err(ApiError::into_status);
            let failed = message.is_err();
            if sender.send(message).await.is_err() || failed {
                return;
            }
        }
    });
    Ok((stream_of(receiver), said))
}

/// What is there, then what comes, until the caller ends it.
pub(super) async fn tail(
    context: Arc<Context>,
    request: TailRequest,
    deadline: Deadline,
) -> Result<Answers, ApiError> {
    let (name, group) = context.locate(&request.log)?;
    if forward::asked(request.consistency.as_ref()) {
        return Err(ApiError::unsupported(
            "a tail is not forwarded: it would hold the leader for as long as it lasts; use \
             ON_UNMET_WAIT or ON_UNMET_REDIRECT",
        ));
    }
    // Armed before the first look, so that nothing falls between the look and the first wait.
    let follower = Follower::new(context.sides(group).reader.group().watch_applied());
    let (served, log) = view_of_log(
        &context,
        group,
        &name,
        request.consistency.clone(),
        request.incarnation,
        deadline,
    )
    .await?;
    let from = start_of(&served, &log, request.from, log.next_offset)?;
    let interval = match request.header_interval_ms {
        0 => HEADER_INTERVAL,
        ms => Duration::from_millis(ms).max(MIN_HEADER_INTERVAL),
    };
    let said = header(&context, group, &served, Some(&log));
    let (sender, receiver) = mpsc::channel(AHEAD);
    let tail = Tail { context, group, name, consistency: request.consistency, interval, sender };
    runtime::spawn(async move {
        let (sender, metrics) = (tail.sender.clone(), tail.context.metrics.clone());
        metrics.tail_started();
        let ended = tail.run(served, log, from, follower).await;
        metrics.tail_ended();
        if let Err(error) = ended {
            // The caller may have gone.
            let _ = sender.send(Err(error.into_status())).await;
        }
    });
    Ok((stream_of(receiver), said))
}

struct Tail {
    context: Arc<Context>,
    group: GroupId,
    name: LogName,
    consistency: Option<Consistency>,
    interval: Duration,
    sender: mpsc::Sender<Result<ReadResponse, Status>>,
}

impl Tail {
    async fn run(
        self,
        mut served: Served,
        mut log: LogDescription,
        from: Offset,
        mut follower: Follower,
    ) -> Result<(), ApiError> {
        let incarnation = Some(log.incarnation.0);
        let mut cursor = Cursor {
            next: from,
            end: log.next_offset,
            records_left: u64::MAX,
            bytes_left: u64::MAX,
        };
        // The first view was taken at the level that was asked for, so it can be said.
        let mut due = true;
        let mut said_header = runtime::now();
        loop {
            if cursor.next < log.start_offset {
                // Trimmed under a tail that was too slow: losing records silently is not an option.
                return Err(ApiError::trimmed(
                    self.name.as_str(),
                    cursor.next.0,
                    log.start_offset.0,
                    log.next_offset.0,
                ));
            }
            let mut header = None;
            if due {
                header = Some(self::header(&self.context, self.group, &served, Some(&log)));
                said_header = runtime::now();
            }
            while header.is_some() || !cursor.done() {
                let batches =
                    if cursor.done() { Vec::new() } else { cursor.step(&served, &log)? };
                let message = ReadResponse { header: header.take(), batches };
                if self.sender.send(Ok(message)).await.is_err() {
                    return Ok(());
                }
            }
            let quiet = self.interval.saturating_sub(said_header.elapsed());
            let woken = tokio::select! {
                woken = follower.wait(quiet) => woken,
                () = self.sender.closed() => return Ok(()),
                () = self.context.gate.closed() => return Err(ApiError::shutting_down()),
            };
            if woken == Woken::Gone {
                return Err(ApiError::shutting_down());
            }
            // A record is final once it is applied, so new ones come from the local state at once;
            // the periodic header carries the level that was asked for.
            due = said_header.elapsed() >= self.interval;
            let consistency = if due {
                self.consistency.clone()
            } else {
                Some(Consistency { level: wire::Level::Eventual.into(), ..Consistency::default() })
            };
            follower.arm();
            let deadline = Deadline::default_for_streams();
            served = view(&self.context, self.group, consistency, deadline).await?;
            log = log_in(&served, &self.name, incarnation)?;
            cursor.end = log.next_offset;
        }
    }
}
