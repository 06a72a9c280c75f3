//! A follower whose disk has lost entries that it had confirmed must not be filled up in silence: it
//! may have lost its votes too. And it must not keep the leader busy.

use std::time::{Duration, Instant};

use quorate_raft_node::raft::settings::Timing;
use quorate_state_machine::types::LogPoint;

use crate::cluster::{Cluster, NODES, eventually};

const TIMING: Timing =
    Timing { heartbeat_ms: 100, election_min_ms: 60_000, election_max_ms: 60_001 };

/// Node 2 comes back without an entry that it had confirmed. Answers with the next write.
async fn lose_a_suffix(change: impl Fn(&mut openraft::Config)) -> (Cluster, LogPoint) {
    let mut cluster = Cluster::start(TIMING, change).await;
    let at = cluster.write(1, "before").await.expect("a healthy cluster");
    for id in NODES {
        cluster.applied(id, at).await;
    }
    cluster.disk(2).lie();
    let lost = cluster.write(1, "lost").await.expect("a healthy cluster");
    let confirmed = || cluster.group(1).vitals().matched.get(&2) == Some(&lost.index);
    eventually("node 2 confirms it", || confirmed().then_some(())).await;
    cluster.crash(2).await;
    cluster.restart(2).await;
    let next = cluster.write(1, "next").await.expect("nodes 1 and 3 are a quorum");
    (cluster, next)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_suffix_is_seen_and_tried_at_leisure() {
    let (cluster, next) = lose_a_suffix(|_| {}).await;
    let tries = |n| move |cluster: &Cluster| (cluster.lost_confirmed(1) >= n).then_some(());
    eventually("the leader sees it", || tries(1)(&cluster)).await;
    let started = Instant::now();
    let more = cluster.lost_confirmed(1) + 5;
    eventually("it tries again", || tries(more)(&cluster)).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300), "without a pause: five times in {took:?}");
    assert!(cluster.log_end(2) < Some(next.index.0), "the gap is not filled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_reversion_allowed_it_is_papered_over() {
    let allow = |config: &mut openraft::Config| config.allow_log_reversion = Some(true);
    let (cluster, next) = lose_a_suffix(allow).await;
    cluster.applied(2, next).await;
}
