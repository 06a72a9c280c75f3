//! A ready-made [`PeerHost`]: a table that is filled as the groups come up. Needed because a
//! group's core is built with a network that already has to know its node.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use super::handler::{PeerHandler, PeerHost};

/// See the module.
pub struct HostTable {
    client_address: String,
    peer_address: String,
    /// Set by the node once its logs are read; what peers are told until then is "not fresh",
    /// which is the safe answer (nobody bootstraps over it).
    fresh: AtomicBool,
    /// One place per group, `None` while it is not running.
    groups: RwLock<Vec<Option<Arc<dyn PeerHandler>>>>,
}

impl HostTable {
    /// A table for `groups` groups, none of them running.
    #[must_use]
    pub fn new(groups: u32, peer_address: String, client_address: String) -> Self {
        let groups = RwLock::new((0..groups).map(|_| None).collect());
        Self { client_address, peer_address, fresh: AtomicBool::new(false), groups }
    }

    /// Makes a group reachable, or (`None`) unreachable.
    ///
    /// # Panics
    /// If there is no such group: the caller has made up its number.
    pub fn set_group(&self, group: u32, handler: Option<Arc<dyn PeerHandler>>) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let place = groups.get_mut(group as usize).expect("invariant: the group exists");
        *place = handler;
    }

    /// Says whether the disk still holds neither vote nor entry of any group.
    pub fn set_fresh(&self, fresh: bool) {
        self.fresh.store(fresh, Ordering::Release);
    }
}

impl PeerHost for HostTable {
    fn group(&self, group: u32) -> Option<Arc<dyn PeerHandler>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(group as usize).cloned().flatten()
    }

    fn fresh(&self) -> bool {
        self.fresh.load(Ordering::Acquire)
    }

    fn client_address(&self) -> String {
        self.client_address.clone()
    }

    fn peer_address(&self) -> String {
        self.peer_address.clone()
    }
}
