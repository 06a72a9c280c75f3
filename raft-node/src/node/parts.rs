//! Everything a running node consists of, built in order.

use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use quorate_state_machine::{
    store::{Compression, StoreOptions},
    types::GroupId,
};

use super::{Fatal, bootstrap, compare};
use crate::{
    api::{
        context::{Context, GroupSides},
        forward::Forwarder,
    },
    clock::{Clock, SystemClock},
    config::Config,
    gate::Gate,
    log_store::{Durability, GroupLog, LogStore, Options as LogOptions},
    membership::identity::{self, NodeIdentity},
    observe::{Metrics, exit::ExitCode},
    peer::{
        book::PeerBook,
        client::PeerClient,
        contact::{Contact, Watched},
        endpoint::PeerEndpoint,
        grpc::GrpcTransport,
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
        one_history,
        settings::{self, Timing},
        state_machine::{GroupState, StateMachine},
    },
    read::{freshener::Freshener, read_index::ReadIndexer, reader::Reader, recent::Recent},
    runtime,
    write::{admission::Admission, proposer::Proposer},
};

/// A group and its part of the log.
#[derive(Clone)]
pub(super) struct GroupParts {
    pub group: Group,
    pub log: GroupLog,
    pub contact: Contact,
}

pub(super) struct Parts {
    pub config: Arc<Config>,
    pub identity: NodeIdentity,
    pub log_store: LogStore,
    pub host: Arc<HostTable>,
    pub peer_options: PeerOptions,
    pub peer_client: Arc<PeerClient>,
    pub peer_endpoint: PeerEndpoint,
    pub peer_stats: Arc<PeerStats>,
    pub groups: Vec<GroupParts>,
    pub context: Arc<Context>,
    pub metrics: Arc<Metrics>,
    pub gate: Gate,
    pub started: runtime::Instant,
}

fn storage(what: &str, error: impl std::fmt::Display) -> Fatal {
    Fatal::new(ExitCode::Io, format!("{what}: {error}"))
}

impl Parts {
    pub(super) async fn open(config: Arc<Config>) -> Result<Self, Fatal> {
        let started = runtime::now();
        let data_dir = config.data_dir.clone();
        let identity = {
            let config = config.clone();
            runtime::blocking(move || identity::open(&config))
                .await
                .map_err(|e| Fatal::new(e.exit_code(), e.to_string()))?
        };
        let book = Arc::new(PeerBook::open(&data_dir).map_err(|e| storage("peer book", e))?);
        compare::refuse_what_differed(&data_dir)?;
        let log_store = open_log(&config, &identity).await?;
        let metrics = Arc::new(Metrics::new());
        let gate = Gate::default();

        let me = LocalIdentity::new(
            identity.cluster_id,
            identity.node_id,
            identity.node_uuid,
            config.groups,
        );
        let host = Arc::new(HostTable::new(
            config.groups,
            config.advertise_peer().to_owned(),
            config.advertise_client().to_owned(),
        ));
        host.set_nodes(config.nodes.iter().map(|node| node.id));
        let peer_options = PeerOptions::default();
        let peer_stats = Arc::new(PeerStats::default());
        let transport =
            Arc::new(GrpcTransport::new(peer_options.clone(), config.groups, peer_stats.clone()));
        let peer_client = Arc::new(PeerClient::new(
            transport,
            me.clone(),
            book.clone(),
            host.clone(),
            peer_options.clone(),
            peer_stats.clone(),
        ));
        let peer_endpoint = PeerEndpoint::new(
            me,
            book,
            host.clone(),
            SnapshotReceiver::new(data_dir.clone()),
            peer_options.clone(),
            peer_stats.clone(),
        );

        let store_options = store_options(&config, &log_store);
        let mut groups = Vec::new();
        for id in 0..config.groups {
            let log = log_store.group(id);
            let group = open_group(
                &config,
                GroupId(id),
                log.clone(),
                &peer_client,
                &store_options,
                &metrics,
            )
            .await?;
            let contact = Contact::default();
            let handler = Watched::new(group.raft().clone(), contact.clone());
            host.set_group(id, Some(Arc::new(handler)));
            groups.push(GroupParts { group, log, contact });
        }
        let fresh = (0..).zip(&groups).filter(|(_, parts)| is_fresh(&parts.log));
        host.set_fresh_groups(fresh.map(|(id, _)| id));

        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let indexed: Vec<(Group, ReadIndexer)> = groups
            .iter()
            .map(|g| {
                let indexer = ReadIndexer::start(
                    g.group.clone(),
                    read_round_timeout(&config),
                    metrics.clone(),
                );
                (g.group.clone(), indexer)
            })
            .collect();
        let freshener = Freshener::start(indexed.clone(), clock.clone(), peer_client.clone());
        let sides = indexed.into_iter().map(|(group, indexer)| GroupSides {
            proposer: Proposer::start(group.clone(), clock.clone(), metrics.clone()),
            reader: Reader::new(group, indexer, freshener.clone()),
        });
        let context = Arc::new(Context {
            cluster: identity.cluster_id,
            node_id: identity.node_id,
            groups: sides.collect(),
            admission: Admission::new(config.limits.inflight_bytes() as usize),
            gate: gate.clone(),
            forwarder: Forwarder::default(),
            floor: config.reads.floor(),
            metrics: metrics.clone(),
        });
        Ok(Self {
            config,
            identity,
            log_store,
            host,
            peer_options,
            peer_client,
            peer_endpoint,
            peer_stats,
            groups,
            context,
            metrics,
            gate,
            started,
        })
    }

    pub(super) fn bootstrap_facts(&self) -> bootstrap::Facts {
        bootstrap::Facts {
            config: self.config.clone(),
            identity: self.identity.clone(),
            client: self.peer_client.clone(),
            host: self.host.clone(),
            groups: self.groups.clone(),
        }
    }
}

/// Neither vote nor entry, now or ever.
pub(super) fn is_fresh(log: &GroupLog) -> bool {
    let state = log.state();
    state.vote.is_none() && state.last.is_none() && state.purged.is_none()
}

/// A round that takes longer than an election can't be confirmed by this leader any more.
fn read_round_timeout(config: &Config) -> Duration {
    Duration::from_millis(config.raft.election_max_ms)
}

/// Log that a node at its peak writes between two looks at what can be purged, bytes.
const BETWEEN_LOOKS: u64 = 256 << 20;

/// Segments that one purge frees: a snapshot comes after half of the retention, and what it covers
/// goes at once, with what came in since the rule was looked at. Never more than the retention
/// itself: who keeps little of the log has little room for it.
fn given_back_at_once(log: crate::config::Log) -> usize {
    let retained = log.retain_bytes();
    let bytes = (retained / 2).saturating_add(BETWEEN_LOOKS).min(retained);
    usize::try_from(bytes / log.segment_bytes()).unwrap_or(usize::MAX)
}

async fn open_log(config: &Config, identity: &NodeIdentity) -> Result<LogStore, Fatal> {
    let options = LogOptions {
        segment_bytes: config.log.segment_bytes(),
        kept_segments: given_back_at_once(config.log),
        cache_bytes: config.log.cache_bytes(),
        durability: match config.log.durability {
            crate::config::Durability::Auto => Durability::Auto,
            crate::config::Durability::Direct => Durability::Direct,
            crate::config::Durability::Fdatasync => Durability::Fdatasync,
        },
        store_id: identity.store_id(),
        ..LogOptions::default()
    };
    let dir = config.data_dir.join(identity::LOG_DIR);
    let opened = runtime::blocking(move || LogStore::open(&dir, options)).await;
    let (log_store, report) = opened.map_err(|e| storage("the Raft log can't be opened", e))?;
    tracing::info!(%report, "Raft log recovered");
    let data_dir = config.data_dir.clone();
    runtime::blocking(move || identity::note_log(&data_dir))
        .await
        .map_err(|e| storage("the data directory", e))?;
    Ok(log_store)
}

fn store_options(config: &Config, log: &LogStore) -> StoreOptions {
    let options = StoreOptions::new(
        config.state.memtable_bytes() as usize,
        config.state.block_cache_bytes() as usize,
        match config.state.compression {
            crate::config::Compression::None => Compression::None,
            crate::config::Compression::Lz4 => Compression::Lz4,
            crate::config::Compression::Zstd => Compression::Zstd,
        },
    );
    // What the log tried out holds for the state if it is on the same file system.
    let device = |dir: &Path| std::fs::metadata(dir).map(|found| found.dev()).ok();
    let log_on = device(&config.data_dir.join(identity::LOG_DIR));
    let groups = config.data_dir.join(identity::group_dir(0));
    let state_on = groups.ancestors().find_map(device);
    options.direct(log.is_direct() && log_on == state_on)
}

async fn open_group(
    config: &Config,
    id: GroupId,
    log: GroupLog,
    client: &Arc<PeerClient>,
    options: &StoreOptions,
    metrics: &Arc<Metrics>,
) -> Result<Group, Fatal> {
    let dir = config.data_dir.join(identity::group_dir(id.0));
    let (options, for_state) = (options.clone(), metrics.clone());
    let recent = Recent::new((config.reads.cache_bytes() / u64::from(config.groups)) as usize);
    let state = runtime::blocking(move || GroupState::open(id, &dir, options, for_state, recent))
        .await
        .map_err(|e| storage(&format!("the state of group {id} can't be opened"), e))?;
    one_history::check(&log.state(), state.store().applied())
        .map_err(|why| Fatal::new(ExitCode::Config, format!("group {id}: {why}")))?;
    let timing = Timing {
        heartbeat_ms: config.raft.heartbeat_ms,
        election_min_ms: config.raft.election_min_ms,
        election_max_ms: config.raft.election_max_ms,
    };
    let raft_config = settings::openraft_config(&format!("{}/{id}", config.cluster_id), timing)
        .map_err(|e| Fatal::new(ExitCode::Config, format!("[raft]: {e}")))?;
    let appended = log.clone();
    let network = NetworkFactory::new(client.clone(), id.0, move || appended.last_index());
    let catching_up = network.catching_up().clone();
    let raft = RaftHandle::new(
        config.node_id,
        Arc::new(raft_config),
        network,
        LogStorage::new(log.clone()),
        StateMachine::new(state.clone()),
    )
    .await
    .map_err(|e| Fatal::new(ExitCode::Software, format!("group {id} can't start: {e}")))?;
    let lease = Duration::from_millis(timing.election_max_ms);
    let group = Group::new(id, raft, state, lease);
    let rule = Rule {
        retain_bytes: config.log.retain_bytes(),
        flush_interval: Duration::from_secs(config.state.flush_interval_s),
    };
    runtime::spawn(compaction::run(group.clone(), log, rule, catching_up));
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Log;

    #[test]
    fn purged_files_are_kept_for_one_purge_and_within_the_retention() {
        let kept = |segment_mb, retain_mb| {
            given_back_at_once(Log { segment_mb, retain_mb, ..Log::default() })
        };
        assert_eq!([kept(64, 512), kept(64, 2048), kept(64, 128), kept(16, 16)], [8, 20, 2, 1]);
    }
}
