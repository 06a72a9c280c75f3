//! A heartbeat says who leads, not what is durable: followers whose disks are busy for longer than
//! a lease answer it, and the leader that their entries wait for stays.

use std::time::Duration;

use quorate_raft_node::{
    peer::{
        handler::PeerHandler as _,
        wire::{AppendRefusal, AppendRequest},
    },
    raft::{settings::Timing, types::alias::Vote},
    runtime,
};

use crate::cluster::{Cluster, NODES, PATIENCE, eventually};

const TIMING: Timing = Timing { heartbeat_ms: 100, election_min_ms: 500, election_max_ms: 1000 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_with_busy_disks_keep_their_leader() {
    let mut cluster = Cluster::start(TIMING, |_| {}).await;
    let at = cluster.write(1, "before").await.expect("a healthy cluster");
    for id in NODES {
        cluster.applied(id, at).await;
    }
    let term = cluster.term(1);
    for follower in [2, 3] {
        cluster.disk(follower).stall();
    }
    let (late, ()) = tokio::join!(cluster.propose(1, "late"), async {
        let busy_for = Duration::from_millis(4 * TIMING.election_max_ms);
        runtime::sleep(busy_for).await;
        // Answers that came meanwhile, not those from before.
        let lease = Duration::from_millis(TIMING.election_max_ms);
        let heard =
            || cluster.group(1).vitals().quorum_ack_age.filter(|age| *age < lease).map(drop);
        eventually("a quorum answers heartbeats", heard).await;
        let ballots = cluster.network.ballots();
        assert!(ballots.iter().all(|ballot| ballot.candidate == 1), "{ballots:?}");
        let applied = cluster.group(1).vitals().applied_index.0;
        assert!(Some(applied) < cluster.log_end(1), "it waits: {applied}");
        for follower in [2, 3] {
            cluster.disk(follower).go_on();
        }
    });
    let at = late.expect("it was only late");
    assert_eq!((cluster.led_by(&NODES), cluster.term(1)), (Some(1), term));
    for id in NODES {
        cluster.applied(id, at).await;
    }
}

/// What a follower says to a heartbeat, it says for what it has promised, whatever its disk does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_busy_disk_denies_a_leader_of_before() {
    let mut cluster = Cluster::start(TIMING, |_| {}).await;
    let at = cluster.write(1, "before").await.expect("a healthy cluster");
    for id in NODES {
        cluster.applied(id, at).await;
    }
    let before = Vote::new_committed(cluster.term(1), 1);
    let heartbeat = async |cluster: &Cluster| {
        let request = AppendRequest {
            vote: before,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        let answer = cluster.group(3).raft().heartbeat(request);
        let answer = runtime::timeout(PATIENCE, answer).await.expect("it does not wait");
        answer.expect("its core runs")
    };
    cluster.disk(3).stall();
    assert_eq!(heartbeat(&cluster).await, Ok(None), "it follows node 1");
    cluster.lead(2).await;
    cluster.disk(3).go_on();
    let at = cluster.write(2, "after").await.expect("node 2 leads");
    cluster.applied(3, at).await;
    cluster.disk(3).stall();
    let later = |vote: &Vote| vote.leader_id.term > before.leader_id.term;
    let denied = heartbeat(&cluster).await;
    assert!(matches!(&denied, Err(AppendRefusal::HigherVote(v)) if later(v)), "{denied:?}");
    cluster.disk(3).go_on();
}
