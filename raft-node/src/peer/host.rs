//! A ready-made [`PeerHost`]: a table that is filled as the groups come up. Needed because a
//! group's core is built with a network that already has to know its node.

use std::sync::{Arc, PoisonError, RwLock};

use super::handler::{PeerHandler, PeerHost};
use crate::raft::types::NodeId;

/// See the module.
pub struct HostTable {
    client_address: String,
    peer_address: String,
    /// Set by the node once its logs are read; what peers are told until then is "none", which is
    /// the safe answer (nobody bootstraps over it).
    fresh: RwLock<Vec<u32>>,
    /// Of the configured first membership.
    nodes: RwLock<Vec<NodeId>>,
    /// One place per group, `None` while it is not running.
    groups: RwLock<Vec<Option<Arc<dyn PeerHandler>>>>,
}

impl HostTable {
    /// A table for `groups` groups, none of them running.
    #[must_use]
    pub fn new(groups: u32, peer_address: String, client_address: String) -> Self {
        let groups = RwLock::new((0..groups).map(|_| None).collect());
        let (fresh, nodes) = (RwLock::default(), RwLock::default());
        Self { client_address, peer_address, fresh, nodes, groups }
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

    /// Says which nodes the configuration lists.
    pub fn set_nodes(&self, nodes: impl IntoIterator<Item = NodeId>) {
        let nodes = nodes.into_iter().collect();
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// Says of which groups the disk still holds neither vote nor entry.
    pub fn set_fresh_groups(&self, fresh: impl IntoIterator<Item = u32>) {
        let fresh = fresh.into_iter().collect();
        *self.fresh.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

impl PeerHost for HostTable {
    fn group(&self, group: u32) -> Option<Arc<dyn PeerHandler>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(group as usize).cloned().flatten()
    }

    fn fresh(&self) -> bool {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner).len();
        self.fresh.read().unwrap_or_else(PoisonError::into_inner).len() == groups
    }

    fn fresh_groups(&self) -> Vec<u32> {
        self.fresh.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn client_address(&self) -> String {
        self.client_address.clone()
    }

    fn peer_address(&self) -> String {
        self.peer_address.clone()
    }
}
