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

/// How to connect to a peer at `host:port`.
pub(super) fn endpoint(address: &str, options: &PeerOptions) -> Result<Endpoint, TransportError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| TransportError::Unreachable(format!("{address:?} is no address: {e}")))?;
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
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
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
}
