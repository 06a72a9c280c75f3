//! Which addresses clients use, while nodes come and go.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use quorate_jepsen_core::ids::Node;

/// More nodes than any run ever starts: one bit each.
pub const ROOM: usize = 64;

/// The addresses of all nodes there may ever be, in the order of their ids, and which of them are in
/// use now. Copies share that: who tells one of them has told all clients.
#[derive(Clone, Debug)]
pub struct Endpoints {
    urls: Arc<[String]>,
    /// Bit n: node n + 1 is called. At least one always is.
    used: Arc<AtomicU64>,
}

impl Endpoints {
    /// All addresses, of which the first `used` are in use.
    ///
    /// # Panics
    /// None is to be used, or there are more than [`ROOM`].
    #[must_use]
    pub fn new(urls: Vec<String>, used: usize) -> Self {
        assert!((1..=urls.len()).contains(&used) && urls.len() <= ROOM, "{used} of {}", urls.len());
        let bits = u64::MAX >> (ROOM - used);
        Self { urls: urls.into(), used: Arc::new(AtomicU64::new(bits)) }
    }

    /// All there may ever be.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Whether clients call this node.
    #[must_use]
    pub fn has(&self, node: Node) -> bool {
        self.used.load(Ordering::Relaxed) & bit(node) != 0
    }

    /// Clients call this node from now on.
    pub fn add(&self, node: Node) {
        self.used.fetch_or(bit(node), Ordering::Relaxed);
    }

    /// Clients call this node no longer.
    ///
    /// # Panics
    /// It was the last one.
    pub fn remove(&self, node: Node) {
        let before = self.used.fetch_and(!bit(node), Ordering::Relaxed);
        assert!(before & !bit(node) != 0, "clients must have somebody to call");
    }

    /// The place in [`Endpoints::urls`] of the `number`-th address in use, counted around.
    #[must_use]
    pub fn nth(&self, number: usize) -> usize {
        let used = self.used.load(Ordering::Relaxed);
        let skip = number % used.count_ones() as usize;
        let mut places = (0..ROOM).filter(|place| used & 1 << place != 0);
        places.nth(skip).expect("it is among those counted")
    }

    /// The place of the first address in use behind this place, counted around.
    #[must_use]
    pub fn after(&self, place: usize) -> usize {
        let used = self.used.load(Ordering::Relaxed);
        let next = |step: &usize| used & 1 << ((place + step) % ROOM) != 0;
        let step = (1..=ROOM).find(next).expect("one is always in use");
        (place + step) % ROOM
    }
}

fn bit(node: Node) -> u64 {
    1 << (node.0 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_go_round_those_in_use() {
        let endpoints = Endpoints::new(vec![String::new(); 6], 3);
        let told = endpoints.clone();
        let round = || (0..4).map(|n| endpoints.nth(n)).collect::<Vec<_>>();
        assert_eq!(round(), [0, 1, 2, 0]);
        assert_eq!([0, 1, 2].map(|place| endpoints.after(place)), [1, 2, 0]);
        told.add(Node(5));
        told.remove(Node(2));
        assert_eq!(round(), [0, 2, 4, 0]);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|place| endpoints.after(place)), [2, 2, 4, 4, 0, 0]);
        assert!(endpoints.has(Node(5)) && !endpoints.has(Node(2)));
    }

    #[test]
    #[should_panic(expected = "somebody to call")]
    fn somebody_is_always_called() {
        Endpoints::new(vec![String::new()], 1).remove(Node(1));
    }
}
