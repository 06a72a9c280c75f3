//! Clients' calls to nodes: the real service, reached over the world's network.

use std::{future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use prost::Message;
use quorate_jepsen_core::{
    ids::{Epoch, Moment, Offset, Stamp},
    op::{Answer, Batch},
    payload,
};
use quorate_proto::v1::{self as wire, log_service_server::LogService};
use quorate_raft_node::api::service::Logs;
use quorate_raft_node::runtime;
use tokio::sync::oneshot;
use tonic::{Request, Status};

use crate::{
    cluster, host,
    world::{self, CLIENTS, HostId},
};

/// Why a call has no good answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What is known of the effect.
    pub effect: wire::Effect,
    /// The kind, in the protocol's words.
    pub kind: String,
    /// What the node said, if it said anything.
    pub detail: Option<Box<wire::ErrorDetail>>,
}

impl Failure {
    fn refused_connection() -> Self {
        Self { effect: wire::Effect::None, kind: "CONNECT".to_owned(), detail: None }
    }

    fn lost() -> Self {
        Self { effect: wire::Effect::Unknown, kind: "LOST".to_owned(), detail: None }
    }

    fn of(status: &Status) -> Self {
        let packed = tonic_types::pb::Status::decode(status.details()).unwrap_or_default();
        let detail =
            packed.details.first().and_then(|any| wire::ErrorDetail::decode(&*any.value).ok());
        match detail {
            Some(detail) => {
                let name = detail.kind().as_str_name();
                let kind = name.strip_prefix("ERROR_KIND_").unwrap_or(name).to_owned();
                Self { effect: detail.effect(), kind, detail: Some(Box::new(detail)) }
            }
            None => Self {
                effect: wire::Effect::Unknown,
                kind: format!("UNTYPED {status}"),
                detail: None,
            },
        }
    }

    /// The answer of the history.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let kind = self.kind.clone();
        let detail = self.detail.as_deref();
        match self.effect {
            wire::Effect::None => Answer::Refused {
                kind,
                next_offset: detail.and_then(|d| d.next_offset).map(Offset),
                stamp: detail.and_then(|d| d.stamp).map(stamp),
            },
            wire::Effect::Applied => Answer::AppliedUnplaced { kind },
            wire::Effect::Unspecified | wire::Effect::Unknown => Answer::Unknown { kind },
        }
    }
}

impl Failure {
    /// The answer of the history, of a read: what it says of a log is as of the state it was read from.
    #[must_use]
    pub fn of_a_read(&self) -> Answer {
        let header = self.detail.as_ref().and_then(|detail| detail.header.as_ref());
        match header.filter(|_| self.kind == "LOG_NOT_FOUND") {
            Some(header) => Answer::Refused {
                kind: self.kind.clone(),
                next_offset: None,
                stamp: Some(Stamp {
                    group: header.group,
                    term: header.term,
                    log_index: header.applied_index,
                    next_offset: Offset(0),
                    writer_epoch: Epoch(0),
                }),
            },
            None => Answer::Unknown { kind: self.kind.clone() },
        }
    }
}

/// A stamp in the history's words.
#[must_use]
pub fn stamp(stamp: wire::Stamp) -> Stamp {
    Stamp {
        group: stamp.group,
        term: stamp.term,
        log_index: stamp.log_index,
        next_offset: Offset(stamp.next_offset),
        writer_epoch: Epoch(stamp.writer_epoch),
    }
}

/// Calls `f` on the service of `to`, and waits for its answer for at most `limit`.
///
/// # Errors
/// [`Failure`].
pub async fn call<T, F, Fut>(to: HostId, limit: Duration, f: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce(Arc<Logs>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, Status>> + Send + 'static,
{
    let presence = world::presence(to);
    if !presence.up && presence.powered {
        runtime::sleep(Duration::from_millis(2)).await;
        return Err(Failure::refused_connection());
    }
    let (answer, receiver) = oneshot::channel();
    world::post(CLIENTS, to, move || {
        let Some(node) = cluster::node(to) else {
            // Its listener is not there yet.
            return world::post(to, CLIENTS, move || {
                drop(answer.send(Err(Failure::refused_connection())));
            });
        };
        let logs = node.logs.clone();
        host::spawn(to, async move {
            let done = f(logs).await.map_err(|status| Failure::of(&status));
            world::post(to, CLIENTS, move || drop(answer.send(done)));
        });
    });
    let answered = async {
        match receiver.await {
            Ok(answer) => answer,
            // Lost on the way: nobody says so.
            Err(_) => std::future::pending().await,
        }
    };
    runtime::timeout(limit, answered).await.unwrap_or_else(|_| Err(Failure::lost()))
}

fn request<T>(body: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(body);
    request.set_timeout(limit);
    request
}

/// Creates a log, if it is not there.
///
/// # Errors
/// [`Failure`].
pub async fn create(
    to: HostId,
    log: String,
    limit: Duration,
) -> Result<wire::CreateLogResponse, Failure> {
    let body = wire::CreateLogRequest { name: log, if_absent: true, ..Default::default() };
    call(to, limit, move |logs| async move {
        Ok(logs.create_log(request(body, limit)).await?.into_inner())
    })
    .await
}

/// Deletes a log, whichever it is or only this one.
///
/// # Errors
/// [`Failure`].
pub async fn delete(
    to: HostId,
    name: String,
    incarnation: Option<u64>,
    limit: Duration,
) -> Result<wire::DeleteLogResponse, Failure> {
    let body = wire::DeleteLogRequest { name, incarnation };
    call(to, limit, move |logs| async move {
        Ok(logs.delete_log(request(body, limit)).await?.into_inner())
    })
    .await
}

/// Appends.
///
/// # Errors
/// [`Failure`].
pub async fn append(
    to: HostId,
    part: wire::AppendPart,
    limit: Duration,
) -> Result<wire::AppendResponse, Failure> {
    let body = wire::AppendRequest { part: Some(part), ack: 0 };
    call(
        to,
        limit,
        move |logs| async move { Ok(logs.append(request(body, limit)).await?.into_inner()) },
    )
    .await
}

/// Raises the writer epoch.
///
/// # Errors
/// [`Failure`].
pub async fn fence(
    to: HostId,
    log: String,
    limit: Duration,
) -> Result<wire::FenceResponse, Failure> {
    let body = wire::FenceRequest { log, min_epoch: None, incarnation: None };
    call(
        to,
        limit,
        move |logs| async move { Ok(logs.fence(request(body, limit)).await?.into_inner()) },
    )
    .await
}

/// What a read showed.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its header.
    pub header: wire::ReadHeader,
    /// The visible parts of its batches.
    pub batches: Vec<Batch>,
    /// When the node had made the header.
    pub served: Moment,
}

/// Reads.
///
/// # Errors
/// [`Failure`].
pub async fn read(to: HostId, body: wire::ReadRequest, limit: Duration) -> Result<Shown, Failure> {
    call(to, limit, move |logs| async move {
        let mut answers = logs.read(request(body, limit)).await?.into_inner();
        let served = world::moment();
        let (mut header, mut batches) = (None, Vec::new());
        while let Some(answer) = answers.next().await {
            let answer = answer?;
            header = header.or(answer.header);
            batches.extend(answer.batches.into_iter().map(visible));
        }
        let header = header.ok_or_else(|| Status::internal("a read without a header"))?;
        Ok(Shown { header, batches, served })
    })
    .await
}

/// What a reader may see of a stored batch.
fn visible(stored: wire::StoredBatch) -> Batch {
    let decoded = wire::RecordBatch::decode(stored.batch.clone()).unwrap_or_default();
    let skip = (stored.visible_from.saturating_sub(stored.first_offset)) as usize;
    let end = match stored.visible_to {
        0 => decoded.records.len(),
        to => ((to - stored.first_offset) as usize).min(decoded.records.len()),
    };
    let records = &decoded.records[skip.min(end)..end];
    Batch {
        first_offset: Offset(stored.first_offset + skip as u64),
        records: records.iter().map(|record| payload::decode(&record.value)).collect(),
        timestamp_ms: stored.timestamp_ms,
        crc32c: stored.batch_crc32c,
        writer_epoch: stored.writer_epoch.map(Epoch),
        producer: stored.producer.map(|p| {
            let id: String = p.id.iter().map(|byte| format!("{byte:02x}")).collect();
            (id, p.sequence)
        }),
    }
}
