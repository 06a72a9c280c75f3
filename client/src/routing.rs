//! Which node to ask: what is known of nodes and leaders. Learned from errors and read headers,
//! never asked for on its own. No I/O.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use crate::{
    consistency::{Consistency, Level},
    errors::Leader,
    replicas::{self, Probe, Replicas, Route, Why},
    runtime,
    transport::Endpoint,
};

/// Nodes kept besides the configured ones. Clusters are small; this only bounds what wrong hints
/// could do.
const MAX_LEARNED: usize = 64;

/// Logs whose leader, or whose own level, is remembered. Beyond it everything is forgotten and
/// learned again, which costs one redirect a log.
const MAX_LEADERS: usize = 65_536;

#[derive(Debug)]
struct Known {
    endpoint: Endpoint,
    /// 0: known to have served a write, term unknown.
    term: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The configured ones first. Never empty.
    replicas: Replicas,
    configured: usize,
    leaders: HashMap<String, Known>,
    /// What answers were given at that asked for the log's own level. Only where they go depends on
    /// it: a wrong one costs a detour.
    levels: HashMap<String, Level>,
    /// Who led whatever was written last: the best guess for a log not seen before.
    latest: Option<Endpoint>,
}

/// Shared by all clones of a client.
#[derive(Debug)]
pub(crate) struct Routing {
    state: Mutex<State>,
}

impl Routing {
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Self {
        assert!(!endpoints.is_empty(), "the builder asks for at least one endpoint");
        let configured = endpoints.len();
        let mut replicas = Replicas::default();
        endpoints.into_iter().for_each(|endpoint| replicas.add(endpoint));
        replicas.begin_at((runtime::dice() * configured as f64) as usize);
        Self { state: Mutex::new(State { replicas, configured, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding it")
    }

    /// Configured and learned nodes.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.state().replicas.endpoints().cloned().collect()
    }

    /// Where to write to `log`: its leader, or the best guess.
    pub(crate) fn writer(&self, log: &str) -> Endpoint {
        let state = self.state();
        let known = state.leaders.get(log).map(|known| &known.endpoint);
        known.or(state.latest.as_ref()).unwrap_or(state.replicas.first()).clone()
    }

    /// Is there a guess at all?
    pub(crate) fn knows_leader(&self, log: &str) -> bool {
        let state = self.state();
        state.latest.is_some() || state.leaders.contains_key(log)
    }

    /// The log's own level, as far as it was heard of.
    pub(crate) fn level(&self, log: &str) -> Option<Level> {
        self.state().levels.get(log).copied()
    }

    /// It was heard of.
    pub(crate) fn learn_level(&self, log: &str, level: Level) {
        let mut state = self.state();
        if let Some(known) = state.levels.get_mut(log) {
            *known = level;
            return;
        }
        if state.levels.len() >= MAX_LEADERS {
            state.levels.clear();
        }
        state.levels.insert(log.to_owned(), level);
    }

    /// Where a read goes, and probes to send meanwhile.
    pub(crate) fn reader(
        &self,
        route: Route,
        asked: &Consistency,
        failed: Option<&Endpoint>,
    ) -> (Endpoint, Vec<Probe>) {
        let mut state = self.state();
        let chosen = state.replicas.choose(route, replicas::bound(asked), failed);
        (chosen, state.replicas.due(route, runtime::now()))
    }

    /// A read at `endpoint` begins.
    pub(crate) fn began(&self, endpoint: &Endpoint) {
        self.state().replicas.began(endpoint);
    }

    /// It is over.
    pub(crate) fn ended(&self, endpoint: &Endpoint) {
        self.state().replicas.ended(endpoint);
    }

    /// A read was answered; after `round_trip`, if nothing was waited for.
    pub(crate) fn answered(&self, endpoint: &Endpoint, round_trip: Option<Duration>) {
        self.state().replicas.answered(endpoint, round_trip, runtime::now());
    }

    /// `endpoint` could not give what was asked.
    pub(crate) fn failed(&self, endpoint: &Endpoint, why: Why, asked: &Consistency) {
        let (now, dice) = (runtime::now(), runtime::dice());
        self.state().replicas.failed(endpoint, why, asked, now, dice);
    }

    /// What came of a probe.
    pub(crate) fn probed(&self, endpoint: &Endpoint, outcome: Option<Duration>) {
        let (now, dice) = (runtime::now(), runtime::dice());
        self.state().replicas.probed(endpoint, outcome, now, dice);
    }

    /// The node after `failed`, in a ring.
    pub(crate) fn after(&self, failed: &Endpoint) -> Endpoint {
        let state = self.state();
        let mut behind = state.replicas.endpoints().skip_while(|e| *e != failed).skip(1);
        behind.next().unwrap_or(state.replicas.first()).clone()
    }

    /// Takes a hint, unless it is older than what is known. Says where it points.
    pub(crate) fn learn(&self, log: &str, hint: &Leader) -> Option<Endpoint> {
        let endpoint = Endpoint::new(&hint.address).ok()?;
        let mut state = self.state();
        if state.leaders.get(log).is_some_and(|known| known.term > hint.term) {
            return None;
        }
        let known = state.replicas.endpoints().any(|known| *known == endpoint);
        if !known && state.replicas.len() < state.configured + MAX_LEARNED {
            state.replicas.add(endpoint.clone());
        }
        state.set(log, endpoint.clone(), hint.term);
        Some(endpoint)
    }

    /// `endpoint` took a write in `term`.
    pub(crate) fn confirm(&self, log: &str, endpoint: &Endpoint, term: u64) {
        let mut state = self.state();
        match state.leaders.get(log) {
            Some(known) if known.term > term => {}
            Some(known) if known.term == term && known.endpoint == *endpoint => {}
            _ => state.set(log, endpoint.clone(), term),
        }
    }

    /// `endpoint` does not lead `log`, or can't be reached.
    pub(crate) fn forget(&self, log: &str, endpoint: &Endpoint) {
        let mut state = self.state();
        if state.leaders.get(log).is_some_and(|known| known.endpoint == *endpoint) {
            state.leaders.remove(log);
        }
        state.latest.take_if(|latest| latest == endpoint);
    }
}

impl State {
    fn set(&mut self, log: &str, endpoint: Endpoint, term: u64) {
        self.latest = Some(endpoint.clone());
        if let Some(known) = self.leaders.get_mut(log) {
            *known = Known { endpoint, term };
            return;
        }
        if self.leaders.len() >= MAX_LEADERS {
            self.leaders.clear();
        }
        self.leaders.insert(log.to_owned(), Known { endpoint, term });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u16) -> Endpoint {
        Endpoint::new(&format!("127.0.0.1:{n}")).unwrap()
    }

    fn hint(n: u16, term: u64) -> Leader {
        Leader { node_id: n.into(), address: format!("http://127.0.0.1:{n}"), term }
    }

    #[test]
    fn hints_are_followed_and_old_ones_are_not() {
        let routing = Routing::new(vec![at(1), at(2)]);
        assert_eq!(routing.writer("a"), at(1));
        assert_eq!(routing.learn("a", &hint(3, 5)), Some(at(3)));
        assert_eq!(routing.writer("a"), at(3));
        assert_eq!(routing.writer("b"), at(3), "the best guess");
        assert_eq!(routing.endpoints(), [at(1), at(2), at(3)]);
        assert_eq!(routing.learn("a", &hint(1, 4)), None);
        assert_eq!(routing.writer("a"), at(3));
        routing.confirm("a", &at(2), 6);
        assert_eq!(routing.writer("a"), at(2));
        routing.confirm("a", &at(1), 5);
        assert_eq!(routing.writer("a"), at(2));
        routing.forget("a", &at(1));
        assert_eq!(routing.writer("a"), at(2), "only who is known is forgotten");
        routing.forget("a", &at(2));
        assert_eq!(routing.writer("a"), at(1));
        // After being forgotten, an old term may come back.
        assert_eq!(routing.learn("a", &hint(1, 4)), Some(at(1)));
        assert_eq!(routing.learn("a", &Leader { address: " ".into(), ..hint(1, 9) }), None);
    }

    #[test]
    fn the_ring() {
        let routing = Routing::new(vec![at(1), at(2), at(3)]);
        assert_eq!(routing.after(&at(1)), at(2));
        assert_eq!(routing.after(&at(3)), at(1));
        assert_eq!(routing.after(&at(9)), at(1));
    }

    #[test]
    fn wrong_hints_are_bounded() {
        let routing = Routing::new(vec![at(1)]);
        for n in 100..300 {
            routing.learn("a", &hint(n, n.into()));
        }
        assert_eq!(routing.endpoints().len(), 1 + MAX_LEARNED);
    }
}
