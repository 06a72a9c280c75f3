//! Those who follow a log, and what may happen to it, and to the nodes, under them.

use std::time::Duration;

use quorate_proto::{
    admin::v1::TriggerSnapshotRequest,
    v1::{
        AppendRequest, AppendResponse, Consistency, DeleteLogRequest, Effect, ErrorKind, Level,
        OnUnmet, ReadFrom, ReadResponse, TailRequest, TrimLogRequest, read_from::From,
    },
};
use quorate_raft_node::runtime;
use tonic::{Status, Streaming};

use super::{
    Logs, all, append, append_if,
    cluster::{Cluster, detail},
    create,
    levels::{consistency, describe},
    part, read, visible,
};

const PATIENCE: Duration = Duration::from_secs(60);

const FROM_MEMORY: &str = "quorate_read_batches_total{source=\"memory\"}";
const FROM_DISK: &str = "quorate_read_batches_total{source=\"disk\"}";

/// A tail of what is applied, which is at least what was done before.
async fn tail(
    logs: &mut Logs,
    log: &str,
    from: u64,
    done: &AppendResponse,
) -> Streaming<ReadResponse> {
    let request = TailRequest {
        log: log.to_owned(),
        from: Some(ReadFrom { from: Some(From::Offset(from)) }),
        consistency: Some(Consistency {
            level: Level::Eventual.into(),
            at_least: vec![done.position.clone()],
            ..Consistency::default()
        }),
        // No header wakes it: what it delivers, it was woken for.
        header_interval_ms: 600_000,
        ..TailRequest::default()
    };
    logs.tail(request).await.expect("a tail").into_inner()
}

async fn next(tail: &mut Streaming<ReadResponse>) -> Result<ReadResponse, Status> {
    let message = runtime::timeout(PATIENCE, tail.message()).await.expect("the tail goes on");
    message.map(|message| message.expect("a tail does not end by itself"))
}

/// The next so many values.
async fn values(tail: &mut Streaming<ReadResponse>, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let message = next(tail).await.expect("more of it");
        values.extend(message.batches.iter().flat_map(visible));
    }
    values
}

async fn refusal(tail: &mut Streaming<ReadResponse>) -> ErrorKind {
    loop {
        if let Err(status) = next(tail).await {
            return detail(&status).kind();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_not_read_from_the_disk_for_each_who_follows_it() {
    const TAILS: usize = 50;
    const BATCHES: usize = 200;
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    let logs = &mut cluster.logs(leader);
    create(logs, "quiet").await;
    create(logs, "a").await;
    let done = append(logs, "a", &["first"]).await;
    let follower = (leader + 1) % 3;
    let mut tails = Vec::new();
    for _ in 0..TAILS {
        tails.push(tail(&mut cluster.logs(follower), "a", 1, &done).await);
    }
    let mut quiet = tail(&mut cluster.logs(follower), "quiet", 0, &done).await;
    let wanted: Vec<String> = (0..BATCHES).map(|n| n.to_string()).collect();
    let writer = async {
        for value in &wanted {
            append(&mut cluster.logs(leader), "a", &[value]).await;
        }
        append(&mut cluster.logs(leader), "quiet", &["q"]).await;
    };
    let readers = futures::future::join_all(tails.iter_mut().map(|t| values(t, BATCHES)));
    let ((), seen) = tokio::join!(writer, readers);
    assert!(seen.iter().all(|seen| *seen == wanted));
    assert_eq!(values(&mut quiet, 1).await, ["q"]);
    let memory = cluster.metric(follower, FROM_MEMORY).await;
    let disk = cluster.metric(follower, FROM_DISK).await;
    assert_eq!(memory + disk, (TAILS * BATCHES + 1) as f64);
    println!("{TAILS} tails of {BATCHES} batches: {memory} from memory, {disk} from the disk");
    assert!(disk == 0.0, "{disk} batches were read from the disk");
    // A read of what was just appended, too.
    let mut again = tail(&mut cluster.logs(follower), "a", BATCHES as u64 - 9, &done).await;
    assert_eq!(values(&mut again, 10).await, wanted[BATCHES - 10..]);
    assert_eq!(cluster.metric(follower, FROM_DISK).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_changes_under_its_tails() {
    for cache in ["", "[reads]\ncache_mb = 0"] {
        let cluster = Cluster::start(3, cache).await;
        let leader = cluster.leader().await;
        let logs = &mut cluster.logs(leader);
        create(logs, "a").await;
        let done = append(logs, "a", &["0", "1", "2"]).await;
        let follower = &mut cluster.logs((leader + 1) % 3);
        let mut tail_at = tail(follower, "a", 0, &done).await;
        assert_eq!(values(&mut tail_at, 3).await, ["0", "1", "2"]);
        // Trimming what was delivered is no matter to a tail...
        let trim = |before_offset| TrimLogRequest {
            name: "a".to_owned(),
            before_offset,
            ..TrimLogRequest::default()
        };
        logs.trim_log(trim(2)).await.unwrap();
        append(logs, "a", &["3"]).await;
        assert_eq!(values(&mut tail_at, 1).await, ["3"]);
        // ...and nothing that is trimmed is shown to a new one, from memory or not.
        let mut late = tail(follower, "a", 2, &done).await;
        assert_eq!(values(&mut late, 2).await, ["2", "3"]);
        let early = follower
            .tail(TailRequest {
                log: "a".to_owned(),
                from: Some(ReadFrom { from: Some(From::Offset(1)) }),
                ..TailRequest::default()
            })
            .await
            .map(drop)
            .expect_err("it is trimmed");
        assert_eq!(detail(&early).kind(), ErrorKind::Trimmed);

        // The same name is another log: neither tail goes on in it.
        let delete = DeleteLogRequest { name: "a".to_owned(), incarnation: None };
        logs.delete_log(delete).await.unwrap();
        create(logs, "a").await;
        let done = append(logs, "a", &["new 0", "new 1", "new 2", "new 3", "new 4"]).await;
        for old in [&mut tail_at, &mut late] {
            let kind = refusal(old).await;
            let kinds = [ErrorKind::LogRecreated, ErrorKind::LogNotFound, ErrorKind::BadPosition];
            assert!(kinds.contains(&kind), "{kind:?}");
        }
        let mut renewed = tail(follower, "a", 3, &done).await;
        assert_eq!(values(&mut renewed, 2).await, ["new 3", "new 4"]);
    }
}

/// Who was shown a record can ask any replica for a state that has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tail_delivers_says_where_it_is() {
    for cache in ["", "[reads]\ncache_mb = 0"] {
        let cluster = Cluster::start(3, cache).await;
        let leader = cluster.leader().await;
        let logs = &mut cluster.logs(leader);
        create(logs, "a").await;
        let first = append(logs, "a", &["0"]).await;
        let mut tail = tail(&mut cluster.logs((leader + 1) % 3), "a", 0, &first).await;
        assert_eq!(values(&mut tail, 1).await, ["0"]);
        for end in 2..30 {
            let done = append(logs, "a", &["v"]).await;
            let message = next(&mut tail).await.expect("the new record");
            assert!(message.header.is_none(), "none is due");
            assert_eq!(message.batches.len(), 1);
            let index = done.stamp.expect("where it is").log_index;
            assert!(message.applied_index >= index, "{} for {index}", message.applied_index);
            let asked = Consistency {
                at_least: vec![message.position],
                ..consistency(Level::Eventual, None, OnUnmet::Wait)
            };
            let mut other = cluster.logs((leader + 2) % 3);
            let answer = describe(&mut other, "a", asked, PATIENCE).await.expect("it comes");
            assert!(answer.header.expect("a header").next_offset >= end);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_goes_on_over_an_installed_snapshot() {
    // Small segments, and next to nothing kept of them: who is away for long needs a snapshot.
    let extra = "[log]\nsegment_mb = 16\nretain_mb = 1\n[state]\nflush_interval_s = 1";
    let mut cluster = Cluster::start(3, extra).await;
    let leader = cluster.leader().await;
    let logs = &mut cluster.logs(leader);
    create(logs, "a").await;
    create(logs, "bulk").await;
    let done = append(logs, "a", &["0"]).await;
    let away = (leader + 1) % 3;
    let mut stream = tail(&mut cluster.logs(away), "a", 0, &done).await;
    assert_eq!(values(&mut stream, 1).await, ["0"]);

    cluster.pause(away);
    append(logs, "a", &["1", "2"]).await;
    let megabyte = "x".repeat(1 << 20);
    let at = cluster.applied(leader).await;
    let mut left = 400;
    while cluster.purged(leader).await <= at {
        assert!(left > 0, "the log is never purged");
        left -= 1;
        let part = part("bulk", &[&megabyte, &megabyte, &megabyte], Default::default());
        logs.append(AppendRequest { part: Some(part), ack: 0 }).await.expect("an append");
        if left % 10 == 0 {
            let request = TriggerSnapshotRequest { group: 0 };
            cluster.admin(leader).trigger_snapshot(request).await.expect("a snapshot");
        }
    }
    append(logs, "a", &["3"]).await;
    cluster.resume(away);
    // The stream survived the pause, and misses nothing.
    let installed = "quorate_snapshot_duration_seconds_count{group=\"0\",action=\"installed\"}";
    assert_eq!(values(&mut stream, 3).await, ["1", "2", "3"]);
    assert!(cluster.metric(away, installed).await >= 1.0, "it came by a snapshot");
    append(logs, "a", &["4"]).await;
    assert_eq!(values(&mut stream, 1).await, ["4"]);
    cluster.kill(away);
}

/// Callers that gave up while a node was paused have reset their requests before it saw them. That
/// is no attack: what else the connection carries goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_goes_on_beside_calls_that_were_given_up() {
    let cluster = Cluster::start(1, "").await;
    let logs = &mut cluster.logs(cluster.leader().await);
    create(logs, "a").await;
    let first = append(logs, "a", &["0"]).await;
    let mut tail = tail(logs, "a", 0, &first).await;
    assert_eq!(values(&mut tail, 1).await, ["0"]);
    cluster.pause(0);
    let given_up = (0..300).map(|_| {
        let mut same_connection = logs.clone();
        async move {
            let call = read(&mut same_connection, all("a", Level::Eventual));
            runtime::timeout(Duration::from_millis(300), call).await.is_err()
        }
    });
    let given_up = futures::future::join_all(given_up).await;
    assert!(given_up.into_iter().all(|given_up| given_up), "a paused node has answered");
    cluster.resume(0);
    append(logs, "a", &["1"]).await;
    assert_eq!(values(&mut tail, 1).await, ["1"]);
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
        let message = runtime::timeout(Duration::from_secs(30), tail.message())
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
            runtime::timeout(Duration::from_secs(60), appended).await.expect("somebody leads");
        }
    }
    assert_eq!(seen, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(headers > 0, "a quiet tail still says how fresh it is");
}
