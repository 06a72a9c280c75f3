//! `AppendStream`: pipelined appends on one stream.
//!
//! Requests are handed to the proposers in the order they arrive, answers leave in the same order.
//! A stream may have [`WINDOW_BYTES`] unanswered; beyond that it is simply not read, and HTTP/2
//! flow control holds the client back. The node-wide bound refuses instead (RESOURCE_EXHAUSTED,
//! effect NONE).

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use quorate_proto::v1::{
    AppendStreamRequest, AppendStreamResponse, Effect, append_stream_response::Result as Answer,
};
use quorate_state_machine::{command::Command, types::GroupId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tonic::{Status, Streaming};

use super::{
    append,
    context::{self, Context, Deadline},
    errors::ApiError,
};
use crate::{runtime, write::proposer};

/// Unanswered bytes of one stream.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// Unanswered requests of one stream: bounds the queue of empty or refused ones.
const WINDOW_REQUESTS: usize = 4096;

/// Cost of a request besides its payload, in the window.
const OVERHEAD_BYTES: usize = 256;

pub(super) type ResponseStream =
    Pin<Box<dyn Stream<Item = Result<AppendStreamResponse, Status>> + Send>>;

enum Pending {
    /// Refused at the edge.
    Refused(Box<ApiError>),
    /// On its way.
    Submitted(Submitted),
}

struct Submitted {
    group: GroupId,
    receiver: oneshot::Receiver<proposer::Answer>,
    deadline: Deadline,
    bytes: usize,
    started: runtime::Instant,
}

enum InFlight {
    Request {
        tag: u64,
        pending: Pending,
        _window: OwnedSemaphorePermit,
    },
    /// The next request could not be read, and none will be: the last word of the stream.
    Unread(Box<ApiError>),
}

/// Serves one stream until the client ends it, breaks it, or the node stops. What was taken is
/// answered in each case.
pub(super) fn serve(
    context: Arc<Context>,
    requests: Streaming<AppendStreamRequest>,
) -> ResponseStream {
    let (sender, receiver) = mpsc::channel(WINDOW_REQUESTS);
    runtime::spawn(intake(context.clone(), requests, sender));
    Box::pin(futures::stream::unfold((context, receiver), |(context, mut receiver)| async move {
        let next = match receiver.recv().await? {
            InFlight::Request { tag, pending, _window } => {
                let result = match answer(&context, pending).await {
                    Ok(response) => Answer::Ok(response),
                    Err(error) => Answer::Error(*error.0),
                };
                Ok(AppendStreamResponse { tag, result: Some(result) })
            }
            InFlight::Unread(why) => Err(why.into_status()),
        };
        Some((next, (context, receiver)))
    }))
}

/// Reads, validates and submits in order. Ends when the client is done or gone, or when nobody
/// takes the answers any more.
async fn intake(
    context: Arc<Context>,
    mut requests: Streaming<AppendStreamRequest>,
    answers: mpsc::Sender<InFlight>,
) {
    let window = Arc::new(Semaphore::new(WINDOW_BYTES));
    loop {
        // A node that stops reads no more; what it has taken is answered, then the stream ends and
        // the client goes on elsewhere.
        let next = tokio::select! {
            next = requests.next() => next,
            () = context.gate.closed() => return,
        };
        let Some(next) = next else { return };
        let request = match next {
            Ok(request) => request,
            Err(status) => {
                tracing::debug!(%status, "an append stream broke");
                let why = InFlight::Unread(Box::new(ApiError::unread(&status)));
                // Nobody may be there to take it.
                let _ = answers.send(why).await;
                return;
            }
        };
        let tag = request.tag;
        let bytes = prost::Message::encoded_len(&request) + OVERHEAD_BYTES;
        let cost = u32::try_from(bytes.min(WINDOW_BYTES)).expect("the window is below 4 GiB");
        let permit =
            window.clone().acquire_many_owned(cost).await.expect("the window is never closed");
        let pending = match submit(&context, request) {
            Ok(submitted) => submitted,
            Err(error) => Pending::Refused(Box::new(error)),
        };
        let taken = InFlight::Request { tag, pending, _window: permit };
        if answers.send(taken).await.is_err() {
            return;
        }
    }
}

fn submit(context: &Context, request: AppendStreamRequest) -> Result<Pending, ApiError> {
    let append = request.append.ok_or_else(|| ApiError::invalid("the request has no append"))?;
    append::check_ack(append.ack)?;
    let wire = append.part.ok_or_else(|| ApiError::invalid("the append has no part"))?;
    let (group, part) = append::part(context, wire)?;
    let (bytes, started) = (part.batch.bytes.len(), runtime::now());
    let receiver = context.submit(group, Command::Append(vec![part]))?;
    let deadline = Deadline::default_for_streams();
    Ok(Pending::Submitted(Submitted { group, receiver, deadline, bytes, started }))
}

async fn answer(
    context: &Context,
    pending: Pending,
) -> Result<quorate_proto::v1::AppendResponse, ApiError> {
    match pending {
        Pending::Refused(error) => Err(*error),
        Pending::Submitted(Submitted { group, receiver, deadline, bytes, started }) => {
            let done = deadline.run(context::accept(group, receiver), Effect::Unknown).await;
            append::count(context, done.as_ref().map(|(_, accepted)| accepted), bytes, started);
            Ok(append::response(context, group, &done?))
        }
    }
}
