//! The client itself: settings, and what its clones share.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    errors::{Error, Result},
    hedge::{Budget, Hedging},
    producer::SharedProducers,
    replicas::Route,
    retry::RetryPolicy,
    routing::Routing,
    transport::{Endpoint, GrpcTransport, Transport},
};

/// Settings of a [`Client`].
#[derive(Clone)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    request_timeout: Duration,
    connect_timeout: Duration,
    retry: RetryPolicy,
    route: Option<Route>,
    hedging: Option<Hedging>,
    share_reads: bool,
    transport: Option<Arc<dyn Transport>>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            retry: RetryPolicy::default(),
            route: None,
            hedging: None,
            share_reads: true,
            transport: None,
        }
    }
}

impl ClientBuilder {
    /// Addresses of nodes, e.g. `127.0.0.1:7101` or `http://node1:7101`. One that answers is
    /// enough: the others are learned from it as they come to lead.
    #[must_use]
    pub fn endpoints<S: Into<String>>(mut self, endpoints: impl IntoIterator<Item = S>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// How long a call may take, with all its retries. Default: 10 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long making a connection may take. Default: 2 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Pauses between attempts.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Where reads go. Default: linearizable ones to the leader, which answers them soonest, the
    /// others to all replicas in turn. Any replica can serve any level.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.route = Some(route);
        self
    }

    /// Asks a second replica when a read takes long. Default: never.
    #[must_use]
    pub fn hedging(mut self, hedging: Hedging) -> Self {
        self.hedging = Some(hedging);
        self
    }

    /// Whether small reads (of at most 64 records or 64 KiB, by what they ask for) to the same node
    /// share a stream instead of making a call each, which costs several times the reading. Each is
    /// routed, repeated and refused by itself all the same. Default: yes. A proxy that spreads calls
    /// over nodes by itself wants them one by one.
    #[must_use]
    pub fn share_reads(mut self, share: bool) -> Self {
        self.share_reads = share;
        self
    }

    /// Another network than gRPC's: for tests and simulations.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Makes the client. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid): no endpoint, or one that is no address.
    pub fn build(self) -> Result<Client> {
        let endpoints: Vec<Endpoint> =
            self.endpoints.iter().map(|e| Endpoint::new(e)).collect::<Result<_>>()?;
        if endpoints.is_empty() {
            return Err(Error::invalid("a client needs the address of at least one node"));
        }
        let transport = self.transport.unwrap_or_else(|| {
            let grpc = GrpcTransport::new(self.connect_timeout);
            Arc::new(if self.share_reads { grpc } else { grpc.with_reads_alone() })
        });
        Ok(Client {
            shared: Arc::new(Shared {
                transport,
                routing: Routing::new(endpoints),
                retry: self.retry,
                hedging: self.hedging.map(|hedging| Mutex::new(Budget::new(hedging))),
            }),
            producers: Arc::default(),
            timeout: self.request_timeout,
            route: self.route,
            pinned: None,
        })
    }
}

pub(crate) struct Shared {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) routing: Routing,
    pub(crate) retry: RetryPolicy,
    pub(crate) hedging: Option<Mutex<Budget>>,
}

/// A client of one cluster. Cheap to clone; clones share connections and what they learned. Must
/// be used inside a tokio runtime.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    /// Behind [`Client::append`]. Gone with the last clone of the client, and their tasks with
    /// them: these hold clients without it ([`Client::detached`]).
    pub(crate) producers: Arc<SharedProducers>,
    timeout: Duration,
    route: Option<Route>,
    pinned: Option<Endpoint>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("endpoints", &self.endpoints())
            .field("timeout", &self.timeout)
            .field("pinned", &self.pinned)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Settings for a new client.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The nodes known so far: the configured ones, then those learned from hints.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.shared.routing.endpoints()
    }

    /// The same client with another deadline for its calls.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same client with other ways for its reads; see [`ClientBuilder::route`].
    #[must_use]
    pub fn with_route(&self, route: Route) -> Self {
        Self { route: Some(route), ..self.clone() }
    }

    /// The same client asking this node only, once, whatever it answers: no redirect is followed
    /// and nothing is retried.
    #[must_use]
    pub fn pinned_to(&self, endpoint: &Endpoint) -> Self {
        Self { pinned: Some(endpoint.clone()), ..self.clone() }
    }

    /// How long a call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// For tasks that must not keep the shared producers alive.
    pub(crate) fn detached(&self) -> Self {
        Self { producers: Arc::default(), ..self.clone() }
    }

    pub(crate) fn route(&self) -> Option<Route> {
        self.route
    }

    pub(crate) fn pinned(&self) -> Option<&Endpoint> {
        self.pinned.as_ref()
    }
}
