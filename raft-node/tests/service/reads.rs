//! Reads of every kind, on every replica, and on one that has nobody to ask.

use std::time::Duration;

use quorate_proto::v1::{
    Consistency, Effect, ErrorKind, Level, OnUnmet, ReadMethod, ReadRequest, TrimLogRequest,
    read_from::From,
};
use tonic::Code;

use super::{Logs, all, append, append_if, cluster::Cluster, create, from, read, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_by_offset_time_and_from_the_end() {
    let cluster = Cluster::start(3, "").await;
    let logs = &mut cluster.logs(cluster.leader().await);
    create(logs, "a").await;
    append(logs, "a", &["0", "1", "2"]).await;
    quorate_raft_node::runtime::sleep(Duration::from_millis(5)).await;
    let middle = append(logs, "a", &["3", "4"]).await.part.unwrap();
    let values = async |logs: &mut Logs, request| read(logs, request).await.unwrap().0;
    assert_eq!(values(logs, from("a", From::Offset(1))).await, ["1", "2", "3", "4"]);
    assert_eq!(values(logs, from("a", From::Last(2))).await, ["3", "4"]);
    assert_eq!(values(logs, from("a", From::Last(99))).await.len(), 5);
    assert_eq!(values(logs, from("a", From::TimestampMs(middle.timestamp_ms))).await, ["3", "4"]);
    let range = ReadRequest { to_offset: Some(4), ..from("a", From::Offset(2)) };
    assert_eq!(values(logs, range).await, ["2", "3"]);
    let few = ReadRequest { max_records: 2, ..from("a", From::Offset(1)) };
    assert_eq!(values(logs, few).await, ["1", "2"]);
    assert!(values(logs, from("a", From::Offset(5))).await.is_empty(), "at the end: nothing yet");
    let beyond = refused(read(logs, from("a", From::Offset(6))).await, ErrorKind::OutOfRange);
    assert_eq!(beyond.next_offset, Some(5));

    let trim = TrimLogRequest { name: "a".to_owned(), before_offset: 1, incarnation: None };
    assert_eq!(logs.trim_log(trim).await.unwrap().into_inner().start_offset, 1);
    let below = refused(read(logs, from("a", From::Offset(0))).await, ErrorKind::Trimmed);
    assert_eq!(below.start_offset, Some(1));
    assert_eq!(values(logs, all("a", Level::Linearizable)).await, ["1", "2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_level_on_every_replica() {
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    for round in 0..20 {
        let done = append(&mut cluster.logs(leader), "a", &["v"]).await;
        for n in 0..3 {
            let logs = &mut cluster.logs(n);
            let (values, first) = read(logs, all("a", Level::Linearizable)).await.unwrap();
            assert_eq!(values.len(), round + 1, "linearizable on node {}", n + 1);
            let header = first.header.unwrap();
            assert_eq!(header.served_by, n as u64 + 1);
            let proven = if n == leader { ReadMethod::ReadIndex } else { ReadMethod::Probe };
            assert_eq!(header.method(), proven);

            let bounded = Consistency {
                level: Level::Bounded.into(),
                max_staleness_ms: Some(0),
                ..Default::default()
            };
            let request = ReadRequest { consistency: Some(bounded), ..all("a", Level::Bounded) };
            let (values, first) = read(logs, request).await.unwrap();
            assert_eq!(values.len(), round + 1, "nothing acknowledged is older than 0 ms");
            assert!(first.header.unwrap().age_ms.is_some(), "a bounded answer says its age");

            let mine = Consistency {
                level: Level::Eventual.into(),
                at_least: vec![done.position.clone()],
                ..Default::default()
            };
            let request = ReadRequest { consistency: Some(mine), ..all("a", Level::Eventual) };
            assert_eq!(read(logs, request).await.unwrap().0.len(), round + 1, "read your writes");
        }
    }
    let follower = (leader + 1) % 3;
    let elsewhere = Consistency { on_unmet: OnUnmet::Redirect.into(), ..Default::default() };
    let request = ReadRequest { consistency: Some(elsewhere), ..all("a", Level::Linearizable) };
    let hint = refused(read(&mut cluster.logs(follower), request).await, ErrorKind::NotLeader);
    assert_eq!(hint.leader.unwrap().address, cluster.url(leader));
    let append = append_if(&mut cluster.logs(follower), "a", &["x"], Default::default()).await;
    let hint = refused(append, ErrorKind::NotLeader);
    assert_eq!((hint.effect(), hint.leader.unwrap().address), (Effect::None, cluster.url(leader)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_claims_nothing() {
    let mut cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    let logs = &mut cluster.logs(leader);
    create(logs, "a").await;
    let done = append(logs, "a", &["v"]).await;
    (0..3).filter(|n| *n != leader).for_each(|n| cluster.kill(n));
    // Linearizable: never. The deadline is ours, the refusal is the server's.
    let mut request = tonic::Request::new(all("a", Level::Linearizable));
    request.set_timeout(Duration::from_secs(3));
    let late = logs.read(request).await.map(drop).expect_err("no quorum");
    assert!(
        matches!(late.code(), Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled),
        "{late:?}"
    );
    let strict = |level, ms| Consistency {
        level: Level::into(level),
        max_staleness_ms: ms,
        on_unmet: OnUnmet::Fail.into(),
        ..Default::default()
    };
    let request = ReadRequest {
        consistency: Some(strict(Level::Bounded, Some(100))),
        ..all("a", Level::Bounded)
    };
    quorate_raft_node::runtime::sleep(Duration::from_millis(200)).await;
    let stale = refused(read(logs, request).await, ErrorKind::TooStale);
    assert!(stale.age_ms.is_none_or(|age| age > 100), "{stale:?}");
    // What it has, it may show to who asks for no more; the age is unknown or grows.
    let (values, first) = read(logs, all("a", Level::Eventual)).await.unwrap();
    assert_eq!(values, ["v"]);
    assert!(first.header.unwrap().age_ms.is_none_or(|age| age >= 200));
    // And its own write is in what it has.
    let mine = Consistency {
        level: Level::Eventual.into(),
        at_least: vec![done.position],
        ..Default::default()
    };
    let request = ReadRequest { consistency: Some(mine), ..all("a", Level::Eventual) };
    assert_eq!(read(logs, request).await.unwrap().0.len(), 1);
}
