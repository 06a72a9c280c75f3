//! One call's way: attempts, where each goes, what is learned from it. Everything but appending
//! through a producer goes through here; streams, when they begin.

use std::{sync::Arc, time::Duration};

use quorate_proto::v1 as wire;

use crate::{
    client::{Client, Shared},
    consistency::{Consistency, Level, OnUnmet},
    errors::{Effect, Error, ErrorKind, Result},
    replicas::{self, Probe, Route, Why},
    retry::{self, Decision, Hints, Safety, Target},
    runtime,
    transport::{Endpoint, Transport},
};

/// How long one attempt of a repeatable call may take while there is time for another. Longer
/// than an election; short enough that a silent node costs a pause, not the call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the first replica may take to catch up with what is asked of it; each further one has
/// twice as long. Much longer than replicas are behind each other when all is well.
const CATCH_UP: Duration = FAIR_WAIT;

/// A replica that is silent for less is not to blame: the caller was in a hurry.
const FAIR_WAIT: Duration = Duration::from_millis(500);

/// How long an ejected replica has to give what it could not give before.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is called, and how it may be repeated.
pub(crate) struct Call<'a> {
    /// For traces.
    pub(crate) rpc: &'static str,
    pub(crate) log: &'a str,
    pub(crate) safety: Safety,
    /// What a read asks for; `None` for writes, which go to the leader.
    pub(crate) asked: Option<&'a Consistency>,
    /// Carries a producer sequence.
    pub(crate) producer: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn write(rpc: &'static str, log: &'a str, safety: Safety) -> Self {
        Self { rpc, log, safety, asked: None, producer: false }
    }

    pub(crate) fn read(rpc: &'static str, log: &'a str, asked: &'a Consistency) -> Self {
        Self { rpc, log, safety: Safety::Repeatable, asked: Some(asked), producer: false }
    }
}

/// Counts as a read under way at a replica, until dropped.
pub(crate) struct Load {
    shared: Arc<Shared>,
    endpoint: Endpoint,
}

impl Load {
    pub(crate) fn at(client: &Client, endpoint: &Endpoint) -> Self {
        client.shared.routing.began(endpoint);
        Self { shared: client.shared.clone(), endpoint: endpoint.clone() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.routing.ended(&self.endpoint);
    }
}

impl Client {
    /// Runs `attempt` until it succeeds, fails for good, or time is up. Says who answered.
    pub(crate) async fn call<T, F, Fut>(&self, call: Call<'_>, attempt: F) -> Result<(T, Endpoint)>
    where
        F: Fn(Arc<dyn Transport>, Endpoint, Duration) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let Call { rpc, log, safety, .. } = call;
        let routed = call.asked.map(|asked| self.routed(log, asked));
        let call = Call { asked: routed.as_deref(), ..call };
        let deadline = runtime::now() + self.timeout();
        let mut endpoint = match call.asked {
            Some(asked) => self.reader(log, asked, None),
            None => self.writer(log),
        };
        let mut earlier_unknown = false;
        let mut hints = Hints::default();
        for number in 0.. {
            let left = deadline.saturating_duration_since(runtime::now());
            let patience = match safety {
                Safety::Repeatable if self.pinned().is_none() => {
                    left.min(self.patience(&call, number))
                }
                _ => left,
            };
            let (asked_of, result) = self.hedged(&call, &attempt, &endpoint, patience).await;
            endpoint = asked_of;
            let error = match result {
                Ok(answer) => return Ok((answer, endpoint)),
                Err(error) => error.after_unknown(earlier_unknown, call.producer),
            };
            tracing::debug!(rpc, log, %endpoint, attempt = number, %error, "an attempt failed");
            // `after_unknown` may have widened the effect: an attempt that did nothing itself may
            // be repeated whenever the doubtful one before it was.
            earlier_unknown |= error.effect() == Effect::Unknown;
            let is_final =
                self.pinned().is_some() || call.asked.is_some_and(|a| is_final(a, &error));
            let left = deadline.saturating_duration_since(runtime::now());
            let (policy, news) = (&self.shared.retry, hints.is_news(&error));
            let decision = match is_final {
                true => Decision::GiveUp,
                false => policy.decide(number, news, &error, safety, left, runtime::dice()),
            };
            let Decision::Retry(target, pause) = decision else { return Err(error) };
            endpoint = match call.asked {
                Some(asked) => self.next_reader(log, asked, &endpoint, &error),
                None => self.next(log, &endpoint, &error, target),
            };
            if !pause.is_zero() {
                runtime::sleep(pause).await;
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// How long attempt `number` of a repeatable call may take.
    fn patience(&self, call: &Call<'_>, number: u32) -> Duration {
        let elsewhere = |asked: &Consistency| {
            asked.has_positions() && self.route_of(call.log, asked) != Route::Leader
        };
        match call.asked {
            Some(asked) if elsewhere(asked) => {
                ATTEMPT_TIMEOUT.min(CATCH_UP.saturating_mul(1 << number.min(8)))
            }
            _ => ATTEMPT_TIMEOUT,
        }
    }

    /// One attempt; or two, at different replicas, when the first one takes long and hedging is on.
    async fn hedged<T, F, Fut>(
        &self,
        call: &Call<'_>,
        attempt: &F,
        endpoint: &Endpoint,
        patience: Duration,
    ) -> (Endpoint, Result<T>)
    where
        F: Fn(Arc<dyn Transport>, Endpoint, Duration) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let hedging = self.shared.hedging.as_ref().filter(|_| self.pinned().is_none());
        let (Some(asked), Some(budget)) = (call.asked, hedging) else {
            return self.attempt(call, attempt, endpoint.clone(), patience).await;
        };
        let first = self.attempt(call, attempt, endpoint.clone(), patience);
        let lock = || budget.lock().expect("nothing panics while holding it");
        let delay = lock().earn();
        let mut first = std::pin::pin!(first);
        tokio::select! {
            biased;
            done = &mut first => return done,
            () = runtime::sleep(delay) => {}
        }
        let route = self.route().filter(|route| *route != Route::Leader).unwrap_or(Route::Spread);
        let (other, _) = self.shared.routing.reader(route, asked, Some(endpoint));
        if other == *endpoint || !lock().spend() {
            return first.await;
        }
        tracing::debug!(rpc = call.rpc, log = call.log, %endpoint, %other, "a second try");
        let left = patience.saturating_sub(delay);
        let mut second = std::pin::pin!(self.attempt(call, attempt, other, left));
        tokio::select! {
            done = &mut first => if done.1.is_ok() { done } else { second.await },
            done = &mut second => if done.1.is_ok() { done } else { first.await },
        }
    }

    async fn attempt<T, F, Fut>(
        &self,
        call: &Call<'_>,
        attempt: &F,
        endpoint: Endpoint,
        patience: Duration,
    ) -> (Endpoint, Result<T>)
    where
        F: Fn(Arc<dyn Transport>, Endpoint, Duration) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let transport = self.shared.transport.clone();
        let Some(asked) = call.asked.filter(|_| self.pinned().is_none()) else {
            let result = attempt(transport, endpoint.clone(), patience).await;
            return (endpoint, result);
        };
        let load = Load::at(self, &endpoint);
        let began = runtime::now();
        let result = attempt(transport, endpoint.clone(), patience).await;
        drop(load);
        match &result {
            Ok(_) => {
                // An answer that nothing is waited for measures the way there.
                let plain = *asked == Consistency::eventual();
                self.shared.routing.answered(&endpoint, plain.then(|| began.elapsed()));
            }
            Err(error) => self.blame(&endpoint, asked, error, patience),
        }
        (endpoint, result)
    }

    /// Ejects a replica that failed, if it is to blame.
    pub(crate) fn blame(
        &self,
        endpoint: &Endpoint,
        asked: &Consistency,
        error: &Error,
        patience: Duration,
    ) {
        let why = match why(error, asked) {
            Some(why) if error.kind() != ErrorKind::Deadline || patience >= FAIR_WAIT => why,
            _ => return,
        };
        tracing::debug!(%endpoint, ?why, %error, "a replica is left out for a while");
        self.shared.routing.failed(endpoint, why, asked);
    }

    /// Where a write to `log` goes.
    pub(crate) fn writer(&self, log: &str) -> Endpoint {
        self.pinned().cloned().unwrap_or_else(|| self.shared.routing.writer(log))
    }

    /// Where a read goes. Probes replicas that are out, in the background.
    fn reader(&self, log: &str, asked: &Consistency, failed: Option<&Endpoint>) -> Endpoint {
        if let Some(pinned) = self.pinned() {
            return pinned.clone();
        }
        let route = self.route_of(log, asked);
        let (endpoint, due) = self.shared.routing.reader(route, asked, failed);
        for probe in due {
            runtime::spawn(send(self.shared.clone(), log.to_owned(), probe));
        }
        match route {
            Route::Leader => self.shared.routing.writer(log),
            _ => endpoint,
        }
    }

    fn route_of(&self, log: &str, asked: &Consistency) -> Route {
        // Linearizable reads are answered soonest by the leader. So may be those of a log of which
        // nothing was heard yet; but where no leader is known either, any guess is as good.
        let default = match asked.level() {
            Level::Linearizable => Route::Leader,
            Level::OfLog if self.shared.routing.knows_leader(log) => Route::Leader,
            Level::OfLog => Route::Spread,
            Level::Bounded(_) | Level::Eventual => Route::Spread,
        };
        self.route().unwrap_or(default)
    }

    /// Where to go on with a read after `error`.
    pub(crate) fn next_reader(
        &self,
        log: &str,
        asked: &Consistency,
        failed: &Endpoint,
        error: &Error,
    ) -> Endpoint {
        let routing = &self.shared.routing;
        match retry::target(error) {
            Target::Next
                if self.route_of(log, asked) != Route::Leader && why(error, asked).is_some() =>
            {
                routing.forget(log, failed);
                self.reader(log, asked, Some(failed))
            }
            target => self.next(log, failed, error, target),
        }
    }

    /// Where to go on with a write after `error`, and what it teaches.
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

    /// The pause before attempt `number` of a stream that is being repaired. `news`: the error
    /// names a leader that was not known.
    pub(crate) fn pause(&self, number: u32, news: bool, error: &Error) -> Duration {
        let at_once = (number == 0 || news) && retry::target(error) == Target::Leader;
        let backoff = match at_once {
            true => Duration::ZERO,
            false => self.shared.retry.backoff(number, runtime::dice()),
        };
        backoff.max(error.retry_after())
    }
}

/// The caller wants to be told rather than served later or elsewhere.
pub(crate) fn is_final(asked: &Consistency, error: &Error) -> bool {
    asked.fails_when_unmet() && error.kind() == ErrorKind::TooStale
}

/// What a failed read says about the replica, if anything.
fn why(error: &Error, asked: &Consistency) -> Option<Why> {
    match error.kind() {
        ErrorKind::TooStale => Some(Why::Stale(replicas::bound(asked).unwrap_or_default())),
        ErrorKind::Deadline
        | ErrorKind::ShuttingDown
        | ErrorKind::Corrupt
        | ErrorKind::Internal => Some(Why::Down),
        // A node that says so itself lacks a quorum, like perhaps all of them.
        ErrorKind::Unavailable if !error.is_from_node() => Some(Why::Down),
        _ => None,
    }
}

/// Sends a probe and notes what came of it.
async fn send(shared: Arc<Shared>, log: String, probe: Probe) {
    let Probe { endpoint, asks } = probe;
    let began = runtime::now();
    let request = wire::DescribeLogRequest {
        name: log,
        consistency: Some(asks.clone().on_unmet(OnUnmet::Fail).to_wire()),
    };
    let answer = shared.transport.describe_log(&endpoint, request, PROBE_TIMEOUT);
    // The transport keeps time, too, but this must end.
    let answered = match runtime::timeout(PROBE_TIMEOUT, answer).await {
        Some(Ok(_)) => true,
        // A refusal is as good an answer, unless it is about the replica.
        Some(Err(error)) => why(&error, &asks).is_none() && error.kind() != ErrorKind::Unavailable,
        None => false,
    };
    tracing::debug!(%endpoint, answered, "a replica was probed");
    shared.routing.probed(&endpoint, answered.then(|| began.elapsed()));
}
