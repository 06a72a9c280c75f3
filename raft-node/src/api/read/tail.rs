//! `Tail`: what is there, then what comes.

use std::{sync::Arc, time::Duration};

use quorate_proto::v1::{self as wire, Consistency, ReadHeader, ReadResponse, TailRequest};
use quorate_state_machine::{
    outcome::LogDescription,
    types::{GroupId, Incarnation, LogName, LogPoint, Offset},
};
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    AHEAD, Answers, AskedOfLog,
    cursor::{Cursor, seek_in, start_of},
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
        recent::{Following, Recent},
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
    let asked = AskedOfLog {
        group,
        name: name.clone(),
        consistency: request.consistency.clone(),
        incarnation: request.incarnation,
    };
    let (served, log) = view_of_log(&context, asked, deadline).await?;
    let seek = seek_in(&served.view, &log);
    let from = start_of(&log, request.from, log.next_offset, seek)
        .map_err(|error| error.decided_by(header(&context, group, &served.basis, Some(&log))))?;
    let interval = match request.header_interval_ms {
        0 => HEADER_INTERVAL,
        ms => Duration::from_millis(ms).max(MIN_HEADER_INTERVAL),
    };
    let said = header(&context, group, &served.basis, Some(&log));
    let (sender, receiver) = mpsc::channel(AHEAD);
    let tail = Tail { context, group, name, consistency: request.consistency, interval, sender };
    runtime::spawn(async move {
        let (sender, metrics) = (tail.sender.clone(), tail.context.metrics.clone());
        metrics.tail_started();
        let ended = tail.run(served, log, from).await;
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

/// How a part of a tail ended.
enum Then {
    /// A view is needed; at the level that was asked for if a header is due.
    Look { header: bool },
    /// The caller is gone.
    End,
}

impl Tail {
    async fn run(
        self,
        mut served: Served,
        mut log: LogDescription,
        from: Offset,
    ) -> Result<(), ApiError> {
        let incarnation = log.incarnation;
        let mut following = self.recent().follow(incarnation);
        let mut cursor = Cursor {
            next: from,
            end: log.next_offset,
            records_left: u64::MAX,
            bytes_left: u64::MAX,
        };
        // The first view was taken at the level that was asked for, so it can be said.
        let mut header_due = true;
        // But it was taken before anybody followed: what came in between shows in the next one.
        let mut behind = true;
        let mut said_header = runtime::now();
        let mut changes = following.head().changes;
        loop {
            if cursor.next < log.start_offset {
                // Trimmed under a tail that was too slow: losing records silently is not an option.
                let said = header(&self.context, self.group, &served.basis, Some(&log));
                return Err(ApiError::trimmed(
                    self.name.as_str(),
                    cursor.next.0,
                    log.start_offset.0,
                    log.next_offset.0,
                )
                .decided_by(said));
            }
            if header_due {
                said_header = runtime::now();
            }
            let mut then = self.send(&served, &log, &mut cursor, header_due, said_header).await?;
            // A view that is held keeps what was deleted meanwhile on the disk.
            drop(served);
            if then.is_none() && !behind {
                then = Some(self.follow(&mut following, &mut cursor, changes, said_header).await?);
            }
            match then {
                Some(Then::End) => return Ok(()),
                Some(Then::Look { header }) => header_due = header,
                None => header_due = false,
            }
            behind = false;
            // Before the view: what changes after it wakes us again.
            changes = following.head().changes;
            let consistency = match header_due {
                true => self.consistency.clone(),
                false => Some(any()),
            };
            let asked = AskedOfLog {
                group: self.group,
                name: self.name.clone(),
                consistency,
                incarnation: Some(incarnation.0),
            };
            let deadline = Deadline::default_for_streams();
            (served, log) = view_of_log(&self.context, asked, deadline).await?;
            cursor.end = log.next_offset;
        }
    }

    fn recent(&self) -> &Recent {
        self.context.sides(self.group).reader.group().recent()
    }

    fn header_due(&self, said_header: runtime::Instant) -> bool {
        said_header.elapsed() >= self.interval
    }

    /// Sends what a view shows. `None`: all of it.
    async fn send(
        &self,
        served: &Served,
        log: &LogDescription,
        cursor: &mut Cursor,
        mut header_due: bool,
        said_header: runtime::Instant,
    ) -> Result<Option<Then>, ApiError> {
        while header_due || !cursor.done() {
            let batches = match cursor.done() {
                true => Vec::new(),
                false => cursor.step(served, log, self.recent(), &self.context.metrics)?,
            };
            // Behind the records that go with it.
            let header =
                header_due.then(|| header(&self.context, self.group, &served.basis, Some(log)));
            header_due = false;
            if !self.message(header, batches, served.basis.applied, log.incarnation).await {
                return Ok(Some(Then::End));
            }
            // A long way to go is no reason to leave the reader without a word about the end.
            if !cursor.done() && self.header_due(said_header) {
                return Ok(Some(Then::Look { header: true }));
            }
        }
        Ok(None)
    }

    /// Sends what is applied from now on, as long as it is in memory. A record is final once it is
    /// applied, so it is sent at once; the periodic header carries the level that was asked for.
    async fn follow(
        &self,
        following: &mut Following,
        cursor: &mut Cursor,
        changes: u64,
        said_header: runtime::Instant,
    ) -> Result<Then, ApiError> {
        loop {
            let quiet = self.interval.saturating_sub(said_header.elapsed());
            tokio::select! {
                () = following.moved() => {}
                () = runtime::sleep(quiet) => return Ok(Then::Look { header: true }),
                () = self.sender.closed() => return Ok(Then::End),
                () = self.context.gate.closed() => return Err(ApiError::shutting_down()),
            }
            let head = following.head();
            if head.changes != changes {
                return Ok(Then::Look { header: self.header_due(said_header) });
            }
            cursor.end = cursor.end.max(head.next);
            while !cursor.done() {
                let metrics = &self.context.metrics;
                let batches =
                    cursor.step_in_memory(following.incarnation(), self.recent(), metrics);
                let Some(batches) = batches else {
                    return Ok(Then::Look { header: self.header_due(said_header) });
                };
                // The head says where: a batch is here before the group's applied point moves.
                if !self.message(None, batches, head.at, following.incarnation()).await {
                    return Ok(Then::End);
                }
            }
            if self.header_due(said_header) {
                return Ok(Then::Look { header: true });
            }
        }
    }

    /// `at` is a point that holds all the batches. False: the caller is gone.
    async fn message(
        &self,
        header: Option<ReadHeader>,
        batches: Vec<wire::StoredBatch>,
        at: LogPoint,
        log: Incarnation,
    ) -> bool {
        // A header says it itself.
        let (position, applied_index) = match header {
            Some(_) => Default::default(),
            None => (self.context.position(self.group, at, log), at.index.0),
        };
        let message = ReadResponse { header, batches, position, applied_index };
        self.sender.send(Ok(message)).await.is_ok()
    }
}

/// Whatever is applied here.
fn any() -> Consistency {
    Consistency { level: wire::Level::Eventual.into(), ..Consistency::default() }
}
