//! A node, put together as `raft-node`'s `node/parts.rs` does it, on simulated disk, network and
//! clock.
//!
//! Not simulated: the configuration file, the lock and identity of the data directory, the first
//! Hello's rule for creating a cluster (the first node creates it), TLS, HTTP. Files of states and
//! snapshots are real ones in a temporary directory: a crash can come between any two steps that
//! have a crash point, but what was written is never lost for want of an fsync.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use quorate_raft_node::{
    api::{
        context::{Context, GroupSides},
        forward::Forwarder,
        service::Logs,
    },
    clock::Clock,
    gate::Gate,
    membership::identity,
    observe::Metrics,
    peer::{
        book::PeerBook,
        client::PeerClient,
        contact::{Contact, Watched},
        endpoint::PeerEndpoint,
        handler::PeerHandler,
        host::HostTable,
        identity::LocalIdentity,
        network::NetworkFactory,
        options::PeerOptions,
        snapshot_receive::SnapshotReceiver,
        stats::PeerStats,
    },
    raft::{
        compaction::{self, Rule},
        group::{Group, RaftHandle},
        log_storage::LogStorage,
        settings::{self, Timing},
        state_machine::{GroupState, StateMachine},
        types::NodeAddress,
    },
    read::{
        freshener::Freshener, levels::Level, read_index::ReadIndexer, reader::Reader,
        recent::Recent,
    },
    runtime,
    write::{admission::Admission, proposer::Proposer},
};
use quorate_state_machine::{planted, store::StoreOptions, types::GroupId};

use crate::{disk::DiskLog, hasty::Hasty, host::HostClock, transport::SimTransport, world::HostId};

/// The cluster of every run.
const CLUSTER: [u8; 16] = *b"simulatedcluster";

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which one.
    pub id: HostId,
    /// All nodes.
    pub nodes: Vec<HostId>,
    /// Groups of the cluster.
    pub groups: u32,
    /// Its data directory.
    pub dir: PathBuf,
    /// Elections.
    pub timing: Timing,
    /// Log kept, and flushes.
    pub rule: Rule,
    /// Recently applied batches in memory.
    pub recent_bytes: usize,
}

/// A running node.
pub struct Node {
    /// Its groups.
    pub groups: Vec<Group>,
    /// The service for clients.
    pub logs: Arc<Logs>,
    /// Where peers call.
    pub endpoint: PeerEndpoint,
}

pub(crate) fn uuid_of(node: HostId) -> [u8; 16] {
    let mut uuid = [7; 16];
    uuid[..8].copy_from_slice(&node.to_be_bytes());
    uuid
}

/// Addresses of a node.
pub(crate) fn address(node: HostId) -> NodeAddress {
    NodeAddress { peer: format!("n{node}"), client: format!("n{node}") }
}

impl Node {
    /// Starts a node; to be run on its host.
    ///
    /// # Errors
    /// What keeps a node from starting. No crash may lead to that.
    pub async fn start(setup: Setup) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(HostClock::start(setup.id));
        let metrics = Arc::new(Metrics::new());
        let me = LocalIdentity::new(CLUSTER, setup.id, uuid_of(setup.id), setup.groups);
        let own = address(setup.id);
        let host = Arc::new(HostTable::new(setup.groups, own.peer, own.client));
        host.set_nodes(setup.nodes.iter().copied());
        let book = Arc::new(PeerBook::open(&setup.dir)?);
        let options = peer_options();
        let stats = Arc::new(PeerStats::default());
        let client = Arc::new(PeerClient::new(
            Arc::new(SimTransport::new(setup.id)),
            me.clone(),
            book.clone(),
            host.clone(),
            options.clone(),
            stats.clone(),
        ));
        let receiver = SnapshotReceiver::new(setup.dir.clone());
        let endpoint = PeerEndpoint::new(me, book, host.clone(), receiver, options, stats);
        let mut groups = Vec::new();
        for id in 0..setup.groups {
            let group = open_group(&setup, id, &client, &metrics).await?;
            let handler = Watched::new(group.raft().clone(), Contact::default());
            let handler: Arc<dyn PeerHandler> = match planted::is("ack_before_quorum") {
                true => Arc::new(Hasty(Arc::new(handler))),
                false => Arc::new(handler),
            };
            host.set_group(id, Some(handler));
            groups.push(group);
        }
        let round = Duration::from_millis(setup.timing.election_max_ms);
        let indexed: Vec<(Group, ReadIndexer)> = groups
            .iter()
            .map(|g| (g.clone(), ReadIndexer::start(g.clone(), round, metrics.clone())))
            .collect();
        let freshener = Freshener::start(indexed.clone(), clock.clone(), client);
        let sides = indexed.into_iter().map(|(group, indexer)| GroupSides {
            proposer: Proposer::start(group.clone(), clock.clone(), metrics.clone()),
            reader: Reader::new(group, indexer, freshener.clone()),
        });
        let context = Arc::new(Context {
            cluster: CLUSTER,
            node_id: setup.id,
            groups: sides.collect(),
            admission: Admission::new(1 << 20),
            gate: Gate::default(),
            floor: Level::Eventual,
            forwarder: Forwarder::default(),
            metrics,
        });
        Ok(Self { groups, logs: Arc::new(Logs { context }), endpoint })
    }
}

/// As in production, but for the time it takes to notice silence: a run is seconds long.
fn peer_options() -> PeerOptions {
    PeerOptions {
        snapshot_chunk_bytes: 4 * 1024,
        snapshot_window_bytes: 64 * 1024,
        snapshot_stall: Duration::from_secs(3),
        snapshot_reserve_bytes: 0,
        ..PeerOptions::default()
    }
}

async fn open_group(
    setup: &Setup,
    id: u32,
    client: &Arc<PeerClient>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Group> {
    let dir = group_dir(&setup.dir, id);
    std::fs::create_dir_all(&dir)?;
    let recent = Recent::new(setup.recent_bytes);
    let (options, metrics) = (StoreOptions::default(), metrics.clone());
    let state = GroupState::open(GroupId(id), &dir, options, metrics, recent)?;
    let config = settings::openraft_config(&format!("sim/{id}"), setup.timing)?;
    let log = DiskLog::open(setup.id, id);
    let network = NetworkFactory::new(client.clone(), id, move || log.last_index());
    let catching_up = network.catching_up().clone();
    let raft = RaftHandle::new(
        setup.id,
        Arc::new(config),
        network,
        LogStorage::new(log),
        StateMachine::new(state.clone()),
    )
    .await?;
    let lease = Duration::from_millis(setup.timing.election_max_ms);
    let group = Group::new(GroupId(id), raft, state, lease);
    runtime::spawn(compaction::run(group.clone(), log, setup.rule, catching_up));
    if setup.id == setup.nodes[0] && log.is_fresh() {
        let members: BTreeMap<_, _> = setup.nodes.iter().map(|n| (*n, address(*n))).collect();
        let group = group.clone();
        runtime::spawn(async move {
            // Fails only if the node dies meanwhile; then it tries again at its next start.
            let _ = group.initialize(members).await;
        });
    }
    Ok(group)
}

/// Where a group's state is.
fn group_dir(data_dir: &Path, group: u32) -> PathBuf {
    data_dir.join(identity::group_dir(group))
}
