//! A leader whose messages arrive, but who gets no answers, can commit nothing; it must not keep its
//! followers from electing one who can.

use quorate_raft_node::raft::settings::Timing;

use crate::{
    cluster::{Cluster, NODES, eventually},
    network::Passes,
};

const TIMING: Timing = Timing { heartbeat_ms: 100, election_min_ms: 300, election_max_ms: 600 };

async fn leader_without_answers(change: impl Fn(&mut openraft::Config)) -> Cluster {
    let mut cluster = Cluster::start(TIMING, change).await;
    let at = cluster.write(1, "before").await.expect("a healthy cluster");
    for id in NODES {
        cluster.applied(id, at).await;
    }
    for follower in [2, 3] {
        cluster.network.set(1, follower, Passes::Unanswered);
    }
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_hears_no_quorum_is_replaced() {
    let mut cluster = leader_without_answers(|_| {}).await;
    let (_, at) = cluster.write_by(&[2, 3], "after").await.expect("nodes 2 and 3 are a quorum");
    // It hears the new one, and follows.
    cluster.applied(1, at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_pause_it_holds_its_followers_for_ever() {
    let cluster = leader_without_answers(|config| config.quorum_loss_probe_interval = None).await;
    // A follower waits for the lease and one timeout; four times as long is for ever.
    let long = std::time::Duration::from_millis(8 * TIMING.election_max_ms);
    let age = || cluster.group(1).vitals().quorum_ack_age.filter(|age| *age > long).map(drop);
    eventually("node 1 has had no answers for long", age).await;
    let stood = cluster.network.ballots().iter().any(|ballot| ballot.candidate != 1);
    assert!(!stood, "a follower noticed: {:?}", cluster.network.ballots());
}
