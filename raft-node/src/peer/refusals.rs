//! Which peers refuse this node, for whoever decides whether it may go on.

use std::collections::BTreeMap;

use quorate_proto::raft::v1 as pb;
use tokio::sync::watch;

use crate::raft::types::NodeId;

/// A peer does not accept this node's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where the peer was called.
    pub address: String,
    /// The peer's reason.
    pub reason: pb::IdentityReason,
    /// What is wrong and what to do, for the operator of *this* node.
    pub message: String,
}

impl Refusal {
    /// This node must stop and show the message: its disk is not the one its peers know, so it may
    /// have forgotten votes and entries it once acknowledged. The other reasons are errors in a
    /// configuration, possibly the peer's, and stopping a healthy node would make them worse.
    #[must_use]
    pub fn must_stop(&self) -> bool {
        self.reason == pb::IdentityReason::ReplacedDisk
    }
}

/// The refusals in force, by peer. An entry goes away when that peer accepts this node again.
#[derive(Debug)]
pub struct Refusals {
    by: watch::Sender<BTreeMap<NodeId, Refusal>>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { by: watch::Sender::new(BTreeMap::new()) }
    }
}

impl Refusals {
    /// Follows the refusals.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<NodeId, Refusal>> {
        self.by.subscribe()
    }

    /// Logs a refusal once, however often it is repeated.
    pub(super) fn record(&self, by: NodeId, refusal: Refusal) {
        self.by.send_if_modified(|all| {
            if all.get(&by) == Some(&refusal) {
                return false;
            }
            tracing::error!(peer = by, address = %refusal.address, reason = ?refusal.reason,
                "a peer refuses this node: {}", refusal.message);
            all.insert(by, refusal);
            true
        });
    }

    pub(super) fn clear(&self, by: NodeId) {
        self.by.send_if_modified(|all| all.remove(&by).is_some());
    }
}
