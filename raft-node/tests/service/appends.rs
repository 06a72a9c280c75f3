//! Appends and what they may demand, call by call, and requests that are refused.

use quorate_proto::v1::{
    AppendConditions, AppendMultiRequest, AppendPart, AppendRequest, Consistency, CreateLogRequest,
    DeleteLogRequest, DescribeLogRequest, Effect, ErrorKind, FenceRequest, Level, Producer,
    ReadRequest,
};

use super::{
    all, append, append_if,
    cluster::{Cluster, detail},
    create, part, read, refused,
};

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
