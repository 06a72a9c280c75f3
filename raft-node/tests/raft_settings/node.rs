//! One node, made of the same parts as `src/node/parts.rs`, on a runtime of its own: crashing it is
//! dropping that runtime with everything that ran on it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use quorate_raft_node::{
    log_store::{Durability, LogStore, Options},
    observe::Metrics,
    peer::{
        book::PeerBook, client::PeerClient, endpoint::PeerEndpoint, grpc::GrpcTransport,
        host::HostTable, identity::LocalIdentity, network::NetworkFactory, options::PeerOptions,
        service, snapshot_receive::SnapshotReceiver, stats::PeerStats,
    },
    raft::{
        group::{Group, RaftHandle},
        log_storage::LogStorage,
        state_machine::{GroupState, StateMachine},
        types::NodeId,
    },
    read::recent::Recent,
    runtime,
};
use quorate_state_machine::{
    rocks::{Compression, StoreOptions},
    types::GroupId,
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

use crate::{
    cluster::PATIENCE,
    disk::TestDisk,
    network::{Network, SwitchedTransport},
};

const GROUP: u32 = 0;
const CLUSTER: [u8; 16] = [7; 16];

/// Small, because a new one is filled at every start.
const SEGMENT_BYTES: u64 = 256 * 1024;

/// What stays the same over a node's lives.
#[derive(Clone)]
pub struct Place {
    pub id: NodeId,
    pub dir: PathBuf,
    pub address: SocketAddr,
    pub network: Network,
    pub raft_config: Arc<openraft::Config>,
}

/// One life of a node.
pub struct Node {
    pub group: Group,
    pub disk: Arc<TestDisk>,
    pub stats: Arc<PeerStats>,
    state: Weak<GroupState>,
    running: Running,
    /// After what runs: its end waits for the log's thread.
    log_store: LogStore,
    place: Place,
}

/// Everything that a node does on its own account.
struct Running {
    runtime: Option<Runtime>,
    disk: Arc<TestDisk>,
}

impl Running {
    fn end(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}

impl Drop for Running {
    /// The end of a test. RocksDB must be closed before the process ends, so it is waited for, on a
    /// thread that may block.
    fn drop(&mut self) {
        self.disk.die();
        std::thread::scope(|scope| {
            scope.spawn(|| self.shut_down());
        });
    }
}

impl Node {
    /// Starts it on what its directory holds. `listener`: bound already, for the first life.
    pub async fn start(place: Place, listener: Option<std::net::TcpListener>) -> Self {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let disk = Arc::new(TestDisk::default());
        let stats = Arc::new(PeerStats::default());
        let opened = runtime.spawn(open(place.clone(), disk.clone(), stats.clone(), listener));
        let (group, log_store) = opened.await.expect("the node starts");
        let state = Arc::downgrade(group.state());
        let running = Running { runtime: Some(runtime), disk: disk.clone() };
        Self { group, disk, stats, state, running, log_store, place }
    }

    /// The last index in the log, on the disk or on the way there.
    pub fn log_end(&self) -> Option<u64> {
        self.log_store.group(GROUP).state().last.map(|(_, index)| index)
    }

    /// Ends it at this moment: what is in its files now is all that is left.
    pub async fn crash(self) {
        let Self { group, disk, log_store, state, running, place, .. } = self;
        disk.freeze();
        let crash = move || {
            // RocksDB writes its memtables out when it is closed; a crash would not.
            let (live, left) = (place.dir.join("groups"), place.dir.join("groups-at-crash"));
            copy(&live, &left).expect("copying the state's files");
            drop(group);
            running.end();
            let stopped = Instant::now();
            while state.strong_count() > 0 {
                assert!(stopped.elapsed() < PATIENCE, "who holds the state?");
                std::thread::yield_now();
            }
            disk.die();
            log_store.close();
            fs::remove_dir_all(&live).expect("removing the state's files");
            fs::rename(&left, &live).expect("putting the crashed state in place");
        };
        runtime::blocking(crash).await;
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// As `Parts::open`, without clients, operators and compaction.
async fn open(
    place: Place,
    disk: Arc<TestDisk>,
    stats: Arc<PeerStats>,
    listener: Option<std::net::TcpListener>,
) -> (Group, LogStore) {
    let Place { id, dir, address, network, raft_config } = place;
    fs::create_dir_all(&dir).expect("the data directory");
    let book = Arc::new(PeerBook::open(&dir).expect("the peer book"));
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        spare_segments: 1,
        durability: Durability::Fdatasync,
        store_id: [id as u8; 16],
        disk,
        ..Options::default()
    };
    let (log_store, _) = LogStore::open(&dir.join("log"), options).expect("the Raft log");

    let me = LocalIdentity::new(CLUSTER, id, [id as u8; 16], 1);
    let host = Arc::new(HostTable::new(1, address.to_string(), String::new()));
    let options = PeerOptions::default();
    let transport = GrpcTransport::new(options.clone(), 1, stats.clone());
    let client = Arc::new(PeerClient::new(
        Arc::new(SwitchedTransport::new(transport, id, network)),
        me.clone(),
        book.clone(),
        host.clone(),
        options.clone(),
        stats.clone(),
    ));
    let receiver = SnapshotReceiver::new(dir.clone());
    let endpoint = PeerEndpoint::new(me, book, host.clone(), receiver, options.clone(), stats);

    let group_dir = dir.join("groups").join(GROUP.to_string());
    fs::create_dir_all(&group_dir).expect("the group's directory");
    let store_options = StoreOptions::new(1 << 20, 1 << 20, Compression::None);
    let metrics = Arc::new(Metrics::new());
    let state =
        GroupState::open(GroupId(GROUP), &group_dir, store_options, metrics, Recent::new(0));
    let state = state.expect("the state");
    let lease = Duration::from_millis(raft_config.election_timeout_max);
    let (log, appended) = (log_store.group(GROUP), log_store.group(GROUP));
    let raft = RaftHandle::new(
        id,
        raft_config,
        NetworkFactory::new(client, GROUP, move || appended.last_index()),
        LogStorage::new(log),
        StateMachine::new(state.clone()),
    )
    .await
    .expect("the core");
    let group = Group::new(GroupId(GROUP), raft, state, lease);
    host.set_group(GROUP, Some(Arc::new(group.raft().clone())));

    let listener = match listener {
        Some(bound) => {
            bound.set_nonblocking(true).expect("a socket");
            TcpListener::from_std(bound).expect("a listener")
        }
        None => TcpListener::bind(address).await.expect("the port that it had before"),
    };
    runtime::spawn(async move {
        let served = service::serve(listener, endpoint, &options, std::future::pending()).await;
        served.expect("the peers' listener");
    });
    (group, log_store)
}
