//! Others may commit what a node's own disk does not hold yet; applied, it may become durable in the
//! node's state before it is in its log. A crash then leaves a state that is ahead of the log.

use quorate_raft_node::raft::settings::Timing;

use crate::cluster::{Cluster, Damage, NODES};

const TIMING: Timing = Timing { heartbeat_ms: 100, election_min_ms: 400, election_max_ms: 800 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_ahead_of_its_log_is_no_loss() {
    let mut cluster = Cluster::start(TIMING, |_| {}).await;
    let at = cluster.write(1, "before").await.expect("a healthy cluster");
    for id in NODES {
        cluster.applied(id, at).await;
    }
    cluster.disk(1).stall();
    let mut ahead = at;
    for n in 0..5 {
        ahead = cluster.write(1, &format!("ahead-{n}")).await.expect("2 and 3 are a quorum");
    }
    cluster.applied(1, ahead).await;
    let durable = cluster.group(1).store().flush().expect("the state's own disk is well");
    assert_eq!(durable, Some(ahead), "the state is ahead of the log");

    // Twice: the second start finds what the first one made of it.
    for round in 0..2 {
        cluster.crash(1).await;
        cluster.restart(1).await;
        let (_, at) = cluster.write_by(&NODES, &format!("after-{round}")).await.expect("a quorum");
        assert_eq!(cluster.damage(at).await, Damage::default(), "round {round}");
    }
    // It can lead, and feed one that was away.
    cluster.crash(3).await;
    cluster.lead(1).await;
    let at = cluster.write(1, "by-node-1").await.expect("1 and 2 are a quorum");
    cluster.restart(3).await;
    assert_eq!(cluster.damage(at).await, Damage::default());
}
