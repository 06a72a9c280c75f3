//! A replica that can't get a proof, but can reach the leader as its clients do, asks on a caller's
//! behalf; within limits.

use std::time::Duration;

use quorate_proto::v1::{ErrorKind, Level, OnUnmet, TailRequest};
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
const SHORT: Duration = Duration::from_secs(2);

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
    // Heartbeats and entries go on: they are sent over connections that the leader made.
    proxies[leader].cut();
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
    let failed = futures::future::join_all(asked).await;
    assert!(failed.iter().all(Result::is_err), "{failed:?}");
    let refusal = loop {
        let refusal = describe(logs, "a", forwarded(), SHORT).await.expect_err("it is stopped");
        // Now and then one tries whether the leader is back.
        if !refusal.details().is_empty() && detail(&refusal).kind() != ErrorKind::Deadline {
            break detail(&refusal);
        }
    };
    assert_eq!(refusal.kind(), ErrorKind::ResourceExhausted, "{refusal:?}");
    assert_eq!(refusal.limit, "forwarded_reads");
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
