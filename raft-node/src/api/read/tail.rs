//! `Tail`: what is there, then what comes.

use std::{sync::Arc, time::Duration};

use quorate_proto::v1::{self as wire, Consistency, ReadResponse, TailRequest};
use quorate_state_machine::{
    outcome::LogDescription,
    types::{GroupId, LogName, Offset},
};
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    AHEAD, Answers,
    cursor::{Cursor, start_of},
    header, stream_of, view_of_log,
};
use crate::{
    api::{
        context::{Context, Deadline},
        errors::ApiError,
        forward,
    },
    read::{
        levels::Served,
        tail::{Follower, Woken},
    },
    runtime,
};

/// Default of `TailRequest.header_interval_ms`.
const HEADER_INTERVAL: Duration = Duration::from_secs(1);

/// No header more often than this, whatever is asked.
const MIN_HEADER_INTERVAL: Duration = Duration::from_millis(10);

/// What is there, then what comes, until the caller ends it.
pub(in crate::api) async fn tail(
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
            (served, log) = view_of_log(
                &self.context,
                self.group,
                &self.name,
                consistency,
                incarnation,
                deadline,
            )
            .await?;
            cursor.end = log.next_offset;
        }
    }
}
