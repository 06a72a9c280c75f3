//! Appends of one call each are counted before anything is done for them, and turned away when
//! there are too many.
//!
//! [`Admission`](crate::write::admission) bounds what was read and understood. Under more load than
//! the serving threads can take, requests never get that far: they wait, by the ten thousand, as
//! half-read messages and tasks that want to run, without bound and for longer than their callers
//! do. So the door is here: beyond its limit, [`Crowd`] refuses a call by its headers, and throws
//! its body away as it comes.
//!
//! Thrown away, not left: HTTP/2 would reset the call, and a connection on which a thousand bodies
//! came for calls that were reset is closed (h2, `max_local_error_reset_streams`), with all others
//! on it.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context as Waker, Poll},
};

use quorate_proto::v1::{Effect, ErrorKind};
use tokio::sync::Semaphore;
use tonic::{
    Status,
    body::Body,
    codegen::{
        Body as HttpBody, BoxFuture, Service,
        http::{self, HeaderMap},
    },
};
use tower_layer::Layer;

use super::errors::{ApiError, OVERLOAD_RETRY_MS};
use crate::observe::Metrics;

/// The calls that are counted. Reads and tails may wait for a level for as long as their callers
/// like, and streams are one call for many appends: what they hold is bounded elsewhere.
const COUNTED: [&str; 2] = ["/quorate.v1.LogService/Append", "/quorate.v1.LogService/AppendMulti"];

/// The door itself, for [`tonic::transport::Server::layer`]: ahead of the routes, so that a refusal
/// costs neither finding the service nor anything that is done for one that will be served.
#[derive(Clone)]
pub struct Door {
    permits: Arc<Semaphore>,
    /// What every refusal says: made once, as under too much load nothing is made more often.
    refusal: HeaderMap,
    metrics: Arc<Metrics>,
}

/// All services behind their door.
#[derive(Clone)]
pub struct Crowd<S> {
    inner: S,
    door: Door,
}

impl Door {
    /// At most `limit` appends at a time, over all connections.
    #[must_use]
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        let refusal = refusal(limit).into_http::<Body>().into_parts().0.headers;
        Self { permits: Arc::new(Semaphore::new(limit)), refusal, metrics }
    }

    fn refuse(&self) -> http::Response<Body> {
        self.metrics.admission_refused();
        let mut response = http::Response::new(Body::empty());
        *response.headers_mut() = self.refusal.clone();
        response
    }
}

fn refusal(limit: usize) -> Status {
    let mut error = ApiError::new(
        ErrorKind::ResourceExhausted,
        true,
        Effect::None,
        format!(
            "{limit} appends are in flight on this node; nothing was appended, try again shortly"
        ),
    );
    error.0.limit = "limits.inflight_appends".to_owned();
    error.0.limit_value = limit as u64;
    error.0.retry_after_ms = OVERLOAD_RETRY_MS;
    error.into()
}

impl<S> Layer<S> for Door {
    type Service = Crowd<S>;

    fn layer(&self, inner: S) -> Crowd<S> {
        Crowd { inner, door: self.clone() }
    }
}

impl<S, B> Service<http::Request<B>> for Crowd<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    B: HttpBody + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, waker: &mut Waker<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(waker)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if !COUNTED.contains(&request.uri().path()) {
            return Box::pin(self.inner.call(request));
        }
        let Ok(permit) = self.door.permits.clone().try_acquire_owned() else {
            let refusal = self.door.refuse();
            return Box::pin(async move {
                throw_away(request.into_body()).await;
                Ok(refusal)
            });
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            // Until the answer is there, or its caller is gone and this future with him.
            let _permit = permit;
            answer.await
        })
    }
}

/// Until its end, or until it breaks: then there is nobody to answer.
async fn throw_away(body: impl HttpBody) {
    let mut body = pin!(body);
    while let Some(Ok(_)) = poll_fn(|waker| body.as_mut().poll_frame(waker)).await {}
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use bytes::Bytes;
    use hyper::body::Frame;
    use prost::Message as _;
    use quorate_proto::v1::ErrorDetail;
    use tokio::sync::oneshot;
    use tonic::Code;

    use super::*;

    /// Answers when it is told to.
    #[derive(Clone, Default)]
    struct Slow(Arc<std::sync::Mutex<Vec<oneshot::Sender<()>>>>);

    impl Service<http::Request<Body>> for Slow {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Waker<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            let (go, told) = oneshot::channel();
            self.0.lock().unwrap().push(go);
            Box::pin(async move {
                told.await.expect("told");
                Ok(http::Response::new(Body::empty()))
            })
        }
    }

    fn of(path: &str) -> http::Request<Body> {
        with(path, Body::empty())
    }

    fn with(path: &str, body: Body) -> http::Request<Body> {
        http::Request::builder().uri(path).body(body).unwrap()
    }

    /// A body in pieces, of which so many are left.
    struct Pieces(Arc<AtomicUsize>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Waker<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            let left = self.0.load(Ordering::Relaxed);
            self.0.store(left.saturating_sub(1), Ordering::Relaxed);
            Poll::Ready((left > 0).then(|| Ok(Frame::data(Bytes::from_static(b"piece")))))
        }
    }

    #[tokio::test]
    async fn beyond_the_bound_nothing_reaches_the_service() {
        let (slow, append) = (Slow::default(), "/quorate.v1.LogService/Append");
        let metrics = Arc::new(Metrics::new());
        let mut crowd = Door::new(2, metrics.clone()).layer(slow.clone());
        let mut first = crowd.call(of(append));
        let mut second = crowd.call(of("/quorate.v1.LogService/AppendMulti"));
        // They count until they are answered, not only until they are begun.
        assert!(
            futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending()
        );
        let pieces = Arc::new(AtomicUsize::new(3));
        let third = with(append, Body::new(Pieces(pieces.clone())));
        let refused = crowd.call(third).await.unwrap();
        assert_eq!(pieces.load(Ordering::Relaxed), 0, "what is left of a body resets its call");
        let status = Status::from_header_map(refused.headers()).expect("a refusal");
        assert_eq!(status.code(), Code::ResourceExhausted);
        let detail = tonic_types::pb::Status::decode(status.details()).unwrap().details.remove(0);
        let detail = ErrorDetail::decode(&detail.value[..]).unwrap();
        assert_eq!((detail.effect(), detail.retryable), (Effect::None, true));
        assert!(detail.retry_after_ms > 0, "{detail:?}");
        assert_eq!((detail.limit.as_str(), detail.limit_value), ("limits.inflight_appends", 2));
        assert_eq!(slow.0.lock().unwrap().len(), 2, "the third was turned away");
        assert!(refused.body().is_end_stream(), "a refusal is headers alone");
        // Who waits for a level does not use up what appends need.
        let _reading = crowd.call(of("/quorate.v1.LogService/Read"));
        assert_eq!(slow.0.lock().unwrap().len(), 3);

        slow.0.lock().unwrap().remove(0).send(()).unwrap();
        first.await.unwrap();
        let third = crowd.call(of(append));
        assert_eq!(slow.0.lock().unwrap().len(), 3, "there is room again");
        // A caller who hangs up makes room too.
        drop((second, third));
        drop((crowd.call(of(append)), crowd.call(of(append))));
        let again = crowd.call(of(append));
        assert_eq!(slow.0.lock().unwrap().len(), 6, "as often as callers leave");
        drop(again);
    }
}
