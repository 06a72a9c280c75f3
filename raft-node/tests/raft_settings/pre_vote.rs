//! A node that hears nobody asks whether it would be elected before it raises its term; so when it
//! is back, the healthy leader stays.

use quorate_raft_node::raft::settings::Timing;

use crate::cluster::{Cluster, eventually};

const TIMING: Timing = Timing { heartbeat_ms: 100, election_min_ms: 400, election_max_ms: 800 };

/// Elections that the isolated node tries.
const TRIES: usize = 3;

/// Requests for votes of node 3 that nobody answered, one count for each of the two others.
fn unanswered(cluster: &Cluster) -> usize {
    let ballots = cluster.network.ballots();
    ballots.iter().filter(|b| b.candidate == 3 && b.granted.is_none()).count()
}

/// Node 3 is cut off until it has tried to be elected some times. Answers with its term before
/// and after.
async fn isolate(cluster: &mut Cluster) -> (u64, u64) {
    let at = cluster.write(1, "before").await.expect("a healthy cluster");
    cluster.applied(3, at).await;
    let before = cluster.term(3);
    cluster.isolate(3);
    let tried = || unanswered(cluster) >= 2 * TRIES;
    eventually("node 3 tries to be elected", || tried().then_some(())).await;
    cluster.write(1, "meanwhile").await.expect("nodes 1 and 2 are a quorum");
    (before, cluster.term(3))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolated_node_keeps_its_term_and_the_leader_its_place() {
    let mut cluster = Cluster::start(TIMING, |_| {}).await;
    let (before, after) = isolate(&mut cluster).await;
    assert_eq!(after, before, "the isolated node's term");
    cluster.network.heal();
    let at = cluster.write(1, "after").await.expect("the leader was not deposed");
    cluster.applied(3, at).await;
    assert_eq!((at.term.0, cluster.term(3)), (before, before), "the cluster's term");
    // Node 1 still leads.
    cluster.write(1, "last").await.expect("the leader was not deposed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_pre_vote_its_term_rises_and_deposes_the_leader() {
    let mut cluster = Cluster::start(TIMING, |config| config.enable_pre_vote = Some(false)).await;
    let (before, after) = isolate(&mut cluster).await;
    assert!(after > before + 1, "it rises with every try: from {before} to {after}");
    cluster.network.heal();
    let deposed = || (cluster.term(1) >= after).then_some(());
    eventually("the leader's term is over, though it was healthy", deposed).await;
}
