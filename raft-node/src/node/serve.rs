//! The node's listeners: peers, clients and operators (gRPC), HTTP.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use quorate_proto::{
    admin::v1::admin_service_server::AdminServiceServer, v1::log_service_server::LogServiceServer,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{
    Server,
    server::{Router, TcpIncoming},
};
use tower_layer::{Identity, Stack};

use super::{Fatal, gather::Gathered, parts::Parts, vitals::Vitals};
use crate::{
    api::{
        admin::{Admin, NodeFacts},
        crowd::Door,
        service::Logs,
    },
    observe::{exit::ExitCode, http},
    peer::service as peer_service,
    runtime::{self, Edge, Task},
};

/// Largest HTTP/2 frame taken from a client. The default (16 KiB) would cut a batch into many.
const FRAME_BYTES: u32 = 256 * 1024;

/// HTTP/2 flow-control windows of a client's connection. The defaults (64 KiB) would hold a
/// streaming producer to one window a round trip.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Pings on clients' connections, so that dead ones go away.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests of one connection that were reset before this node saw them, beyond which the connection
/// is closed. A pause of this node makes such resets of all that callers gave up meanwhile; h2's own
/// limit of 20 takes that for an attack (CVE-2023-44487) and ends their streams as well. Each costs
/// some hundred bytes until it is seen.
const GIVEN_UP_STREAMS: usize = 4096;

/// Largest response: a message of `Read` is about 1 MiB, or one batch.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// The running listeners.
pub(super) struct Servers {
    /// Ends the client listener.
    pub stop_clients: CancellationToken,
    pub clients: Task<()>,
    /// Ends the peer listener.
    pub stop_peers: CancellationToken,
    pub peers: Task<()>,
    /// Ends HTTP, the last one to go: probes are answered until the end.
    pub stop_http: CancellationToken,
    failure: tokio::sync::watch::Receiver<Option<String>>,
}

impl Servers {
    /// Resolves when a listener ended by itself.
    pub(super) async fn failed(&self) -> Fatal {
        let mut failure = self.failure.clone();
        let why = failure.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => Fatal::new(ExitCode::Software, why),
            None => std::future::pending().await,
        }
    }
}

async fn bind(what: &str, address: &str) -> Result<TcpListener, Fatal> {
    TcpListener::bind(address).await.map_err(|e| {
        Fatal::new(
            ExitCode::Config,
            format!(
                "can't listen on {address} for {what}: {e}; is another node running, or \
                 listen.{what} wrong?"
            ),
        )
    })
}

/// Binds there: a listener wakes the threads that it was bound on.
async fn bind_on(edge: &Edge, what: &'static str, address: &str) -> Result<TcpListener, Fatal> {
    let address = address.to_owned();
    let bound = edge.spawn(async move { bind(what, &address).await }).await;
    bound.expect("binding does not panic, and nobody cancels it")
}

pub(super) async fn start(parts: &Parts, edge: &Edge) -> Result<Servers, Fatal> {
    let config = &parts.config;
    // All or none: a node that answers its peers but no client helps nobody find the mistake.
    let peer_listener = bind("peer", &config.listen.peer).await?;
    let client_listener = bind_on(edge, "client", &config.listen.client).await?;
    let http_listener = bind_on(edge, "http", &config.listen.http).await?;
    let (report, failure) = tokio::sync::watch::channel(None::<String>);
    let report = Arc::new(report);
    let failed = |what: &'static str, report: &Arc<tokio::sync::watch::Sender<Option<String>>>| {
        let report = report.clone();
        move |error: String| {
            report.send_replace(Some(format!("the {what} listener ended: {error}")));
        }
    };

    let stop_peers = CancellationToken::new();
    let peers = {
        let (endpoint, options) = (parts.peer_endpoint.clone(), parts.peer_options.clone());
        let (stop, failed) = (stop_peers.clone(), failed("peer", &report));
        runtime::spawn(async move {
            let stopped = stop.cancelled_owned();
            if let Err(e) = peer_service::serve(peer_listener, endpoint, &options, stopped).await {
                failed(e.to_string());
            }
        })
    };

    let stop_clients = CancellationToken::new();
    let clients = {
        let router = client_router(parts)?;
        let (stop, failed) = (stop_clients.clone(), failed("client", &report));
        edge.spawn(async move {
            // The builder's own setting is for listeners that it opens itself.
            let incoming = TcpIncoming::from(client_listener).with_nodelay(Some(true));
            let incoming = incoming.map_ok(Gathered::new);
            let stopped = stop.cancelled_owned();
            if let Err(e) = router.serve_with_incoming_shutdown(incoming, stopped).await {
                failed(e.to_string());
            }
        })
    };

    let stop_http = CancellationToken::new();
    let vitals = Arc::new(Vitals::of(parts));
    let (stop, metrics) = (stop_http.clone(), parts.metrics.clone());
    edge.spawn(http::serve(http_listener, metrics, vitals, stop.cancelled_owned()));
    Ok(Servers { stop_clients, clients, stop_peers, peers, stop_http, failure })
}

/// The services for clients and operators, behind their door.
type ClientRouter = Router<Stack<Door, Identity>>;

fn client_router(parts: &Parts) -> Result<ClientRouter, Fatal> {
    let config = &parts.config;
    let max_request = config.limits.max_request_bytes();
    let logs = LogServiceServer::new(Logs { context: parts.context.clone() })
        .max_decoding_message_size(max_request)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let door = Door::new(config.limits.inflight_appends as usize, parts.metrics.clone());
    let admin = AdminServiceServer::new(Admin {
        context: parts.context.clone(),
        log_store: parts.log_store.clone(),
        facts: NodeFacts {
            node_uuid: parts.identity.node_uuid,
            client_address: config.advertise_client().to_owned(),
            peer_address: config.advertise_peer().to_owned(),
            data_dir: config.data_dir.clone(),
            started: parts.started,
        },
    })
    .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(quorate_proto::DESCRIPTORS)
        .build_v1()
        .map_err(|e| Fatal::new(ExitCode::Software, format!("gRPC reflection: {e}")))?;
    Ok(Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(config.limits.streams_per_connection)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(GIVEN_UP_STREAMS))
        .layer(door)
        .add_service(logs)
        .add_service(admin)
        .add_service(reflection))
}
