//! `ReadMany`: the reads of many callers on one stream.
//!
//! A call of gRPC costs several times what a small read does. Here a request may hold many, and what
//! is ready at the same time goes out together: reads that waited for the same round of the quorum,
//! above all. What a read has to satisfy is decided where [`super::serve`] decides it.
//!
//! All of it happens when the connection asks for the next message. While a client does not take
//! its answers, no further one is made and no further request is read, and HTTP/2 holds the client
//! back: what a stream holds is [`UNDER_WAY`] requests, one message of answers, and what HTTP/2
//! buffers.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context as Waker, Poll},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use prost::Message;
use quorate_proto::v1::{
    ReadAnswer, ReadManyRequest, ReadManyResponse, ReadRequest, TaggedRead,
    read_answer::Result as Answer,
};
use tonic::{Status, Streaming};

use super::serve;
use crate::api::{
    context::{Context, Deadline},
    errors::ApiError,
};

/// Reads of one stream that are being answered. Further ones wait where they are.
const UNDER_WAY: usize = 1024;

/// Answers go out when they are so many bytes together, though more may be ready: enough for a
/// system call to be worth it, and soon enough for the first of them.
const MESSAGE_BYTES: usize = 32 * 1024;

pub(in crate::api) type Answers =
    Pin<Box<dyn Stream<Item = Result<ReadManyResponse, Status>> + Send>>;

/// Serves one stream until the client ends it, breaks it, or the node stops. What was taken is
/// answered in each case.
pub(in crate::api) fn many(context: Arc<Context>, requests: Streaming<ReadManyRequest>) -> Answers {
    let mut intake = Intake::new(context.clone(), requests);
    let mut under_way = FuturesUnordered::new();
    Box::pin(futures::stream::poll_fn(move |waker| {
        let (mut answers, mut bytes) = (Vec::new(), 0);
        loop {
            let mut progress = false;
            while under_way.len() < UNDER_WAY
                && let Some(read) = intake.next(waker)
            {
                under_way.push(answer(context.clone(), read));
                progress = true;
            }
            while bytes < MESSAGE_BYTES
                && let Poll::Ready(Some(answer)) = under_way.poll_next_unpin(waker)
            {
                bytes += Message::encoded_len(&answer);
                answers.push(answer);
                progress = true;
            }
            if bytes >= MESSAGE_BYTES || !progress {
                break;
            }
        }
        match (answers.is_empty(), intake.is_over() && under_way.is_empty()) {
            (false, _) => Poll::Ready(Some(Ok(ReadManyResponse { answers }))),
            (true, true) => Poll::Ready(intake.unread.take().map(|why| Err(why.into_status()))),
            (true, false) => Poll::Pending,
        }
    }))
}

/// The reads of a stream, one by one.
struct Intake {
    /// `None`: no more come.
    requests: Option<Streaming<ReadManyRequest>>,
    /// Of the last request.
    waiting: VecDeque<TaggedRead>,
    /// Why no more come, if a request could not be read: the last word of the stream.
    unread: Option<ApiError>,
    /// A node that stops reads no more; what it has taken is answered, then the stream ends and the
    /// client goes on elsewhere.
    stopping: BoxFuture<'static, ()>,
}

impl Intake {
    fn new(context: Arc<Context>, requests: Streaming<ReadManyRequest>) -> Self {
        let stopping = async move { context.gate.closed().await }.boxed();
        Self { requests: Some(requests), waiting: VecDeque::new(), unread: None, stopping }
    }

    /// `None`: there is none now.
    fn next(&mut self, waker: &mut Waker<'_>) -> Option<TaggedRead> {
        while self.waiting.is_empty() {
            let requests = self.requests.as_mut()?;
            if self.stopping.poll_unpin(waker).is_ready() {
                self.requests = None;
                return None;
            }
            match requests.poll_next_unpin(waker) {
                Poll::Ready(Some(Ok(request))) => self.waiting = request.reads.into(),
                Poll::Ready(Some(Err(status))) => {
                    tracing::debug!(%status, "a stream of reads broke");
                    (self.requests, self.unread) = (None, Some(ApiError::unread(&status)));
                }
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => return None,
            }
        }
        self.waiting.pop_front()
    }

    fn is_over(&self) -> bool {
        self.requests.is_none() && self.waiting.is_empty()
    }
}

async fn answer(context: Arc<Context>, asked: TaggedRead) -> ReadAnswer {
    let TaggedRead { tag, read, timeout_ms } = asked;
    let deadline = match timeout_ms {
        0 => Deadline::default_for_streams(),
        ms => Deadline::within(Duration::from_millis(ms)),
    };
    let result = match read_one(&context, read, deadline).await {
        Ok(result) => result,
        Err(error) => Answer::Error(*error.0),
    };
    ReadAnswer { tag, result: Some(result) }
}

async fn read_one(
    context: &Context,
    read: Option<ReadRequest>,
    deadline: Deadline,
) -> Result<Answer, ApiError> {
    let request = read.ok_or_else(|| ApiError::invalid("the tagged read has no read"))?;
    Ok(match serve::read_at_once(context, &request, deadline).await? {
        Ok(whole) => Answer::Ok(whole),
        Err(instead) => Answer::CallRead(instead.into()),
    })
}
