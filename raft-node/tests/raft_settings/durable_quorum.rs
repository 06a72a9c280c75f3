//! An append is acknowledged when it is on the disks of a quorum, whichever they are, and not
//! before: neither a write that is under way nor one that is only in a follower's memory counts.

use std::time::Duration;

use quorate_raft_node::{
    raft::{settings::Timing, types::NodeId},
    runtime,
};

use crate::cluster::{Cluster, NODES, PATIENCE, eventually};

/// Nobody is replaced while disks stall: a heartbeat's answer may wait for a flush.
const TIMING: Timing =
    Timing { heartbeat_ms: 100, election_min_ms: 60_000, election_max_ms: 60_001 };

/// A wrong acknowledgement would come within milliseconds.
const LONG: Duration = Duration::from_millis(500);

/// Appends through node 1 while the disks of `stalled` write nothing, and kills all nodes at once.
/// Answers whether it was acknowledged within `wait`, and which nodes have it on their disks.
async fn append_while(stalled: &[NodeId], wait: Duration) -> (bool, Vec<NodeId>) {
    let mut cluster = Cluster::start(TIMING, |_| {}).await;
    let before = cluster.write(1, "before").await.expect("a healthy cluster");
    for id in NODES {
        cluster.applied(id, before).await;
    }
    stalled.iter().for_each(|id| cluster.disk(*id).stall());
    let index = before.index.0 + 1;
    let has_it = |cluster: &Cluster, id| cluster.log_end(id) >= Some(index);
    let acknowledged = {
        let no_answer = async {
            let everywhere = || NODES.into_iter().all(|id| has_it(&cluster, id)).then_some(());
            eventually("it is in the memory of all", everywhere).await;
            runtime::sleep(wait).await;
        };
        tokio::select! {
            biased;
            done = cluster.propose(1, "append") => done.is_ok(),
            () = no_answer => false,
        }
    };
    NODES.iter().for_each(|id| cluster.disk(*id).freeze());
    for id in NODES {
        cluster.isolate(id);
        cluster.crash(id).await;
    }
    for id in NODES {
        cluster.restart(id).await;
    }
    (acknowledged, NODES.into_iter().filter(|id| has_it(&cluster, *id)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stalled_disk_holds_nothing_up() {
    for stalled in NODES {
        let (acknowledged, durable) = append_while(&[stalled], PATIENCE).await;
        assert!(acknowledged, "without node {stalled} there is a quorum");
        let others: Vec<NodeId> = NODES.into_iter().filter(|id| *id != stalled).collect();
        assert_eq!(durable, others, "acknowledged, so on the disks of a quorum");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_disk_is_not_enough() {
    for alone in NODES {
        let stalled: Vec<NodeId> = NODES.into_iter().filter(|id| *id != alone).collect();
        let answer = append_while(&stalled, LONG).await;
        assert_eq!(answer, (false, vec![alone]), "node {alone} alone has it on its disk");
    }
}
