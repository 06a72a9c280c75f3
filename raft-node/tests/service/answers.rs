//! What answers, and refusals that are answers, say about the state that they come from.

use std::time::Duration;

use quorate_proto::v1::{
    Consistency, DeleteLogRequest, ErrorKind, Level, ListLogsRequest, OnUnmet, ReadFrom,
    ReadHeader, ReadRequest, TailRequest, TrimLogRequest, read_from::From,
};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};

use super::{
    append,
    cluster::{Cluster, detail},
    create,
    levels::{consistency, describe},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The header's essence, as metadata.
fn repeats(metadata: &MetadataMap, header: &ReadHeader) {
    let said = |name| metadata.get(name).map(|value| value.to_str().expect("text").to_owned());
    assert_eq!(said("x-data-lag-ms"), header.age_ms.map(|ms| ms.to_string()), "{metadata:?}");
    let token: String = header.position.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(said("x-position"), Some(token));
    assert_eq!(said("x-term"), Some(header.term.to_string()));
}

/// What a refusal says about the state that decided it.
fn decided(status: &Status, kind: ErrorKind, node: usize) -> ReadHeader {
    let detail = detail(status);
    assert_eq!(detail.kind(), kind, "{detail:?}");
    let header = detail.header.expect("the state that says so");
    repeats(status.metadata(), &header);
    assert_eq!(header.served_by, node as u64 + 1);
    assert!(header.applied_index > 0 && !header.position.is_empty(), "{header:?}");
    header
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_says_of_which_state_it_is() {
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    let incarnation = create(&mut cluster.logs(leader), "a").await;
    append(&mut cluster.logs(leader), "a", &["0", "1", "2"]).await;
    let trim = TrimLogRequest { name: "a".to_owned(), before_offset: 1, incarnation: None };
    let done = cluster.logs(leader).trim_log(trim).await.unwrap().into_inner();
    for n in 0..3 {
        let logs = &mut cluster.logs(n);
        // Each has applied it, and has a proof.
        let asked = || {
            Some(Consistency {
                at_least: vec![done.position.clone()],
                ..consistency(Level::Linearizable, None, OnUnmet::Wait)
            })
        };
        let read = |from, incarnation| ReadRequest {
            log: "a".to_owned(),
            from: Some(ReadFrom { from: Some(From::Offset(from)) }),
            consistency: asked(),
            incarnation,
            ..ReadRequest::default()
        };
        let answer: Response<_> = logs.read(timed(read(1, None))).await.unwrap();
        let metadata = answer.metadata().clone();
        let header = answer.into_inner().message().await.unwrap().unwrap().header.unwrap();
        repeats(&metadata, &header);
        assert!(header.age_ms.is_some() && header.entries_behind == 0, "{header:?}");
        let tail =
            TailRequest { log: "a".to_owned(), consistency: asked(), ..TailRequest::default() };
        let answer = logs.tail(tail).await.unwrap();
        let metadata = answer.metadata().clone();
        let header = answer.into_inner().message().await.unwrap().unwrap().header.unwrap();
        // The age of a tail's first header is taken once more, behind its first records.
        assert!(metadata.get("x-position").is_some() && header.age_ms.is_some(), "{header:?}");
        let list = ListLogsRequest { consistency: asked(), ..ListLogsRequest::default() };
        let answer = logs.list_logs(timed(list)).await.unwrap();
        repeats(answer.metadata(), &answer.get_ref().headers[0]);

        let cases = [
            (read(0, None), ErrorKind::Trimmed),
            (read(9, None), ErrorKind::OutOfRange),
            (read(1, Some(incarnation + 1_000)), ErrorKind::LogRecreated),
            (ReadRequest { log: "none".to_owned(), ..read(0, None) }, ErrorKind::LogNotFound),
        ];
        for (request, kind) in cases {
            let status = logs.read(timed(request)).await.map(drop).expect_err("a refusal");
            let header = decided(&status, kind, n);
            assert!(header.age_ms.is_some(), "{kind:?}: {header:?}");
        }
        // What could be offered is metadata, too.
        let elsewhere = consistency(Level::Linearizable, None, OnUnmet::Redirect);
        if n != leader {
            let status = describe(logs, "a", elsewhere, PATIENCE).await.expect_err("a follower");
            let age = detail(&status).age_ms.expect("a proof of a moment ago");
            assert_eq!(status.metadata().get("x-data-lag-ms").unwrap(), age.to_string().as_str());
        }
        let forwarded = consistency(Level::Eventual, None, OnUnmet::Forward);
        let list = ListLogsRequest { consistency: Some(forwarded), ..ListLogsRequest::default() };
        let refusal =
            logs.list_logs(timed(list)).await.expect_err("not forwarded, and not ignored");
        assert_eq!(refusal.code(), Code::Unimplemented);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_is_seen_by_its_own_position() {
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    let delete = DeleteLogRequest { name: "a".to_owned(), incarnation: None };
    let deleted = cluster.logs(leader).delete_log(delete).await.unwrap().into_inner();
    for n in 0..3 {
        let asked = || Consistency {
            at_least: vec![deleted.position.clone()],
            ..consistency(Level::Eventual, None, OnUnmet::Wait)
        };
        let logs = &mut cluster.logs(n);
        let status = describe(logs, "a", asked(), PATIENCE).await.expect_err("it is gone");
        decided(&status, ErrorKind::LogNotFound, n);
        let list = ListLogsRequest { consistency: Some(asked()), ..ListLogsRequest::default() };
        assert_eq!(logs.list_logs(timed(list)).await.unwrap().into_inner().logs, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_of_other_groups_are_counted() {
    let cluster = Cluster::start(3, "groups = 2").await;
    let leader = cluster.leader().await;
    let logs = &mut cluster.logs(leader);
    // Names fall into groups by their hash.
    let mut of_group = [None, None];
    let mut n = 0;
    while of_group.contains(&None) {
        let name = format!("log-{n}");
        n += 1;
        create(logs, &name).await;
        let done = append(logs, &name, &["v"]).await;
        let group = done.stamp.as_ref().expect("where it is").group;
        of_group[group as usize] = Some((name, done.position));
    }
    let [Some((first, here)), Some((_, elsewhere))] = of_group else { unreachable!("both known") };
    for n in 0..3 {
        for (tokens, expected) in [
            (vec![here.clone()], 0),
            (vec![here.clone(), elsewhere.clone()], 1),
            (vec![elsewhere.clone(), elsewhere.clone()], 2),
        ] {
            let asked = Consistency {
                at_least: tokens,
                ..consistency(Level::Linearizable, None, OnUnmet::Wait)
            };
            let answer = describe(&mut cluster.logs(n), &first, asked, PATIENCE).await.unwrap();
            let header = answer.header.expect("a header");
            assert_eq!(header.positions_of_other_groups, expected, "node {}", n + 1);
        }
    }
}
