//! A network between processes of one machine that can be cut, without root.
//!
//! Every address that nodes and clients know of a node is a proxy of this process. For each
//! connection the proxy asks the kernel which process called, so that the two directions of a pair
//! of nodes are two links, each with its own faults: what is cut are *calls* from one node to
//! another, and, apart from them, the *replies* to these calls.
//!
//! What is held back is not lost: as after packet loss, TCP delivers it when the link is healed,
//! unless somebody has closed the connection by then.

mod caller;
mod link;
mod proxy;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use quorate_jepsen_core::ids::Node;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

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
    shared: Arc<Shared>,
    /// Ends with this value.
    _proxies: JoinSet<()>,
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
        let mut links = BTreeMap::new();
        for to in nodes {
            let callers = nodes.iter().filter(|from| *from != to).map(|from| Caller::Node(*from));
            for from in callers.chain([Caller::Clients]) {
                links.insert((from, *to), Arc::new(Link::default()));
            }
        }
        let shared = Arc::new(Shared { links, pids: Mutex::default() });
        let mut proxies = JoinSet::new();
        for (node, from, to) in services {
            let listener = std::net::TcpListener::bind(from)?;
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            proxies.spawn(proxy::run(listener, *node, *to, shared.clone()));
        }
        Ok(Self { shared, _proxies: proxies })
    }

    /// Says which process a node is; to be called with each start.
    pub fn set_pid(&self, node: Node, pid: u32) {
        self.shared.pids.lock().unwrap_or_else(PoisonError::into_inner).insert(node, pid);
    }

    /// Changes one link.
    ///
    /// # Panics
    /// There is no such link: a node does not call itself.
    pub fn set(&self, from: Caller, to: Node, condition: &Condition) {
        self.shared.links[&(from, to)].set(condition.clone());
    }

    /// All links as good as new. Connections that were told to be refused stay closed.
    pub fn heal(&self) {
        for link in self.shared.links.values() {
            link.set(Condition::default());
        }
    }

    /// What a link's condition has done so far.
    ///
    /// # Panics
    /// There is no such link.
    #[must_use]
    pub fn traffic(&self, from: Caller, to: Node) -> Traffic {
        self.shared.links[&(from, to)].traffic()
    }

    /// Everybody who calls a node.
    #[must_use]
    pub fn callers_of(&self, to: Node) -> Vec<Caller> {
        self.shared.links.keys().filter(|link| link.1 == to).map(|link| link.0).collect()
    }
}

impl Shared {
    fn link(&self, from: Caller, to: Node) -> Option<Arc<Link>> {
        self.links.get(&(from, to)).cloned()
    }

    fn pids(&self) -> BTreeMap<Node, u32> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
