//! The tonic service: carries frames between HTTP/2 and [`PeerEndpoint`].

use std::future::Future;

use futures::{Stream, StreamExt, stream::BoxStream};
use quorate_proto::raft::v1::{self as pb, peer_service_server::PeerService};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

use super::{channel, endpoint::PeerEndpoint, options::PeerOptions};

/// The generated trait's implementation.
pub struct PeerGrpc {
    endpoint: PeerEndpoint,
    /// Ends every open stream: lanes never end by themselves.
    closing: CancellationToken,
}

/// Serves peers on `listener` until `shutdown` resolves; then every stream is ended and every
/// connection closed. Peers reconnect when this node is back.
///
/// # Errors
/// What the server reports when it cannot go on.
pub async fn serve(
    listener: TcpListener,
    endpoint: PeerEndpoint,
    options: &PeerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let closing = CancellationToken::new();
    let service = channel::service(PeerGrpc { endpoint, closing: closing.clone() });
    let shutdown = async move {
        shutdown.await;
        closing.cancel();
    };
    channel::server(options)
        .add_service(service)
        // The builder's setting is for listeners of its own only: without this, Nagle's algorithm and
        // delayed acknowledgements cost 40 ms now and then.
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown,
        )
        .await
}

type Replies<T> = BoxStream<'static, Result<T, Status>>;

/// A broken connection ends the stream; why is of interest to people only.
fn frames<T: Send + 'static>(lane: &'static str, incoming: Streaming<T>) -> BoxStream<'static, T> {
    let log = move |status: &Status| tracing::debug!(lane, %status, "a peer's stream broke");
    tokio_stream::StreamExt::map_while(incoming, move |frame| frame.inspect_err(log).ok()).boxed()
}

impl PeerGrpc {
    fn replies<T: Send + 'static>(
        &self,
        replies: impl Stream<Item = T> + Send + 'static,
    ) -> Response<Replies<T>> {
        let closing = self.closing.clone();
        Response::new(replies.map(Ok).take_until(closing.cancelled_owned()).boxed())
    }
}

#[tonic::async_trait]
impl PeerService for PeerGrpc {
    async fn hello(
        &self,
        request: Request<pb::HelloRequest>,
    ) -> Result<Response<pb::HelloResponse>, Status> {
        match self.endpoint.hello(request.into_inner()).await {
            Ok(response) => Ok(Response::new(response)),
            Err(error) => {
                tracing::error!(%error, "could not answer a Hello");
                Err(Status::internal(error.to_string()))
            }
        }
    }

    type AppendStream = Replies<pb::AppendReplyFrame>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendFrame>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        Ok(self.replies(self.endpoint.append(frames("append", request.into_inner()))))
    }

    type ControlStream = Replies<pb::ControlReplyFrame>;

    async fn control(
        &self,
        request: Request<Streaming<pb::ControlFrame>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        Ok(self.replies(self.endpoint.control(frames("control", request.into_inner()))))
    }

    type SnapshotStream = Replies<pb::SnapshotReplyFrame>;

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotFrame>>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Ok(self.replies(self.endpoint.snapshot(frames("snapshot", request.into_inner()))))
    }
}
