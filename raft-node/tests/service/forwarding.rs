//! A replica that can't get a proof, but can reach the leader as its clients do, asks on a caller's
//! behalf; within limits.

use std::time::Duration;

use quorate_proto::v1::{Effect, ErrorKind, Level, OnUnmet, TailRequest};
use quorate_raft_node::runtime;

use super::{
    all, append,
    cluster::{Cluster, detail},
    create,
    levels::{consistency, describe},
    proxy::Proxy,
    read, refused,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Of a forwarded read that will not be answered.
const SHORT: Duration = Duration::from_secs(4);

fn forwarded() -> quorate_proto::v1::Consistency {
    consistency(Level::Linearizable, None, OnUnmet::Forward)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_proof_asks_the_leader_within_limits() {
    // No election while the leader is stopped for a moment.
    let slow = "[raft]\nelection_min_ms = 10000\nelection_max_ms = 12000";
    let (cluster, proxies) = Cluster::start_behind(3, slow, Proxy::start).await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    append(&mut cluster.logs(leader), "a", &["v"]).await;
    let follower = (leader + 1) % 3;
    let logs = &mut cluster.logs(follower);
    // It has a proof, which gets older from here on.
    let proven = consistency(Level::Linearizable, None, OnUnmet::Wait);
    describe(logs, "a", proven, PATIENCE).await.expect("a probe");
    // Heartbeats and entries go on: they are sent over connections that the leader made.
    proxies[leader].cut().await;
    let answer = describe(logs, "a", forwarded(), PATIENCE).await.expect("the leader answers");
    let header = answer.header.expect("the leader's own");
    assert_eq!((header.served_by, header.next_offset), (leader as u64 + 1, 1));
    assert!(header.age_ms.is_some(), "{header:?}");
    let request = quorate_proto::v1::ReadRequest {
        consistency: Some(forwarded()),
        ..all("a", Level::Linearizable)
    };
    let (values, first) = read(logs, request).await.expect("the leader answers");
    assert_eq!(
        (values, first.header.expect("one").served_by),
        (vec!["v".to_owned()], header.served_by)
    );
    let answered = "quorate_read_forwarded_total{outcome=\"answered\"}";
    assert_eq!(cluster.metric(follower, answered).await, 2.0);
    // Who does not ask for it is told to go there himself.
    let strict = consistency(Level::Linearizable, None, OnUnmet::Fail);
    let refusal = refused(describe(logs, "a", strict, PATIENCE).await, ErrorKind::TooStale);
    assert_eq!(refusal.leader.expect("a hint").address, cluster.url(leader));
    let tail = TailRequest {
        log: "a".to_owned(),
        consistency: Some(forwarded()),
        ..TailRequest::default()
    };
    refused(logs.tail(tail).await.map(drop), ErrorKind::Unsupported);

    // A leader that does not answer is not asked again and again.
    cluster.pause(leader);
    let asked = (0..8).map(|_| {
        let mut logs = cluster.logs(follower);
        async move { describe(&mut logs, "a", forwarded(), SHORT).await }
    });
    // What is said in the end is why it could not be served here, and that asking was in vain.
    let told = |status: tonic::Status| {
        let refusal = detail(&status);
        assert_eq!((refusal.kind(), refusal.effect()), (ErrorKind::TooStale, Effect::None));
        assert!(refusal.age_ms.is_some() && refusal.retryable, "{refusal:?}");
        assert_eq!(refusal.leader.as_ref().expect("a hint").address, cluster.url(leader));
        refusal.message
    };
    for failed in futures::future::join_all(asked).await {
        let message = told(failed.expect_err("it is stopped"));
        assert!(message.contains("forwarded"), "{message}");
    }
    loop {
        let refusal = describe(logs, "a", forwarded(), SHORT).await.expect_err("it is stopped");
        // Now and then one tries whether the leader is back.
        if told(refusal).contains("was not forwarded") {
            break;
        }
    }
    let status = cluster.admin(follower).status(quorate_proto::admin::v1::StatusRequest {}).await;
    let forward = status.unwrap().into_inner().forward.expect("every node says it");
    assert!(forward.breaker_open && forward.limit == 64, "{forward:?}");
    assert!(
        cluster.metric(follower, "quorate_read_forwarded_total{outcome=\"failed\"}").await >= 5.0
    );
    assert!(
        cluster.metric(follower, "quorate_read_forwarded_total{outcome=\"open\"}").await >= 1.0
    );

    cluster.resume(leader);
    let began = runtime::now();
    while let Err(refusal) = describe(logs, "a", forwarded(), SHORT).await {
        assert!(began.elapsed() < PATIENCE, "{refusal:?}");
    }
    assert_eq!(cluster.metric(follower, "quorate_read_forward_breaker_open").await, 0.0);
}
