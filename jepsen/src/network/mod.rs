//! A network between processes of one machine that can be cut.
//!
//! There are three, with the same faults. With proxies, and without root: every address that nodes and
//! clients know of a node is a proxy of this process, which asks the kernel which process called. In a
//! [`Lab`]: every node is a host of its own, and a router between them drops packets. On a [`Fleet`] of
//! the user's hosts, each drops what is to come or go. Either way the
//! two directions of a pair of nodes are two links, each with its own faults: what is cut are *calls*
//! from one node to another, and, apart from them, the *replies* to these calls.
//!
//! What is held back is not lost: as after packet loss, TCP delivers it when the link is healed,
//! unless somebody has closed the connection by then.

mod caller;
pub(crate) mod firewall;
pub mod lab;
mod link;
mod proxy;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use quorate_jepsen_core::ids::Node;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::hosts::Fleet;

pub use lab::Lab;
use link::Link;
pub use link::{Condition, Gate, Traffic};

/// Who opens connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    /// A node under test.
    Node(Node),
    /// Everybody else: the clients of the test.
    Clients,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "n{node}"),
            Self::Clients => f.write_str("clients"),
        }
    }
}

/// The links of a cluster.
#[derive(Debug)]
pub struct Network {
    nodes: Vec<Node>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The proxies end with their set.
    Proxies {
        shared: Arc<Shared>,
        _proxies: JoinSet<()>,
    },
    Lab(Arc<Lab>),
    Fleet(Arc<Fleet>),
}

#[derive(Debug)]
struct Shared {
    links: BTreeMap<(Caller, Node), Arc<Link>>,
    pids: Mutex<BTreeMap<Node, u32>>,
}

impl Network {
    /// Starts proxies: connections to `from` go to `to`, which belongs to that node. Call inside a
    /// runtime.
    ///
    /// # Errors
    /// An address is taken.
    pub fn start(nodes: &[Node], services: &[(Node, SocketAddr, SocketAddr)]) -> Result<Self> {
        let links = links(nodes).map(|link| (link, Arc::new(Link::default()))).collect();
        let shared = Arc::new(Shared { links, pids: Mutex::default() });
        let mut proxies = JoinSet::new();
        for (node, from, to) in services {
            let listener = std::net::TcpListener::bind(from)?;
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            proxies.spawn(proxy::run(listener, *node, *to, shared.clone()));
        }
        Ok(Self { nodes: nodes.to_vec(), kind: Kind::Proxies { shared, _proxies: proxies } })
    }

    /// The links between hosts of a lab, which no other cluster may use meanwhile.
    ///
    /// # Errors
    /// It is too small, or its links cannot be healed.
    pub fn in_lab(nodes: &[Node], lab: Arc<Lab>) -> Result<Self> {
        ensure!(nodes.len() <= lab.room(), "the lab has room for {} nodes", lab.room());
        lab.set(None)?;
        Ok(Self { nodes: nodes.to_vec(), kind: Kind::Lab(lab) })
    }

    /// The links between hosts of the user's, which no other cluster may use meanwhile.
    ///
    /// # Errors
    /// There are too few, or their links cannot be healed.
    pub fn in_fleet(nodes: &[Node], fleet: Arc<Fleet>) -> Result<Self> {
        ensure!(nodes.len() <= fleet.room(), "there are {} hosts", fleet.room());
        fleet.begin()?;
        Ok(Self { nodes: nodes.to_vec(), kind: Kind::Fleet(fleet) })
    }

    /// Says which process a node is; to be called with each start.
    pub fn set_pid(&self, node: Node, pid: u32) {
        if let Kind::Proxies { shared, .. } = &self.kind {
            shared.pids.lock().unwrap_or_else(PoisonError::into_inner).insert(node, pid);
        }
    }

    /// Changes these links.
    ///
    /// # Errors
    /// The router cannot be told.
    ///
    /// # Panics
    /// There is no such link: a node does not call itself.
    pub fn set(&self, changed: &[(Caller, Node)], condition: &Condition) -> Result<()> {
        match &self.kind {
            Kind::Proxies { shared, .. } => {
                changed.iter().for_each(|link| shared.links[link].set(condition.clone()));
                Ok(())
            }
            Kind::Lab(lab) => lab.set(Some((changed, condition))),
            Kind::Fleet(fleet) => fleet.set(Some((changed, condition))),
        }
    }

    /// All links as good as new. Connections that were told to be refused stay closed.
    ///
    /// # Errors
    /// The router cannot be told.
    pub fn heal(&self) -> Result<()> {
        match &self.kind {
            Kind::Proxies { shared, .. } => {
                shared.links.values().for_each(|link| link.set(Condition::default()));
                Ok(())
            }
            Kind::Lab(lab) => lab.set(None),
            Kind::Fleet(fleet) => fleet.set(None),
        }
    }

    /// What the conditions of these links have done so far, if by proxies; otherwise since links were last changed.
    ///
    /// # Errors
    /// The router does not say.
    ///
    /// # Panics
    /// There is no such link.
    pub fn traffic(&self, links: &[(Caller, Node)]) -> Result<Vec<Traffic>> {
        match &self.kind {
            Kind::Proxies { shared, .. } => {
                Ok(links.iter().map(|link| shared.links[link].traffic()).collect())
            }
            Kind::Lab(lab) => lab.traffic(links),
            Kind::Fleet(fleet) => fleet.traffic(links),
        }
    }

    /// Everybody who calls a node.
    #[must_use]
    pub fn callers_of(&self, to: Node) -> Vec<Caller> {
        links(&self.nodes).filter(|link| link.1 == to).map(|link| link.0).collect()
    }
}

/// All there are: every node from every other one, and from the clients.
fn links(nodes: &[Node]) -> impl Iterator<Item = (Caller, Node)> {
    nodes.iter().flat_map(move |to| {
        let callers = nodes.iter().filter(move |from| *from != to).map(|from| Caller::Node(*from));
        callers.chain([Caller::Clients]).map(move |from| (from, *to))
    })
}

impl Shared {
    fn link(&self, from: Caller, to: Node) -> Option<Arc<Link>> {
        self.links.get(&(from, to)).cloned()
    }

    fn pids(&self) -> BTreeMap<Node, u32> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
