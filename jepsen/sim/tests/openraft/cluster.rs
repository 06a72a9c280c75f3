//! Three nodes, numbered from 1, on one thread whose clock stands still while there is something to
//! do. Nobody stands for election by itself, and there are no heartbeats unless a test wants them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openraft::{
    Config, RaftMetrics, ServerState, SnapshotPolicy, async_runtime::WatchReceiver as _,
    impls::BasicNode,
};

use crate::{
    network::{Network, Node, Socket},
    store::{Log, LogId, Machine, Plain},
};

pub const NODES: [u64; 3] = [1, 2, 3];

/// openraft's leader lease is as long as its longest election timeout.
pub const LEASE: Duration = Duration::from_millis(1000);

pub struct Cluster {
    pub network: Network,
    config: Arc<Config>,
    logs: BTreeMap<u64, Log>,
    nodes: BTreeMap<u64, (Node, Machine)>,
}

/// Waits until `condition` holds. The clock is the thread's own: a minute of it is over at once when
/// nothing happens any more.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("in vain: {what}");
}

impl Cluster {
    /// A cluster with openraft's defaults but for `change`, led by node 1.
    pub async fn start(change: impl Fn(&mut Config)) -> Self {
        let mut config = Config {
            heartbeat_interval: 50,
            election_timeout_min: 500,
            election_timeout_max: LEASE.as_millis() as u64,
            enable_elect: false,
            enable_heartbeat: false,
            snapshot_policy: SnapshotPolicy::Never,
            ..Config::default()
        };
        change(&mut config);
        let config = Arc::new(config.validate().expect("consistent"));
        let logs = NODES.map(|id| (id, Log::default())).into();
        let network = Network::new();
        let mut this = Self { network, config, logs, nodes: BTreeMap::new() };
        for id in NODES {
            this.switch_on(id).await;
        }
        let members = NODES.map(|id| (id, BasicNode::default()));
        let members: BTreeMap<_, _> = members.into();
        this.node(1).initialize(members).await.expect("a new cluster");
        this.lead(1).await;
        this
    }

    /// Starts a node on its log.
    pub async fn switch_on(&mut self, id: u64) {
        let machine = Machine::default();
        let socket = Socket { network: self.network.clone(), id };
        let node = Node::new(id, self.config.clone(), socket, self.log(id), machine.clone());
        let node = node.await.expect("its log is readable");
        self.network.plug(id, node.clone());
        self.nodes.insert(id, (node, machine));
    }

    /// Ends a node as a crash does.
    pub async fn crash(&mut self, id: u64) {
        self.network.unplug(id);
        let (node, _) = self.nodes.remove(&id).expect("it is on");
        node.shutdown().await.expect("no task of it panics");
        self.logs[&id].crash();
    }

    pub fn node(&self, id: u64) -> Node {
        self.nodes[&id].0.clone()
    }

    pub fn log(&self, id: u64) -> Log {
        self.logs[&id].clone()
    }

    /// What the node's state holds.
    pub fn values(&self, id: u64) -> Vec<String> {
        self.nodes[&id].1.values()
    }

    pub fn metrics(&self, id: u64) -> RaftMetrics<Plain> {
        self.node(id).metrics().borrow_watched().clone()
    }

    pub fn leads(&self, id: u64) -> bool {
        self.metrics(id).state == ServerState::Leader
    }

    /// Lets a node stand for election until it has won.
    pub async fn lead(&self, id: u64) {
        for _ in 0..100 {
            if self.leads(id) {
                return;
            }
            self.node(id).trigger().elect(false).await.expect("its core runs");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("node {id} is never elected");
    }

    /// Writes a value through a node, which acknowledges it. A leader that has not heard of a quorum
    /// refuses, and has appended nothing.
    pub async fn write(&self, id: u64, value: &str) -> LogId {
        let node = self.node(id);
        let mut refused = None;
        for _ in 0..100 {
            match node.client_write(value.to_owned()).await {
                Ok(written) => return *written.log_id(),
                Err(why) if why.forward_to_leader().is_some() => refused = Some(why),
                Err(why) => panic!("{value:?} is not written: {why}"),
            }
            node.trigger().heartbeat().await.expect("its core runs");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("node {id} refuses {value:?}: {refused:?}");
    }

    /// Waits until all nodes have applied a value.
    pub async fn applied_everywhere(&self, value: &str) {
        let has = |id: &u64| self.values(*id).iter().any(|v| v == value);
        until("all nodes apply it", || NODES.iter().all(has)).await;
    }
}
