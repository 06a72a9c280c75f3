//! Which node to ask: what is known of nodes and leaders. Learned from errors and read headers,
//! never asked for on its own. No I/O.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use crate::{errors::Leader, transport::Endpoint};

/// Nodes kept besides the configured ones. Clusters are small; this only bounds what wrong hints
/// could do.
const MAX_LEARNED: usize = 64;

/// Logs whose leader is remembered. Beyond it everything is forgotten and learned again, which
/// costs one redirect a log.
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
    endpoints: Vec<Endpoint>,
    configured: usize,
    leaders: HashMap<String, Known>,
    /// Who led whatever was written last: the best guess for a log not seen before.
    latest: Option<Endpoint>,
    /// Moves on with every read that may go anywhere.
    turn: usize,
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
        // Clients that start together should not all begin at the same node.
        let turn = (crate::runtime::dice() * configured as f64) as usize;
        Self { state: Mutex::new(State { endpoints, configured, turn, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding it")
    }

    /// Configured and learned nodes.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.state().endpoints.clone()
    }

    /// Where to write to `log`: its leader, or the best guess.
    pub(crate) fn writer(&self, log: &str) -> Endpoint {
        let state = self.state();
        let known = state.leaders.get(log).map(|known| &known.endpoint);
        known.or(state.latest.as_ref()).unwrap_or(&state.endpoints[0]).clone()
    }

    /// The nodes in turn.
    pub(crate) fn any(&self) -> Endpoint {
        let mut state = self.state();
        let at = state.turn % state.endpoints.len();
        state.turn = at + 1;
        state.endpoints[at].clone()
    }

    /// The node after `failed`, in a ring.
    pub(crate) fn after(&self, failed: &Endpoint) -> Endpoint {
        let state = self.state();
        let at = state.endpoints.iter().position(|e| e == failed);
        let next = at.map_or(0, |at| (at + 1) % state.endpoints.len());
        state.endpoints[next].clone()
    }

    /// Takes a hint, unless it is older than what is known. Says where it points.
    pub(crate) fn learn(&self, log: &str, hint: &Leader) -> Option<Endpoint> {
        let endpoint = Endpoint::new(&hint.address).ok()?;
        let mut state = self.state();
        if state.leaders.get(log).is_some_and(|known| known.term > hint.term) {
            return None;
        }
        if !state.endpoints.contains(&endpoint)
            && state.endpoints.len() < state.configured + MAX_LEARNED
        {
            state.endpoints.push(endpoint.clone());
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
        let mut seen = [routing.any(), routing.any(), routing.any()];
        seen.sort();
        assert_eq!(seen, [at(1), at(2), at(3)]);
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
