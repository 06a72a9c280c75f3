//! The client itself: settings, and the loop that every call but the streaming ones goes through.

use std::{sync::Arc, time::Duration};

use crate::{
    errors::{Effect, Error, ErrorKind, Result},
    producer::SharedProducers,
    retry::{self, Decision, RetryPolicy, Safety, Target},
    routing::Routing,
    runtime,
    transport::{Endpoint, GrpcTransport, Transport},
};

/// How long one attempt of a repeatable call may take while there is time for another. Longer
/// than an election; short enough that a silent node costs a pause, not the call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Settings of a [`Client`].
#[derive(Clone)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    request_timeout: Duration,
    connect_timeout: Duration,
    retry: RetryPolicy,
    transport: Option<Arc<dyn Transport>>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            retry: RetryPolicy::default(),
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

    /// Another network than gRPC's: for tests and simulations.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Makes the client. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: no endpoint, or one that is no address.
    pub fn build(self) -> Result<Client> {
        let endpoints: Vec<Endpoint> =
            self.endpoints.iter().map(|e| Endpoint::new(e)).collect::<Result<_>>()?;
        if endpoints.is_empty() {
            return Err(Error::invalid("a client needs the address of at least one node"));
        }
        let transport =
            self.transport.unwrap_or_else(|| Arc::new(GrpcTransport::new(self.connect_timeout)));
        Ok(Client {
            shared: Arc::new(Shared {
                transport,
                routing: Routing::new(endpoints),
                retry: self.retry,
            }),
            producers: Arc::default(),
            timeout: self.request_timeout,
            pinned: None,
        })
    }
}

pub(crate) struct Shared {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) routing: Routing,
    pub(crate) retry: RetryPolicy,
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

/// One call's way through the retry loop.
pub(crate) struct Call<'a> {
    /// For traces.
    pub(crate) rpc: &'static str,
    pub(crate) log: &'a str,
    pub(crate) safety: Safety,
    /// Where to begin.
    pub(crate) first: First,
    /// Kinds that are the answer although they say retryable.
    pub(crate) too_stale_is_final: bool,
    /// Carries a producer sequence.
    pub(crate) producer: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// The log's leader, as far as known.
    Leader,
    /// The nodes in turn.
    Any,
}

impl<'a> Call<'a> {
    pub(crate) fn write(rpc: &'static str, log: &'a str, safety: Safety) -> Self {
        let first = First::Leader;
        Self { rpc, log, safety, first, too_stale_is_final: false, producer: false }
    }

    pub(crate) fn read(rpc: &'static str, log: &'a str, first: First) -> Self {
        let safety = Safety::Repeatable;
        Self { rpc, log, safety, first, too_stale_is_final: false, producer: false }
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

    pub(crate) fn pinned(&self) -> Option<&Endpoint> {
        self.pinned.as_ref()
    }

    pub(crate) fn first(&self, first: First, log: &str) -> Endpoint {
        match (&self.pinned, first) {
            (Some(pinned), _) => pinned.clone(),
            (None, First::Leader) => self.shared.routing.writer(log),
            (None, First::Any) => self.shared.routing.any(),
        }
    }

    /// Runs `attempt` until it succeeds, fails for good, or time is up.
    pub(crate) async fn call<T, F, Fut>(&self, call: Call<'_>, attempt: F) -> Result<(T, Endpoint)>
    where
        F: Fn(Arc<dyn Transport>, Endpoint, Duration) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
    {
        let Call { rpc, log, safety, .. } = call;
        let deadline = runtime::now() + self.timeout;
        let mut endpoint = self.first(call.first, log);
        let mut earlier_unknown = false;
        for number in 0.. {
            let left = deadline.saturating_duration_since(runtime::now());
            let patience = match safety {
                Safety::Repeatable if self.pinned.is_none() => left.min(ATTEMPT_TIMEOUT),
                _ => left,
            };
            let transport = self.shared.transport.clone();
            let error = match attempt(transport, endpoint.clone(), patience).await {
                Ok(answer) => return Ok((answer, endpoint)),
                Err(error) => error.after_unknown(earlier_unknown, call.producer),
            };
            tracing::debug!(rpc, log, %endpoint, attempt = number, %error, "an attempt failed");
            // `after_unknown` may have widened the effect: an attempt that did nothing itself may
            // be repeated whenever the doubtful one before it was.
            earlier_unknown |= error.effect() == Effect::Unknown;
            let is_final = self.pinned.is_some()
                || (call.too_stale_is_final && error.kind() == ErrorKind::TooStale);
            let left = deadline.saturating_duration_since(runtime::now());
            let decision = match is_final {
                true => Decision::GiveUp,
                false => self.shared.retry.decide(number, &error, safety, left, runtime::dice()),
            };
            let Decision::Retry(target, pause) = decision else { return Err(error) };
            endpoint = self.next(log, &endpoint, &error, target);
            if !pause.is_zero() {
                runtime::sleep(pause).await;
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Where to go after `error`, and what it teaches.
    pub(crate) fn next(
        &self,
        log: &str,
        failed: &Endpoint,
        error: &Error,
        target: Target,
    ) -> Endpoint {
        let routing = &self.shared.routing;
        match target {
            Target::Same => failed.clone(),
            Target::Leader => {
                let hinted = error.leader().and_then(|hint| routing.learn(log, hint));
                // A hint back to who just failed, or an outdated one, leads nowhere.
                match hinted {
                    Some(leader) if leader != *failed => leader,
                    _ => routing.after(failed),
                }
            }
            Target::Next => {
                routing.forget(log, failed);
                routing.after(failed)
            }
        }
    }

    /// The pause before attempt `number` of a stream that is being repaired.
    pub(crate) fn pause(&self, number: u32, error: &Error) -> Duration {
        let first_hop = number == 0 && retry::target(error) == Target::Leader;
        let backoff = match first_hop {
            true => Duration::ZERO,
            false => self.shared.retry.backoff(number, runtime::dice()),
        };
        backoff.max(error.retry_after())
    }
}
