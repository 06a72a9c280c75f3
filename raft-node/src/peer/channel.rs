//! Every connection between nodes is set up here, both ends: one place for TLS, some day.

use quorate_proto::raft::v1::{
    peer_service_client::PeerServiceClient, peer_service_server::PeerServiceServer,
};
use tonic::transport::{Channel, Endpoint, Server};

use super::{
    options::{MAX_MESSAGE_BYTES, PeerOptions},
    service::PeerGrpc,
    transport::TransportError,
};

/// HTTP/2's flow control steps back: what is in flight is bounded by the lanes' own windows, which
/// know groups, and the defaults (about 1 MiB) would limit a peer that is far away.
const FLOW_WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// Largest HTTP/2 frame taken. The default (16 KiB) would cut an entry of 1 MiB into 64 pieces.
const FRAME_BYTES: u32 = 1024 * 1024;

/// How to connect to a peer at `host:port`.
pub(super) fn endpoint(address: &str, options: &PeerOptions) -> Result<Endpoint, TransportError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| TransportError::Unreachable(format!("{address:?} is no address: {e}")))?;
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .initial_stream_window_size(FLOW_WINDOW_BYTES)
        .initial_connection_window_size(FLOW_WINDOW_BYTES)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true))
}

/// A client on an established connection.
pub(super) fn client(channel: Channel) -> PeerServiceClient<Channel> {
    PeerServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The tonic service, for a server that also serves something else.
pub(super) fn service(grpc: PeerGrpc) -> PeerServiceServer<PeerGrpc> {
    PeerServiceServer::new(grpc)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A server with the peers' connection settings.
pub(super) fn server(options: &PeerOptions) -> Server {
    Server::builder()
        .initial_stream_window_size(FLOW_WINDOW_BYTES)
        .initial_connection_window_size(FLOW_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
}
