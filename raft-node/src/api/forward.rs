//! Carries out `ON_UNMET_FORWARD`: the node asks the leader on the caller's behalf, within the
//! limits of [`crate::read::forward`]. The answer is the leader's own, its header included.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use quorate_proto::v1::{
    Consistency, DescribeLogRequest, DescribeLogResponse, ErrorKind, OnUnmet, ReadRequest,
    log_service_client::LogServiceClient,
};
use quorate_state_machine::types::GroupId;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::{
    context::{Context, Deadline},
    errors::ApiError,
    read::{Answers, offering},
};
use crate::read::forward::{Forwarding, NotForwarded, Ticket};

/// To connect to the leader.
const CONNECT: Duration = Duration::from_secs(1);

/// Largest message: one `Read` message, or one batch.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// The node's connections to leaders, and their limits.
#[derive(Default)]
pub struct Forwarder {
    limits: Forwarding,
    /// By address. As many as there are nodes.
    channels: Mutex<HashMap<String, Channel>>,
}

impl Forwarder {
    /// The limits, for the operator's view.
    #[must_use]
    pub fn limits(&self) -> &Forwarding {
        &self.limits
    }

    fn client(&self, address: &str) -> Result<LogServiceClient<Channel>, ApiError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(|e| ApiError::internal(format!("leader address {address:?}: {e}")))?;
                let channel = endpoint.connect_timeout(CONNECT).tcp_nodelay(true).connect_lazy();
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(LogServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }
}

/// Does the request ask for it?
pub(super) fn asked(consistency: Option<&Consistency>) -> bool {
    consistency.is_some_and(|c| c.on_unmet() == OnUnmet::Forward)
}

/// Is this what forwarding is for?
pub(super) fn helps(error: &ApiError) -> bool {
    matches!(error.0.kind(), ErrorKind::TooStale | ErrorKind::NotLeader | ErrorKind::Unavailable)
}

/// The right to ask, and whom. `why` is what the caller is told if there is none.
fn begin(
    context: &Context,
    group: GroupId,
    why: &ApiError,
) -> Result<(Ticket, LogServiceClient<Channel>), ApiError> {
    let reader = &context.sides(group).reader;
    let leader = reader.group().leader().filter(|l| l.id != context.node_id);
    let Some(leader) = leader.filter(|l| !l.client_address.is_empty()) else {
        return Err(why.clone());
    };
    let ticket =
        context.forwarder.limits.begin(leader.id, reader.freshener().now()).map_err(|no| {
            context.metrics.forwarded(match no {
                NotForwarded::Budget => "budget",
                NotForwarded::Open => "open",
            });
            offering(context, group, why.clone()).not_forwarded(no)
        })?;
    Ok((ticket, context.forwarder.client(&leader.client_address)?))
}

/// The leader waits for what it lacks, and passes nothing on: no circles.
fn by_the_leader(consistency: Option<Consistency>) -> Option<Consistency> {
    consistency.map(|c| Consistency { on_unmet: OnUnmet::Wait.into(), ..c })
}

/// The caller must not give up first: a leader that does not answer would look like a caller who
/// went away, and nobody would learn from it.
fn request<T>(message: T, deadline: Deadline) -> Request<T> {
    let left = deadline.left();
    let mut request = Request::new(message);
    request.set_timeout(left - left / 8);
    request
}

/// Tells the breaker what came of it. A refusal with a detail is the leader's answer; without one,
/// it did not answer, and the caller is told `why` he would have had to be forwarded.
fn judge<T>(
    context: &Context,
    group: GroupId,
    ticket: Ticket,
    result: Result<T, Status>,
    why: ApiError,
) -> Result<T, Status> {
    match result {
        Err(status) if status.details().is_empty() => {
            context.metrics.forwarded("failed");
            match status.code() {
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                    ticket.failed(context.sides(group).reader.freshener().now());
                }
                // It is there, and would answer the next one.
                _ => ticket.succeeded(),
            }
            Err(offering(context, group, why).forwarded_in_vain(&status).into())
        }
        answered => {
            ticket.succeeded();
            context.metrics.forwarded("answered");
            answered
        }
    }
}

pub(super) async fn read(
    context: &Context,
    group: GroupId,
    message: ReadRequest,
    deadline: Deadline,
    why: ApiError,
) -> Result<Answers, Status> {
    let (ticket, mut client) = begin(context, group, &why)?;
    let message = ReadRequest { consistency: by_the_leader(message.consistency), ..message };
    let first = async {
        let mut stream = client.read(request(message, deadline)).await?.into_inner();
        let first = stream.message().await?;
        let first = first.ok_or_else(|| Status::internal("an answer without a header"))?;
        Ok((first, stream))
    }
    .await;
    let (first, rest) = judge(context, group, ticket, first, why)?;
    let header = first.header.clone().unwrap_or_default();
    let stream = futures::stream::once(std::future::ready(Ok(first))).chain(rest);
    Ok((Box::pin(stream), header))
}

pub(super) async fn describe(
    context: &Context,
    group: GroupId,
    message: DescribeLogRequest,
    deadline: Deadline,
    why: ApiError,
) -> Result<DescribeLogResponse, Status> {
    let (ticket, mut client) = begin(context, group, &why)?;
    let message = DescribeLogRequest { consistency: by_the_leader(message.consistency), ..message };
    let answer = client.describe_log(request(message, deadline)).await;
    Ok(judge(context, group, ticket, answer, why)?.into_inner())
}
