//! Each level, and what is done when it can't be had, on replicas that are well, alone, or behind.

use std::time::{Duration, Instant};

use quorate_proto::v1::{
    AppendResponse, Consistency, CreateLogRequest, DescribeLogRequest, DescribeLogResponse,
    ErrorKind, Level, OnUnmet, ReadFrom, ReadLevel, ReadMethod, SetReadLevelRequest, TailRequest,
    read_from::From,
};
use quorate_raft_node::runtime;
use tonic::{Request, Status};

use super::{
    Logs, append,
    cluster::{Cluster, detail},
    create,
    proxy::Proxy,
    refused,
};

const PATIENCE: Duration = Duration::from_secs(60);

pub fn consistency(level: Level, ms: Option<u64>, on_unmet: OnUnmet) -> Consistency {
    Consistency {
        level: level.into(),
        max_staleness_ms: ms,
        on_unmet: on_unmet.into(),
        ..Consistency::default()
    }
}

pub async fn describe(
    logs: &mut Logs,
    log: &str,
    consistency: Consistency,
    timeout: Duration,
) -> Result<DescribeLogResponse, Status> {
    let message = DescribeLogRequest { name: log.to_owned(), consistency: Some(consistency) };
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    Ok(logs.describe_log(request).await?.into_inner())
}

/// What the node says of it. Where the machine has no time for anybody, a caller's own library may
/// give up before the node's word arrives, which says nothing of the node: then it is asked again.
async fn told(
    logs: &mut Logs,
    log: &str,
    consistency: &Consistency,
    timeout: Duration,
) -> Result<DescribeLogResponse, Status> {
    let began = Instant::now();
    loop {
        let answer = describe(logs, log, consistency.clone(), timeout).await;
        match &answer {
            Err(status) if status.details().is_empty() && began.elapsed() < PATIENCE => {}
            _ => return answer,
        }
    }
}

const LEVELS: [(Level, Option<u64>); 3] =
    [(Level::Linearizable, None), (Level::Bounded, Some(200)), (Level::Eventual, None)];

const UNMET: [OnUnmet; 5] =
    [OnUnmet::Wait, OnUnmet::Redirect, OnUnmet::Fail, OnUnmet::Forward, OnUnmet::ServeAndMark];

/// The level that an answer says it satisfies.
fn given(answer: &DescribeLogResponse) -> (Level, Option<u64>) {
    let given = answer.header.as_ref().and_then(|h| h.given).expect("every answer says it");
    (given.level(), given.max_staleness_ms)
}

/// Everything works, or is redirected, on all nodes.
async fn all_is_well(cluster: &Cluster, leader: usize) {
    for (level, ms) in LEVELS {
        for on_unmet in UNMET {
            for n in 0..3 {
                let asked = consistency(level, ms, on_unmet);
                let answer = describe(&mut cluster.logs(n), "a", asked, PATIENCE).await;
                if n != leader && level == Level::Linearizable && on_unmet == OnUnmet::Redirect {
                    let detail = refused(answer, ErrorKind::NotLeader);
                    assert!(detail.age_ms.is_some(), "what could be had here: {detail:?}");
                    let hint = detail.leader.expect("a leader is known");
                    assert_eq!(hint.address, cluster.url(leader));
                    continue;
                }
                let answer = answer
                    .unwrap_or_else(|e| panic!("{level:?} {on_unmet:?} on node {}: {e:?}", n + 1));
                assert_eq!(given(&answer), (level, ms));
                let age = answer.header.expect("a header").age_ms;
                match level {
                    Level::Eventual => {}
                    _ => assert!(age.is_some(), "{level:?} {on_unmet:?}: nothing proves it"),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_level_with_every_way_out_on_a_replica_without_a_quorum() {
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    append(&mut cluster.logs(leader), "a", &["v"]).await;
    all_is_well(&cluster, leader).await;

    let alone = (leader + 1) % 3;
    (0..3).filter(|n| *n != alone).for_each(|n| cluster.pause(n));
    let logs = &mut cluster.logs(alone);
    // From here on its evidence only gets older; wait until it is older than the bound.
    let asked = consistency(Level::Bounded, Some(200), OnUnmet::Fail);
    while describe(logs, "a", asked.clone(), PATIENCE).await.is_ok() {}
    for (level, ms) in LEVELS {
        for on_unmet in UNMET {
            let asked = consistency(level, ms, on_unmet);
            let answer = told(logs, "a", &asked, Duration::from_secs(3)).await;
            let what = format!("{level:?} {on_unmet:?}: {answer:?}");
            if level == Level::Eventual || on_unmet == OnUnmet::ServeAndMark {
                let answer = answer.expect(&what);
                assert_eq!(given(&answer), (Level::Eventual, None), "{what}");
                let age = answer.header.expect("a header").age_ms;
                assert!(age.is_none_or(|age| age > 200), "{what}");
                continue;
            }
            let status = answer.expect_err("not without a quorum");
            let detail = detail(&status);
            let kinds: &[ErrorKind] = match on_unmet {
                OnUnmet::Wait => &[ErrorKind::Deadline],
                OnUnmet::Redirect if level == Level::Linearizable => &[ErrorKind::NotLeader],
                // As long as it thinks that there is a leader, it asks it, in vain.
                OnUnmet::Forward => &[ErrorKind::TooStale, ErrorKind::Deadline],
                _ => &[ErrorKind::TooStale],
            };
            assert!(kinds.contains(&detail.kind()), "{what}");
            assert!(detail.retryable && detail.age_ms.is_none_or(|age| age > 200), "{what}");
        }
    }
    (0..3).filter(|n| *n != alone).for_each(|n| cluster.resume(n));
    let leader = cluster.leader().await;
    let asked = consistency(Level::Linearizable, None, OnUnmet::Wait);
    for n in 0..3 {
        describe(&mut cluster.logs(n), "a", asked.clone(), PATIENCE).await.expect("it recovers");
    }
    if cluster.leader().await == leader {
        let asked = consistency(Level::Bounded, Some(200), OnUnmet::Wait);
        describe(&mut cluster.logs(alone), "a", asked, PATIENCE).await.expect("it recovers");
    }
}

/// The same for a position that this replica can't reach.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_a_replica_has_not_reached() {
    let (cluster, proxies) = Cluster::start_behind(3, "", Proxy::start).await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    let seen = append(&mut cluster.logs(leader), "a", &["seen"]).await;
    let behind = (leader + 1) % 3;
    let at_least = |on_unmet, done: &AppendResponse| Consistency {
        at_least: vec![done.position.clone()],
        ..consistency(Level::Eventual, None, on_unmet)
    };
    let logs = &mut cluster.logs(behind);
    describe(logs, "a", at_least(OnUnmet::Wait, &seen), PATIENCE).await.expect("it comes");
    // Nothing reaches it any more; it asks for votes, and gets none while the others are content.
    proxies[behind].cut().await;
    let missed = append(&mut cluster.logs(cluster.leader().await), "a", &["missed"]).await;

    for on_unmet in [OnUnmet::Fail, OnUnmet::Redirect] {
        let answer = describe(logs, "a", at_least(on_unmet, &missed), PATIENCE).await;
        let detail = refused(answer, ErrorKind::TooStale);
        assert!(detail.message.contains("position"), "{detail:?}");
    }
    // Who waits is told by the node, not by his own library, and what he could have had.
    let (missed_by_all, short) = (at_least(OnUnmet::Wait, &missed), Duration::from_secs(3));
    let bounded = Consistency {
        level: Level::Bounded.into(),
        max_staleness_ms: Some(600_000),
        ..missed_by_all.clone()
    };
    for (asked, says_age) in [(bounded, true), (missed_by_all, false)] {
        let detail = refused(told(logs, "a", &asked, short).await, ErrorKind::Deadline);
        assert_eq!(detail.age_ms.is_some(), says_age, "{detail:?}");
    }
    let marked = describe(logs, "a", at_least(OnUnmet::ServeAndMark, &missed), PATIENCE).await;
    let header = marked.expect("an old answer").header.expect("a header");
    assert!(header.position_unmet && header.next_offset == 1, "{header:?}");
    let fine = describe(logs, "a", at_least(OnUnmet::ServeAndMark, &seen), PATIENCE).await;
    assert!(!fine.expect("an answer").header.expect("a header").position_unmet);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_says_its_own_level_on_every_replica() {
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    let logs = &mut cluster.logs(leader);
    let bounded = |ms| ReadLevel { level: Level::Bounded.into(), max_staleness_ms: Some(ms) };
    let request = CreateLogRequest {
        name: "a".to_owned(),
        read_level: Some(bounded(700)),
        ..Default::default()
    };
    let created = logs.create_log(request).await.unwrap().into_inner();
    assert_eq!(created.log.unwrap().read_level, Some(bounded(700)));
    let change = |read_level| SetReadLevelRequest {
        name: "a".to_owned(),
        read_level,
        ..SetReadLevelRequest::default()
    };
    let eventual = ReadLevel { level: Level::Eventual.into(), max_staleness_ms: None };
    let mut position = created.position;
    for level in [Some(bounded(700)), Some(bounded(0)), Some(eventual), None] {
        let done = logs.set_read_level(change(level)).await.unwrap().into_inner();
        assert_eq!(done.log.unwrap().read_level, level);
        let expected = level.map_or((Level::Linearizable, None), |level: ReadLevel| {
            (level.level(), level.max_staleness_ms)
        });
        for n in 0..3 {
            // Until it is applied there, a replica goes by the level before.
            let applied = Consistency {
                level: Level::Eventual.into(),
                at_least: vec![done.position.clone()],
                ..Consistency::default()
            };
            describe(&mut cluster.logs(n), "a", applied, PATIENCE).await.unwrap();
            let asked = Consistency::default();
            let answer = describe(&mut cluster.logs(n), "a", asked, PATIENCE).await.unwrap();
            assert_eq!(given(&answer), expected, "node {}", n + 1);
            // A request's own level counts for more.
            let asked = consistency(Level::Bounded, Some(9_000), OnUnmet::Wait);
            let answer = describe(&mut cluster.logs(n), "a", asked, PATIENCE).await.unwrap();
            assert_eq!(given(&answer), (Level::Bounded, Some(9_000)));
        }
        assert_ne!(done.position, position);
        position = done.position;
    }
    let nothing = ReadLevel::default();
    refused(logs.set_read_level(change(Some(nothing))).await, ErrorKind::Invalid);
    let unbounded = ReadLevel { level: Level::Bounded.into(), max_staleness_ms: None };
    refused(logs.set_read_level(change(Some(unbounded))).await, ErrorKind::Invalid);
    let missing = SetReadLevelRequest { name: "b".to_owned(), ..change(None) };
    refused(logs.set_read_level(missing).await, ErrorKind::LogNotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_goes_below_the_operators_floor() {
    let floor = "[reads]\nfloor = \"bounded\"\nfloor_staleness_ms = 300";
    let cluster = Cluster::start(3, floor).await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    let cases = [
        ((Level::Eventual, None), (Level::Bounded, Some(300))),
        ((Level::Bounded, Some(5_000)), (Level::Bounded, Some(300))),
        ((Level::Bounded, Some(100)), (Level::Bounded, Some(100))),
        ((Level::Linearizable, None), (Level::Linearizable, None)),
    ];
    let follower = (leader + 1) % 3;
    // A state from before its creation may be young enough.
    let asked = consistency(Level::Linearizable, None, OnUnmet::Wait);
    describe(&mut cluster.logs(follower), "a", asked, PATIENCE).await.unwrap();
    for ((level, ms), want) in cases {
        for n in [leader, follower] {
            let asked = consistency(level, ms, OnUnmet::Wait);
            let answer = describe(&mut cluster.logs(n), "a", asked, PATIENCE).await.unwrap();
            assert_eq!(given(&answer), want);
        }
    }
    (0..3).filter(|n| *n != follower).for_each(|n| cluster.pause(n));
    let logs = &mut cluster.logs(follower);
    // What is marked may be older than was asked for, but not older than the floor.
    let strict = consistency(Level::Linearizable, None, OnUnmet::ServeAndMark);
    let refusal = loop {
        match describe(logs, "a", strict.clone(), PATIENCE).await {
            Ok(answer) => assert_ne!(given(&answer).0, Level::Eventual),
            Err(status) => break detail(&status),
        }
    };
    assert_eq!(refusal.kind(), ErrorKind::TooStale);
    assert!(refusal.age_ms.is_none_or(|age| age > 300), "{refusal:?}");
    let lax = consistency(Level::Eventual, None, OnUnmet::ServeAndMark);
    refused(describe(logs, "a", lax, PATIENCE).await, ErrorKind::TooStale);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_of_a_quiet_log_proves_that_it_is_quiet() {
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    append(&mut cluster.logs(leader), "a", &["v"]).await;
    let follower = (leader + 1) % 3;
    // A bounded read may lack what was acknowledged within its bound: not from here on.
    let strict = consistency(Level::Linearizable, None, OnUnmet::Wait);
    describe(&mut cluster.logs(follower), "a", strict, PATIENCE).await.unwrap();
    let tail = |level, ms, on_unmet| TailRequest {
        log: "a".to_owned(),
        from: Some(ReadFrom { from: Some(From::Offset(0)) }),
        consistency: Some(consistency(level, ms, on_unmet)),
        header_interval_ms: 20,
        ..TailRequest::default()
    };
    let open = async |request| cluster.logs(follower).tail(request).await.unwrap().into_inner();
    let mut eventual = open(tail(Level::Eventual, None, OnUnmet::Wait)).await;
    let next = async |stream: &mut tonic::Streaming<quorate_proto::v1::ReadResponse>| {
        let message = runtime::timeout(PATIENCE, stream.message()).await.expect("in time");
        message.map(|message| message.expect("a tail does not end by itself"))
    };
    for (level, ms) in [(Level::Bounded, Some(400)), (Level::Linearizable, None)] {
        let stream = &mut open(tail(level, ms, OnUnmet::Wait)).await;
        let mut headers = 0;
        let mut last = 0;
        while headers < 10 {
            let Some(header) = next(stream).await.unwrap().header else { continue };
            assert!(header.age_ms.is_some() && header.next_offset == 1, "{header:?}");
            // Positions never run backwards.
            assert!(header.applied_index >= last);
            (headers, last) = (headers + 1, header.applied_index);
        }
    }
    // When nothing proves it any more, those say so, and the other that it gets older.
    let mut bounded = open(tail(Level::Bounded, Some(400), OnUnmet::Fail)).await;
    let mut linearizable = open(tail(Level::Linearizable, None, OnUnmet::Fail)).await;
    (0..3).filter(|n| *n != follower).for_each(|n| cluster.pause(n));
    for stream in [&mut bounded, &mut linearizable] {
        let status = loop {
            if let Err(status) = next(stream).await {
                break status;
            }
        };
        assert_eq!(detail(&status).kind(), ErrorKind::TooStale);
    }
    let mut aged = false;
    while !aged {
        let Some(header) = next(&mut eventual).await.unwrap().header else { continue };
        aged = header.age_ms.is_none_or(|age| age > 400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_linearizable_reads_share_rounds() {
    const READS: usize = 2_000;
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    let logs = cluster.logs(leader);
    let rounds = "quorate_read_index_round_readers_count{group=\"0\"}";
    let before = cluster.metric(leader, rounds).await;
    let reads = (0..READS).map(|_| {
        let mut logs = logs.clone();
        let asked = consistency(Level::Linearizable, None, OnUnmet::Wait);
        async move { describe(&mut logs, "a", asked, PATIENCE).await.map(drop) }
    });
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
    let rounds = cluster.metric(leader, rounds).await - before;
    let shared = "quorate_read_duration_seconds_count{level=\"linearizable\",outcome=\"ok\"}";
    assert!(cluster.metric(leader, shared).await >= READS as f64);
    println!("{READS} concurrent linearizable reads took {rounds} rounds of the quorum");
    assert!(rounds < READS as f64 / 4.0, "{rounds} rounds for {READS} reads");

    // But none goes without: that this node leads is no evidence.
    let rounds_of = "quorate_read_index_round_readers_count{group=\"0\"}";
    let before = cluster.metric(leader, rounds_of).await;
    for _ in 0..20 {
        let asked = consistency(Level::Linearizable, None, OnUnmet::Wait);
        let answer = describe(&mut logs.clone(), "a", asked, PATIENCE).await.unwrap();
        // Once it is deposed it is a replica like any other.
        let method = answer.header.expect("a header").method();
        assert!(matches!(method, ReadMethod::ReadIndex | ReadMethod::Probe), "{method:?}");
    }
    let rounds = cluster.metric(leader, rounds_of).await - before;
    let leads = cluster.leader().await == leader;
    assert!(rounds >= 20.0 || !leads, "{rounds} rounds for 20 reads, one after the other");
}
