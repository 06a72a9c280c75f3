//! Which nodes there are, and which of them leads: by number, for whoever has no [`super::Cluster`] at
//! hand.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use openraft::async_runtime::WatchReceiver as _;
use quorate_raft_node::raft::group::Group;

use crate::{node::Node, world::HostId};

thread_local! {
    pub(super) static NODES: RefCell<BTreeMap<HostId, Rc<Node>>> =
        const { RefCell::new(BTreeMap::new()) };
    /// Switched on for the first time, and not gone for good.
    pub(super) static IN_SERVICE: RefCell<BTreeSet<HostId>> =
        const { RefCell::new(BTreeSet::new()) };
    /// To be stopped for good.
    pub(super) static RETIRING: RefCell<BTreeSet<HostId>> = const { RefCell::new(BTreeSet::new()) };
}

/// A node that has started and lives.
#[must_use]
pub fn node(id: HostId) -> Option<Rc<Node>> {
    NODES.with_borrow(|nodes| nodes.get(&id).cloned())
}

/// The nodes that were switched on and are not gone for good, up or not.
#[must_use]
pub fn in_service() -> Vec<HostId> {
    IN_SERVICE.with_borrow(|all| all.iter().copied().collect())
}

/// Stops a node for good at the end of this tick.
pub fn retire(id: HostId) {
    RETIRING.with_borrow_mut(|retiring| retiring.insert(id));
}

/// A group on a node.
#[must_use]
pub fn group(id: HostId, group: u32) -> Option<Group> {
    node(id).map(|node| node.groups[group as usize].clone())
}

/// Who leads a group, by its own claim, in the highest term that any claims.
#[must_use]
pub fn leader(of: u32) -> Option<HostId> {
    let claims = in_service().into_iter().filter_map(|id| {
        let group = group(id, of)?;
        let metrics = group.raft().metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.state == openraft::ServerState::Leader;
        leads.then_some((metrics.current_term, id))
    });
    claims.max().map(|(_, id)| id)
}

/// Why a group's core has stopped, if it has.
#[must_use]
pub fn stopped(group: &Group) -> Option<String> {
    let metrics = group.raft().metrics();
    let metrics = metrics.borrow_watched();
    metrics.running_state.as_ref().err().map(ToString::to_string)
}
