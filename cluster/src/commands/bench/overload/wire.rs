//! `Append` with as little work of ours as can be: requests are encoded once and sent again and
//! again, each as the same bytes. A generator that encodes, copies and frees what it offers has
//! nothing left to offer it with, and measures itself.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use quorate_client::{Endpoint, Error};
use quorate_proto::v1::{AppendRequest, AppendResponse};
use tokio::sync::oneshot;
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, Service as _, http},
    transport::Channel,
};

/// What is called.
const METHOD: &str = "/quorate.v1.LogService/Append";

/// Flow-control windows of a connection: the SDK's.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// gRPC's frame around a message: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

/// One connection to whoever leads.
pub struct Wire {
    connect_timeout: Duration,
    channel: Mutex<Option<(Endpoint, Channel)>>,
}

/// A request as it goes over the wire.
#[must_use]
pub fn encoded(request: &AppendRequest) -> Bytes {
    let length = request.encoded_len();
    let mut bytes = BytesMut::with_capacity(FRAME_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("a request is far below 4 GiB"));
    request.encode(&mut bytes).expect("there is room");
    bytes.freeze()
}

impl Wire {
    /// Connects when it is first used.
    #[must_use]
    pub fn new(connect_timeout: Duration) -> Self {
        Self { connect_timeout, channel: Mutex::default() }
    }

    fn channel(&self, to: &Endpoint) -> Result<Channel, Error> {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = channel.as_ref().filter(|(of, _)| of == to) {
            return Ok(channel.clone());
        }
        let endpoint = tonic::transport::Endpoint::from_shared(to.as_str().to_owned());
        let endpoint =
            endpoint.map_err(|e| failed(&Status::invalid_argument(format!("{to}: {e}"))))?;
        let made = endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect_lazy();
        *channel = Some((to.clone(), made.clone()));
        Ok(made)
    }

    /// Sends an encoded request. Says when its body was handed to HTTP/2, if it was: before that,
    /// it waited here.
    ///
    /// # Errors
    /// What the node, or the connection, says.
    pub async fn append(
        &self,
        to: &Endpoint,
        encoded: Bytes,
        timeout: Duration,
    ) -> (Result<AppendResponse, Error>, Option<Instant>) {
        let (handed, mut when) = oneshot::channel();
        let body = Once(Some((encoded, handed)));
        let answer = match tokio::time::timeout(timeout, self.call(to, body, timeout)).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!("no answer within {} ms", timeout.as_millis());
                Err(failed(&Status::deadline_exceeded(message)))
            }
        };
        (answer, when.try_recv().ok())
    }

    async fn call(
        &self,
        to: &Endpoint,
        body: Once,
        timeout: Duration,
    ) -> Result<AppendResponse, Error> {
        let request = http::Request::post(METHOD)
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .header("grpc-timeout", format!("{}m", timeout.as_millis()))
            .body(Body::new(body))
            .expect("these headers are valid");
        let mut channel = self.channel(to)?;
        let broken = |e: tonic::transport::Error| failed(&Status::from_error(Box::new(e)));
        poll_fn(|waker| channel.poll_ready(waker)).await.map_err(broken)?;
        let (head, body) = channel.call(request).await.map_err(broken)?.into_parts();
        let mut status = Status::from_header_map(&head.headers);
        let mut message = BytesMut::new();
        let mut body = pin!(body);
        while let Some(frame) = poll_fn(|waker| body.as_mut().poll_frame(waker)).await {
            let frame = frame.map_err(|status| failed(&status))?;
            match frame.into_data() {
                Ok(data) => message.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().ok();
                    status = status.or(trailers.and_then(|t| Status::from_header_map(&t)));
                }
            }
        }
        match status {
            Some(status) if status.code() == tonic::Code::Ok => {
                let message = message.get(FRAME_BYTES..).unwrap_or_default();
                let malformed = |e: prost::DecodeError| failed(&Status::internal(e.to_string()));
                AppendResponse::decode(message).map_err(malformed)
            }
            Some(status) => Err(failed(&status)),
            None => Err(failed(&Status::internal("an answer without a status"))),
        }
    }
}

fn failed(status: &Status) -> Error {
    Error::from_status(status, true)
}

/// A body of one piece.
struct Once(Option<(Bytes, oneshot::Sender<Instant>)>);

impl HttpBody for Once {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|(bytes, handed)| {
            // Nobody waits for it any more: then nobody asks.
            let _ = handed.send(Instant::now());
            Ok(hyper::body::Frame::data(bytes))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible};

    use quorate_client::ErrorKind;
    use quorate_proto::v1::{AppendPart, AppendedPart};
    use tonic::{
        codegen::{BoxFuture, Service},
        server::NamedService,
        transport::{Server, server::TcpIncoming},
    };

    use super::*;

    /// Appends to "there"; breaks off at others.
    #[derive(Clone)]
    struct Node;

    impl NamedService for Node {
        const NAME: &'static str = "quorate.v1.LogService";
    }

    /// A message and a status behind it.
    struct Frames(VecDeque<hyper::body::Frame<Bytes>>);

    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    async fn answer(request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        let (mut body, mut sent) = (pin!(request.into_body()), BytesMut::new());
        while let Some(frame) = poll_fn(|waker| body.as_mut().poll_frame(waker)).await {
            sent.extend_from_slice(&frame.expect("a frame").into_data().expect("data"));
        }
        let length = u32::from_be_bytes(sent[1..FRAME_BYTES].try_into().expect("4 bytes"));
        assert_eq!((sent[0], length as usize), (0, sent.len() - FRAME_BYTES));
        let request = AppendRequest::decode(&sent[FRAME_BYTES..]).expect("a request");
        let part = request.part.expect("its part");
        if part.log != "there" {
            return Ok(Status::unavailable("elsewhere").into_http());
        }
        let next_offset = part.batch.len() as u64;
        let part = AppendedPart { next_offset, ..Default::default() };
        let message = AppendResponse { part: Some(part), ..Default::default() };
        let mut data = BytesMut::from(&[0][..]);
        data.put_u32(message.encoded_len() as u32);
        message.encode(&mut data).expect("it grows");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        let frames =
            [hyper::body::Frame::data(data.freeze()), hyper::body::Frame::trailers(trailers)];
        Ok(http::Response::new(Body::new(Frames(frames.into()))))
    }

    impl Service<http::Request<Body>> for Node {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            Box::pin(answer(request))
        }
    }

    fn to(log: &str) -> Bytes {
        let batch = Bytes::from_static(b"a batch");
        let part = AppendPart { log: log.to_owned(), batch, ..Default::default() };
        encoded(&AppendRequest { part: Some(part), ..Default::default() })
    }

    #[tokio::test]
    async fn the_same_bytes_are_a_request_again_and_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = Endpoint::new(&listener.local_addr().expect("bound").to_string());
        let address = address.expect("an address");
        let serving = Server::builder().add_service(Node);
        let serving = tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
        let (wire, patience) = (Wire::new(Duration::from_secs(60)), Duration::from_secs(60));
        let request = to("there");
        for _ in 0..3 {
            let began = Instant::now();
            let (answer, handed) = wire.append(&address, request.clone(), patience).await;
            assert_eq!(answer.expect("appended").part.expect("its part").next_offset, 7);
            assert!(handed.expect("it was sent") >= began);
        }
        let (answer, _) = wire.append(&address, to("elsewhere"), patience).await;
        let error = answer.expect_err("a refusal in the headers");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("elsewhere"), "{error}");
        serving.abort();
    }
}
