//! A node that restarts has forgotten which leader it had promised to wait for. So a leader's lease
//! proves nothing, and a read index needs a quorum that answers *now*.

use std::time::{Duration, Instant};

use openraft::{ReadPolicy, errors::RaftError, raft::linearizable_read::LinearizerOption};
use quorate_raft_node::{
    raft::{group::ReadIndexFailure, settings::Timing, types::NodeId},
    runtime,
};
use quorate_state_machine::types::LogPoint;

use crate::{
    cluster::{Cluster, NODES, PATIENCE, PAUSE},
    network::Passes,
};

/// The lease is long, so that what happens in it needs no luck.
const TIMING: Timing = Timing { heartbeat_ms: 100, election_min_ms: 500, election_max_ms: 3000 };

/// Runs, until one was quicker than the old leader's lease.
const ATTEMPTS: usize = 5;

/// Log index of a lease read on node 1, if it gives one.
async fn lease_read(cluster: &Cluster) -> Option<u64> {
    let option = LinearizerOption::from(ReadPolicy::LeaseRead);
    match cluster.group(1).raft().get_read_linearizer(option).await {
        Ok(linearizer) => Some(linearizer.read_log_id().log_id().index()),
        Err(RaftError::APIError(_)) => None,
        Err(RaftError::Fatal(fatal)) => panic!("the core stopped: {fatal}"),
    }
}

/// Node 1 leads by the grace of node 2; node 3 has lost sight of it. Node 1 is cut off, node 2
/// restarts, and with node 3 elects another leader, which acknowledges a write. Answers with both.
async fn a_leader_is_replaced_within_its_lease(cluster: &mut Cluster) -> (NodeId, LogPoint) {
    cluster.network.set_both(1, 3, Passes::Nothing);
    // From the moment on that node 3's own promise is over.
    let refused = || {
        let ballots = cluster.network.ballots();
        ballots.iter().any(|b| (b.candidate, b.voter) == (3, 2) && b.granted == Some(false))
    };
    stand_until(cluster, 3, refused).await;
    cluster.network.set_both(1, 2, Passes::Nothing);
    cluster.crash(2).await;
    cluster.restart(2).await;
    stand_until(cluster, 3, || cluster.led_by(&[2, 3]).is_some()).await;
    cluster.write_by(&[2, 3], "new").await.expect("nodes 2 and 3 are a quorum")
}

/// Node `id` asks whether it would be elected, again and again: its timer does the same, but not as
/// often.
async fn stand_until(cluster: &Cluster, id: NodeId, over: impl Fn() -> bool) {
    let started = Instant::now();
    while !over() {
        let ballots = || cluster.network.ballots();
        assert!(started.elapsed() < PATIENCE, "it stood in vain: {:?}", ballots());
        cluster.group(id).raft().trigger().elect(true).await.expect("the core runs");
        runtime::sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_read_is_stale_after_a_followers_restart_and_read_index_is_not() {
    for _ in 0..ATTEMPTS {
        let mut cluster = Cluster::start(TIMING, |_| {}).await;
        let old = cluster.write(1, "old").await.expect("a healthy cluster");
        for id in NODES {
            cluster.applied(id, old).await;
        }
        let (leader, new) = a_leader_is_replaced_within_its_lease(&mut cluster).await;
        let (by_lease, group) = (lease_read(&cluster).await, cluster.group(1));
        let ours = group.read_index(Duration::from_millis(200)).await;
        let never_below = |ours: &Result<LogPoint, ReadIndexFailure>| {
            assert!(ours.as_ref().map_or(true, |at| *at >= new), "stale: {ours:?} before {new:?}");
        };
        never_below(&ours);
        let Some(by_lease) = by_lease else {
            // The lease was over; nothing was shown.
            continue;
        };
        assert!(by_lease < new.index.0, "{by_lease} includes {new:?}: the scenario does not bite");
        assert_eq!(ours, Err(ReadIndexFailure::NoQuorum), "at the same moment");

        // A read that is under way when the old leader hears of the new one.
        let reading = group.read_index(Duration::from_secs(10));
        let healing = async { cluster.network.heal() };
        let (ours, ()) = tokio::join!(reading, healing);
        never_below(&ours);
        // The new leader's reads include it.
        let ours = cluster.group(leader).read_index(Duration::from_secs(10)).await;
        assert!(ours.as_ref().is_ok_and(|at| *at >= new), "{ours:?}");
        return;
    }
    panic!("in {ATTEMPTS} runs nobody was quicker than the lease");
}
