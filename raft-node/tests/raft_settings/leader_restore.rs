//! A leader need not be in the quorum that commits. One that restarts without its unwritten tail
//! must stand for election again: restored as the leader of its old term, it would give a log index
//! to a second write.

use quorate_raft_node::raft::settings::Timing;

use crate::cluster::{Cluster, Damage, NODES};

/// Runs, until one has won the race against the followers' election.
const ATTEMPTS: usize = 5;

const TIMING: Timing = Timing { heartbeat_ms: 100, election_min_ms: 1500, election_max_ms: 2500 };

/// The leader's disk stalls; the followers commit a write without it; it crashes without what it
/// had not written, and is back before anybody has missed it.
async fn scenario(change: impl Fn(&mut openraft::Config)) -> Damage {
    for _ in 0..ATTEMPTS {
        let mut cluster = Cluster::start(TIMING, &change).await;
        let at = cluster.write(1, "written").await.expect("a healthy cluster");
        for id in NODES {
            cluster.applied(id, at).await;
        }
        cluster.disk(1).stall();
        let at = cluster.write(1, "not-written-by-the-leader").await;
        let at = at.expect("the followers are a quorum");
        cluster.crash(1).await;
        cluster.restart(1).await;
        let in_time = cluster.term(2) == at.term.0 && cluster.term(3) == at.term.0;
        let (_, at) = cluster.write_by(&NODES, "after").await.expect("a leader writes");
        if in_time {
            return cluster.damage(at).await;
        }
    }
    panic!("in {ATTEMPTS} runs the leader was never back in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_leader_gives_no_index_away_twice() {
    assert_eq!(scenario(|_| {}).await, Damage::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_leader_does() {
    let damage = scenario(|config| config.enable_leader_restore = Some(true)).await;
    // Both were acknowledged, with one index; each replica has one of them, for ever.
    let (lost, kept) = ("not-written-by-the-leader".to_owned(), "after".to_owned());
    assert_eq!(damage.lost, [(1, lost.clone()), (2, kept.clone()), (3, kept.clone())]);
    assert_eq!(damage.replaced, [(lost, kept)]);
    assert!(!damage.digests.is_empty(), "the digests show it");
}
