//! The seam to the network: the RPCs this client uses, just above the generated stubs.
//!
//! [`GrpcTransport`] is the real one. A test or a simulation brings its own and hands it to
//! [`ClientBuilder::transport`](crate::ClientBuilder::transport). Nothing behind this trait retries.

mod lane;

use std::{collections::HashMap, fmt, sync::Arc, sync::Mutex, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use quorate_proto::{
    admin::v1::{self as admin, admin_service_client::AdminServiceClient},
    v1::{self as wire, log_service_client::LogServiceClient},
};
use tonic::{Request, Status, transport::Channel};

use crate::{
    errors::{Effect, Error, Result},
    runtime,
};

/// Largest answer taken: a batch at its limit with all that surrounds it, and room to grow.
const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// Flow-control window of one stream: a link of 10 Gbit/s and 3 ms stays full.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Flow-control window of a connection, shared by its streams.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// How soon a connection whose other end vanished without a word is noticed: interval + timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A node's address for clients, e.g. `http://127.0.0.1:7101`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint(Arc<str>);

impl Endpoint {
    /// From an address; `http://` may be left out.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid): it is no address.
    pub fn new(address: &str) -> Result<Self> {
        let address = address.trim().trim_end_matches('/');
        let full = match address.contains("://") {
            true => address.to_owned(),
            false => format!("http://{address}"),
        };
        match tonic::transport::Endpoint::from_shared(full.clone()) {
            Ok(parsed) if parsed.uri().host().is_some() => Ok(Self(full.into())),
            _ => Err(Error::invalid(format!("{address:?} is no address of a node"))),
        }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Answers of a stream, until it ends or breaks.
pub type Answers<T> = BoxStream<'static, Result<T>>;

/// What is to be sent on an append stream. Unbounded in type only: the producer keeps what is in
/// it, and not yet answered, within its bounds.
pub type Requests = tokio::sync::mpsc::UnboundedReceiver<wire::AppendStreamRequest>;

macro_rules! transport {
    (
        unary { $($name:ident($service:ident, $request:ty) -> $answer:ty, write: $write:literal;)+ }
        streams { $($stream:ident($of:ident, $asked:ty) -> $item:ty;)+ }
    ) => {
        /// One node's RPCs. `timeout` bounds a unary call, or the wait for a stream to begin.
        #[async_trait]
        #[allow(missing_docs, reason = "the .proto files are the documentation")]
        pub trait Transport: Send + Sync + 'static {
            $(async fn $name(
                &self, to: &Endpoint, request: $request, timeout: Duration,
            ) -> Result<$answer>;)+

            $(async fn $stream(
                &self, to: &Endpoint, request: $asked, timeout: Duration,
            ) -> Result<Answers<$item>>;)+

            /// What is there now. Small reads may travel together.
            async fn read(
                &self,
                to: &Endpoint,
                request: wire::ReadRequest,
                timeout: Duration,
            ) -> Result<Answers<wire::ReadResponse>>;

            /// Ends when `requests` ends and all is answered, or when it breaks.
            async fn append_stream(
                &self,
                to: &Endpoint,
                requests: Requests,
                timeout: Duration,
            ) -> Result<Answers<wire::AppendStreamResponse>>;
        }

        #[async_trait]
        impl Transport for GrpcTransport {
            $(async fn $name(
                &self, to: &Endpoint, request: $request, timeout: Duration,
            ) -> Result<$answer> {
                let mut stub = self.$service(to)?;
                let mut request = Request::new(request);
                request.set_timeout(timeout);
                within(to, timeout, $write, stub.$name(request)).await
            })+

            $(async fn $stream(
                &self, to: &Endpoint, request: $asked, timeout: Duration,
            ) -> Result<Answers<$item>> {
                let mut stub = self.$of(to)?;
                // Without a timeout in its header: that would end the whole stream in proxies.
                let answers = within(to, timeout, false, stub.$stream(request)).await?;
                Ok(named(to, false, answers))
            })+

            async fn read(
                &self,
                to: &Endpoint,
                request: wire::ReadRequest,
                timeout: Duration,
            ) -> Result<Answers<wire::ReadResponse>> {
                if let Some(lanes) = self.lanes.as_ref().filter(|_| lane::is_small(&request)) {
                    let stub = || self.log_service(to);
                    if let Some(answer) = lanes.read(to, stub, &request, timeout).await? {
                        return Ok(Box::pin(futures::stream::iter([Ok(answer)])));
                    }
                }
                // In a box, so that what travels on a lane does not carry its size around.
                Box::pin(self.read_alone(to, request, timeout)).await
            }

            async fn append_stream(
                &self,
                to: &Endpoint,
                requests: Requests,
                timeout: Duration,
            ) -> Result<Answers<wire::AppendStreamResponse>> {
                let mut stub = self.log_service(to)?;
                let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(requests);
                let answers = within(to, timeout, true, stub.append_stream(requests)).await?;
                Ok(named(to, true, answers))
            }
        }
    };
}

transport! {
    unary {
        create_log(log_service, wire::CreateLogRequest) -> wire::CreateLogResponse, write: true;
        describe_log(log_service, wire::DescribeLogRequest) -> wire::DescribeLogResponse, write: false;
        list_logs(log_service, wire::ListLogsRequest) -> wire::ListLogsResponse, write: false;
        trim_log(log_service, wire::TrimLogRequest) -> wire::TrimLogResponse, write: true;
        delete_log(log_service, wire::DeleteLogRequest) -> wire::DeleteLogResponse, write: true;
        fence(log_service, wire::FenceRequest) -> wire::FenceResponse, write: true;
        set_read_level(log_service, wire::SetReadLevelRequest) -> wire::SetReadLevelResponse, write: true;
        append(log_service, wire::AppendRequest) -> wire::AppendResponse, write: true;
        append_multi(log_service, wire::AppendMultiRequest) -> wire::AppendMultiResponse, write: true;
        status(admin_service, admin::StatusRequest) -> admin::StatusResponse, write: false;
        transfer_leader(admin_service, admin::TransferLeaderRequest) -> admin::TransferLeaderResponse, write: true;
        add_learner(admin_service, admin::AddLearnerRequest) -> admin::MembersResponse, write: true;
        change_members(admin_service, admin::ChangeMembersRequest) -> admin::MembersResponse, write: true;
        trigger_snapshot(admin_service, admin::TriggerSnapshotRequest) -> admin::TriggerSnapshotResponse, write: true;
        mark_digest(admin_service, admin::MarkDigestRequest) -> admin::MarkDigestResponse, write: true;
        digest_at(admin_service, admin::DigestAtRequest) -> admin::DigestAtResponse, write: false;
    }
    streams {
        tail(log_service, wire::TailRequest) -> wire::ReadResponse;
        batch_digests(admin_service, admin::BatchDigestsRequest) -> admin::BatchDigestsResponse;
    }
}

/// gRPC over HTTP/2: one connection a node, made when first used and again when it breaks.
#[derive(Debug)]
pub struct GrpcTransport {
    connect_timeout: Duration,
    /// Only grows, by the nodes of the cluster.
    channels: Mutex<HashMap<Endpoint, Channel>>,
    /// `None`: a call for each read.
    lanes: Option<lane::Lanes>,
}

impl GrpcTransport {
    /// Connections are given up after `connect_timeout`.
    #[must_use]
    pub fn new(connect_timeout: Duration) -> Self {
        let lanes = Some(lane::Lanes::default());
        Self { connect_timeout, channels: Mutex::default(), lanes }
    }

    /// A call for each read, where small ones would share a stream with others to the same node.
    #[must_use]
    pub fn with_reads_alone(mut self) -> Self {
        self.lanes = None;
        self
    }

    fn channel(&self, to: &Endpoint) -> Result<Channel> {
        let mut channels = self.channels.lock().expect("nothing panics while holding it");
        if let Some(channel) = channels.get(to) {
            return Ok(channel.clone());
        }
        let channel = tonic::transport::Endpoint::from_shared(to.as_str().to_owned())
            .map_err(|e| Error::invalid(format!("{to} is no address of a node: {e}")))?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .connect_lazy();
        channels.insert(to.clone(), channel.clone());
        Ok(channel)
    }

    fn log_service(&self, to: &Endpoint) -> Result<LogServiceClient<Channel>> {
        let stub = LogServiceClient::new(self.channel(to)?);
        Ok(stub.max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    async fn read_alone(
        &self,
        to: &Endpoint,
        request: wire::ReadRequest,
        timeout: Duration,
    ) -> Result<Answers<wire::ReadResponse>> {
        let mut stub = self.log_service(to)?;
        // Without a timeout in its header: that would end the whole stream in proxies.
        let answers = within(to, timeout, false, stub.read(request)).await?;
        Ok(named(to, false, answers))
    }

    fn admin_service(&self, to: &Endpoint) -> Result<AdminServiceClient<Channel>> {
        let stub = AdminServiceClient::new(self.channel(to)?);
        Ok(stub.max_decoding_message_size(MAX_MESSAGE_BYTES))
    }
}

async fn within<T>(
    to: &Endpoint,
    timeout: Duration,
    write: bool,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T> {
    match runtime::timeout(timeout, call).await {
        Some(Ok(answer)) => Ok(answer.into_inner()),
        Some(Err(status)) => Err(Error::from_status(&status, write).at(to.as_str())),
        None => {
            let effect = if write { Effect::Unknown } else { Effect::None };
            let message = format!("no answer within {} ms", timeout.as_millis());
            Err(Error::deadline(effect, message).at(to.as_str()))
        }
    }
}

fn named<T: Send + 'static>(
    to: &Endpoint,
    write: bool,
    answers: tonic::Streaming<T>,
) -> Answers<T> {
    let to = to.clone();
    Box::pin(answers.map(move |answer| {
        answer.map_err(|status| Error::from_status(&status, write).at(to.as_str()))
    }))
}
