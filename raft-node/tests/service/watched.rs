//! Load balancers, operators and scrapes look at a replica: what they see, and what that costs.

use std::time::Duration;

use quorate_raft_node::runtime;

use super::{cluster::Cluster, create};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_balancers_and_operators_see_how_far_a_replica_is() {
    let cluster = Cluster::start(3, "[reads]\nprobation_s = 5").await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    let follower = (leader + 1) % 3;
    let started = runtime::now();
    let status = async |path: &str| cluster.get(follower, path).await.0;
    let becomes = async |path: &str, want: u16| {
        while status(path).await != want {
            assert!(started.elapsed() < PATIENCE, "{path} does not become {want}");
            runtime::sleep(Duration::from_millis(20)).await;
        }
    };
    becomes("/replica?max_lag=500ms", 200).await;
    becomes("/readyz?max_lag=500ms", 200).await;
    let lag = "quorate_read_age_seconds{group=\"0\"}";
    assert!(cluster.metric(follower, lag).await < 10.0);
    // Seen through a status, too.
    let request = quorate_proto::admin::v1::StatusRequest {};
    let seen = cluster.admin(follower).status(request).await.unwrap().into_inner();
    let group = &seen.groups[0];
    assert!(group.age_ms.is_some() && group.probe_us.is_some(), "{group:?}");

    (0..3).filter(|n| *n != follower).for_each(|n| cluster.pause(n));
    becomes("/readyz?max_lag=500ms", 503).await;
    becomes("/replica?max_lag=500ms", 503).await;
    assert_eq!(status("/replica?max_lag=1000000s").await, 200, "whoever asks decides");
    (0..3).filter(|n| *n != follower).for_each(|n| cluster.resume(n));
    becomes("/readyz?max_lag=500ms", 200).await;
    let (code, why) = cluster.get(follower, "/replica?max_lag=500ms").await;
    assert!(code == 503 && why.contains("on probation"), "{code} {why}");
    becomes("/replica?max_lag=500ms", 200).await;
}

/// Polls stop as well when a node is cut off or stopped: the first one after that finds all well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_away_while_nobody_looked_is_on_probation() {
    let cluster = Cluster::start(3, "[reads]\nprobation_s = 5").await;
    let follower = (cluster.leader().await + 1) % 3;
    let started = runtime::now();
    let serves = async || {
        let (code, why) = cluster.get(follower, "/replica?max_lag=2s").await;
        assert!(started.elapsed() < PATIENCE, "{why}");
        (code == 200, why)
    };
    while !serves().await.0 {
        runtime::sleep(Duration::from_millis(100)).await;
    }
    cluster.pause(follower);
    // This is what the test is about, not a wait for anything.
    runtime::sleep(Duration::from_secs(6)).await;
    cluster.resume(follower);
    let mut on_probation = false;
    loop {
        let (serves_now, why) = serves().await;
        if serves_now {
            break;
        }
        // Right after the pause it may be refused for its age, which is over at once.
        on_probation |= why.contains("on probation");
        runtime::sleep(Duration::from_millis(100)).await;
    }
    assert!(on_probation, "it served as soon as it was young enough");
}

/// To look costs a round, and a load balancer one a second; readers are what costs more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_costs_little() {
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    let rounds = async || {
        cluster.metric(leader, "quorate_read_index_round_readers_count{group=\"0\"}").await
    };
    let spend = async |seconds| {
        let before = rounds().await;
        // The time in which nobody does anything is what is measured.
        runtime::sleep(Duration::from_secs(seconds)).await;
        rounds().await - before
    };
    let scraped = spend(3).await;
    assert!(scraped <= 3.0, "{scraped} rounds for two scrapes and nothing else in 3 s");
    cluster.get(leader, "/replica?max_lag=2s").await;
    let watched = spend(5).await;
    assert!((1.0..=9.0).contains(&watched), "{watched} rounds in 5 s for a load balancer");
    assert!(cluster.leader().await == leader, "a busy machine made another node the leader");
}
