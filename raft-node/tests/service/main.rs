//! The client API, call by call, against three real nodes.

mod answers;
mod cluster;
mod crowd;
mod different;
mod exactly_once;
mod flushes;
mod forwarding;
mod fuzz;
mod levels;
mod lost_data;
mod many;
mod proxy;
mod tails;
mod truth;
mod unread;

use std::time::Duration;

use cluster::{Cluster, detail};
use quorate_proto::v1::{
    AppendConditions, AppendMultiRequest, AppendPart, AppendRequest, AppendResponse, Consistency,
    CreateLogRequest, DeleteLogRequest, DescribeLogRequest, Effect, ErrorKind, FenceRequest, Level,
    OnUnmet, Producer, ReadFrom, ReadMethod, ReadRequest, ReadResponse, Record, RecordBatch,
    TailRequest, TrimLogRequest, log_service_client::LogServiceClient, read_from::From,
};
use tonic::{Code, Status, transport::Channel};

type Logs = LogServiceClient<Channel>;

fn records(values: &[&str]) -> Vec<Record> {
    values
        .iter()
        .map(|v| Record { value: v.as_bytes().to_vec().into(), ..Record::default() })
        .collect()
}

fn part(log: &str, values: &[&str], conditions: AppendConditions) -> AppendPart {
    AppendPart {
        log: log.to_owned(),
        records: records(values),
        conditions: Some(conditions),
        ..AppendPart::default()
    }
}

async fn append_if(
    logs: &mut Logs,
    log: &str,
    values: &[&str],
    conditions: AppendConditions,
) -> Result<AppendResponse, Status> {
    let request = AppendRequest { part: Some(part(log, values, conditions)), ack: 0 };
    Ok(logs.append(request).await?.into_inner())
}

async fn append(logs: &mut Logs, log: &str, values: &[&str]) -> AppendResponse {
    append_if(logs, log, values, AppendConditions::default()).await.expect("an append")
}

async fn create(logs: &mut Logs, log: &str) -> u64 {
    let request = CreateLogRequest { name: log.to_owned(), if_absent: false, ..Default::default() };
    logs.create_log(request)
        .await
        .expect("a new log")
        .into_inner()
        .log
        .expect("its info")
        .incarnation
}

async fn read(
    logs: &mut Logs,
    request: ReadRequest,
) -> Result<(Vec<String>, ReadResponse), Status> {
    let mut stream = logs.read(request).await?.into_inner();
    let mut values = Vec::new();
    let mut first = None;
    while let Some(message) = stream.message().await? {
        for stored in &message.batches {
            values.extend(visible(stored));
        }
        first.get_or_insert(message);
    }
    Ok((values, first.expect("the first message carries the header")))
}

fn visible(stored: &quorate_proto::v1::StoredBatch) -> Vec<String> {
    assert_eq!(crc32c::crc32c(&stored.batch), stored.batch_crc32c);
    let batch: RecordBatch = prost::Message::decode(&*stored.batch).expect("a batch");
    assert_eq!(batch.records.len() as u32, stored.count);
    let to = if stored.visible_to == 0 { u64::MAX } else { stored.visible_to };
    (stored.first_offset..)
        .zip(batch.records)
        .filter(|(offset, _)| (stored.visible_from..to).contains(offset))
        .map(|(_, r)| String::from_utf8(r.value.to_vec()).expect("text"))
        .collect()
}

fn from(log: &str, from: From) -> ReadRequest {
    ReadRequest {
        log: log.to_owned(),
        from: Some(ReadFrom { from: Some(from) }),
        ..Default::default()
    }
}

fn all(log: &str, level: Level) -> ReadRequest {
    let consistency = Some(Consistency { level: level.into(), ..Consistency::default() });
    ReadRequest { log: log.to_owned(), consistency, ..ReadRequest::default() }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    kind: ErrorKind,
) -> quorate_proto::v1::ErrorDetail {
    let status = result.expect_err("it must be refused");
    let detail = detail(&status);
    assert_eq!(detail.kind(), kind, "{detail:?}");
    assert!(!detail.message.is_empty());
    detail
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_and_their_conditions() {
    let cluster = Cluster::start(3, "").await;
    let logs = &mut cluster.logs(cluster.leader().await);
    refused(append_if(logs, "a", &["x"], Default::default()).await, ErrorKind::LogNotFound);
    let incarnation = create(logs, "a").await;
    refused(
        logs.create_log(CreateLogRequest {
            name: "a".to_owned(),
            if_absent: false,
            ..Default::default()
        })
        .await,
        ErrorKind::LogExists,
    );

    let first = append(logs, "a", &["0", "1"]).await.part.unwrap();
    assert_eq!((first.first_offset, first.next_offset, first.incarnation), (0, 2, incarnation));
    let expect = |offset| AppendConditions { expected_offset: Some(offset), ..Default::default() };
    append_if(logs, "a", &["2"], expect(2)).await.expect("the offset is right");
    let detail = refused(append_if(logs, "a", &["x"], expect(2)).await, ErrorKind::OffsetMismatch);
    assert_eq!((detail.effect(), detail.next_offset), (Effect::None, Some(3)));

    // A repeated sequence answers with the original offsets; another content does not pass.
    let with = |sequence| AppendConditions {
        producer: Some(Producer { id: vec![7; 16].into(), sequence }),
        ..Default::default()
    };
    let once = append_if(logs, "a", &["3"], with(0)).await.unwrap().part.unwrap();
    let again = append_if(logs, "a", &["3"], with(0)).await.unwrap().part.unwrap();
    assert_eq!((once.first_offset, once.deduplicated), (3, false));
    assert_eq!(
        (again.first_offset, again.deduplicated, again.timestamp_ms),
        (3, true, once.timestamp_ms)
    );
    refused(append_if(logs, "a", &["other"], with(0)).await, ErrorKind::SequenceReused);
    let gap = refused(append_if(logs, "a", &["x"], with(5)).await, ErrorKind::SequenceGap);
    assert_eq!(gap.next_sequence, Some(1));

    // Fencing.
    let fence = |min| FenceRequest { log: "a".to_owned(), min_epoch: min, incarnation: None };
    let low = logs.fence(fence(None)).await.unwrap().into_inner().writer_epoch;
    let high = logs.fence(fence(Some(40))).await.unwrap().into_inner().writer_epoch;
    assert!(low < high && high >= 40);
    let as_writer = |e| AppendConditions { writer_epoch: e, ..Default::default() };
    refused(append_if(logs, "a", &["x"], as_writer(Some(low))).await, ErrorKind::Fenced);
    refused(append_if(logs, "a", &["x"], as_writer(None)).await, ErrorKind::Fenced);
    refused(
        append_if(logs, "a", &["x"], as_writer(Some(high + 1))).await,
        ErrorKind::EpochNotGranted,
    );
    append_if(logs, "a", &["4"], as_writer(Some(high))).await.expect("the current epoch");

    // Several logs at once, all or nothing.
    create(logs, "b").await;
    let multi = |a: AppendConditions, b: AppendConditions| AppendMultiRequest {
        parts: vec![part("a", &["5"], a), part("b", &["b0"], b)],
        ack: 0,
    };
    refused(
        logs.append_multi(multi(as_writer(Some(high)), expect(9))).await,
        ErrorKind::OffsetMismatch,
    );
    let done =
        logs.append_multi(multi(as_writer(Some(high)), expect(0))).await.unwrap().into_inner();
    assert_eq!(done.parts.iter().map(|p| p.first_offset).collect::<Vec<_>>(), [5, 0]);
    let (values, _) = read(logs, all("a", Level::Linearizable)).await.unwrap();
    assert_eq!(values, ["0", "1", "2", "3", "4", "5"]);

    // A log that is deleted and created again is a new log.
    let delete = DeleteLogRequest { name: "a".to_owned(), incarnation: Some(incarnation) };
    logs.delete_log(delete).await.unwrap();
    let reborn = create(logs, "a").await;
    assert_ne!(reborn, incarnation);
    let old = AppendConditions { incarnation: Some(incarnation), ..Default::default() };
    refused(append_if(logs, "a", &["x"], old).await, ErrorKind::LogRecreated);
    refused(append_if(logs, "a", &["x"], as_writer(Some(high))).await, ErrorKind::EpochNotGranted);
    assert_eq!(
        append_if(logs, "a", &["new"], with(0)).await.unwrap().part.unwrap().first_offset,
        0
    );
    let again = logs.fence(fence(None)).await.unwrap().into_inner().writer_epoch;
    assert!(again > high, "an epoch of the old log is never granted again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_name_what_is_wrong() {
    let cluster = Cluster::start(3, "").await;
    let logs = &mut cluster.logs(cluster.leader().await);
    create(logs, "a").await;
    let long = "n".repeat(300);
    let name = logs
        .create_log(CreateLogRequest { name: long, if_absent: false, ..Default::default() })
        .await;
    assert_eq!(refused(name, ErrorKind::Invalid).limit, "log_name");
    let big = "v".repeat(2 << 20);
    let record = append_if(logs, "a", &[&big], Default::default()).await;
    assert_eq!(refused(record, ErrorKind::Invalid).limit, "record_bytes");
    refused(append_if(logs, "a", &[], Default::default()).await, ErrorKind::Invalid);
    for (batch, crc) in [(&b"garbage"[..], None), (&b"\x0a\x00"[..], Some(1))] {
        let bad = AppendPart {
            log: "a".to_owned(),
            batch: batch.to_vec().into(),
            batch_crc32c: crc,
            ..AppendPart::default()
        };
        let request = AppendRequest { part: Some(bad), ack: 0 };
        assert_eq!(refused(logs.append(request).await, ErrorKind::Invalid).effect(), Effect::None);
    }
    let none = AppendRequest { part: None, ack: 0 };
    refused(logs.append(none).await, ErrorKind::Invalid);
    let tokens = Consistency { at_least: vec![b"nonsense".to_vec().into()], ..Default::default() };
    let request = ReadRequest { consistency: Some(tokens), ..all("a", Level::Eventual) };
    refused(read(logs, request).await, ErrorKind::BadPosition);
    let unbounded = Consistency { level: Level::Bounded.into(), ..Default::default() };
    let request = ReadRequest { consistency: Some(unbounded), ..all("a", Level::Eventual) };
    refused(read(logs, request).await, ErrorKind::Invalid);
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tails_follow_across_a_failover() {
    let mut cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    let first = append(&mut cluster.logs(leader), "a", &["0"]).await;
    let follower = (leader + 1) % 3;
    let request = TailRequest {
        log: "a".to_owned(),
        from: Some(ReadFrom { from: Some(From::Offset(0)) }),
        consistency: Some(Consistency {
            level: Level::Eventual.into(),
            // The follower may not know of the log yet.
            at_least: vec![first.position],
            ..Default::default()
        }),
        header_interval_ms: 50,
        ..Default::default()
    };
    let mut tail = cluster.logs(follower).tail(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let mut headers = 0;
    while seen.len() < 20 {
        let message = quorate_raft_node::runtime::timeout(Duration::from_secs(30), tail.message())
            .await
            .expect("the tail goes on")
            .unwrap()
            .unwrap();
        headers += usize::from(message.header.is_some());
        seen.extend(message.batches.iter().flat_map(visible));
        if seen.len() == 5 && cluster.leader().await == leader {
            cluster.kill(leader);
        }
        if seen.len() < 20 && !message.batches.is_empty() {
            let value = seen.len().to_string();
            // Whoever says that it leads may be deposed at that moment; it says so, too.
            let appended = async {
                loop {
                    let mut logs = cluster.logs(cluster.leader().await);
                    match append_if(&mut logs, "a", &[&value], Default::default()).await {
                        Ok(_) => break,
                        Err(status) => assert_eq!(detail(&status).effect(), Effect::None),
                    }
                }
            };
            quorate_raft_node::runtime::timeout(Duration::from_secs(60), appended)
                .await
                .expect("somebody leads");
        }
    }
    assert_eq!(seen, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(headers > 0, "a quiet tail still says how fresh it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_groups() {
    let cluster = Cluster::start(3, "groups = 4").await;
    // Each group may have another leader: follow the hints.
    let mut used = std::collections::BTreeSet::new();
    for n in 0..16 {
        let name = format!("log-{n}");
        let request =
            CreateLogRequest { name: name.clone(), if_absent: true, ..Default::default() };
        let mut at = 0;
        let info = loop {
            match cluster.logs(at).create_log(request.clone()).await {
                Ok(done) => break done.into_inner().log.unwrap(),
                Err(status) => {
                    let hint = detail(&status).leader.map(|l| l.node_id as usize - 1);
                    at = hint.unwrap_or((at + 1) % 3);
                }
            }
        };
        used.insert(info.group);
        append(&mut cluster.logs(at), &name, &["v"]).await;
        let describe = DescribeLogRequest { name, consistency: None };
        let other = cluster.logs((at + 1) % 3).describe_log(describe).await.unwrap().into_inner();
        assert_eq!(other.log.unwrap().next_offset, 1);
    }
    assert!(used.len() > 1, "{used:?}");
}
