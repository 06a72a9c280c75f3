//! Calls one at a time: where they go, and what is repeated.

use std::time::Duration;

use quorate_client::{
    AppendOptions, AppendPart, Batch, Client, Consistency, Effect, ErrorKind, ProducerId,
    RetryPolicy,
};

use crate::cluster::{Cluster, Fault};

fn none() -> AppendOptions {
    AppendOptions::default()
}

#[tokio::test]
async fn a_hint_is_followed_and_remembered() {
    let cluster = Cluster::start().await;
    cluster.shared.control().leader = Some(2);
    let client = cluster.client();
    for n in 0..5 {
        let appended = client.append_with("l", [n.to_string()], &none()).await.unwrap();
        assert_eq!((appended.first_offset, appended.next_offset), (n, n + 1));
    }
    assert_eq!(cluster.shared.control().calls, [1, 0, 5]);
}

#[tokio::test]
async fn the_leader_is_learned_from_one_configured_node() {
    let cluster = Cluster::start().await;
    cluster.shared.control().leader = Some(1);
    let client = Client::builder().endpoints([cluster.endpoint(0).as_str()]).build().unwrap();
    client.append_with("l", ["a"], &none()).await.unwrap();
    assert_eq!(client.endpoints(), [cluster.endpoint(0), cluster.endpoint(1)]);
}

#[tokio::test]
async fn without_a_leader_it_is_looked_for_until_the_deadline() {
    let cluster = Cluster::start().await;
    cluster.shared.control().leader = None;
    let client = cluster.client().with_timeout(Duration::from_millis(200));
    let error = client.append_with("l", ["a"], &none()).await.unwrap_err();
    // The deadline may come before the last answer, which is then in doubt.
    let expected = [(ErrorKind::NotLeader, Effect::None), (ErrorKind::Deadline, Effect::Unknown)];
    assert!(expected.contains(&(error.kind(), error.effect())), "{error:?}");
    assert!(cluster.shared.control().calls.iter().all(|calls| *calls > 0), "everybody was asked");
}

#[tokio::test]
async fn unknown_is_said_and_not_repeated() {
    let faults =
        [Fault::CutBefore { late: None }, Fault::CutAfter, Fault::Deposed { applied: true }];
    for fault in faults {
        let cluster = Cluster::start().await;
        let once = fault.clone();
        cluster.on_append(move |_, n| (n == 1).then(|| once.clone()));
        let error = cluster.client().append_with("l", ["a"], &none()).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{fault:?}");
        assert_eq!(cluster.appends(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_silent_node_leaves_an_append_unknown() {
    let cluster = Cluster::start().await;
    cluster.on_append(|_, _| Some(Fault::Mute));
    let client = cluster.client().with_timeout(Duration::from_millis(100));
    let error = client.append_with("l", ["a"], &none()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Deadline, Effect::Unknown));
    assert_eq!(cluster.appends(), 1);
}

#[tokio::test]
async fn what_had_no_effect_is_repeated() {
    let cluster = Cluster::start().await;
    cluster.on_append(|_, n| match n {
        1 => Some(Fault::Busy),
        2 => Some(Fault::Moved),
        _ => None,
    });
    cluster.client().append_with("l", ["a"], &none()).await.unwrap();
    assert_eq!(cluster.values(), ["a"]);
    assert_eq!(cluster.shared.state().judged, 1);
}

#[tokio::test]
async fn a_node_that_does_not_listen_had_no_effect() {
    let cluster = Cluster::start().await;
    // A port that nobody listens on.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::builder()
        .endpoints([gone.to_string(), cluster.endpoint(0).to_string()])
        .build()
        .unwrap();
    client.append_with("l", ["a"], &none()).await.unwrap();
    let alone = Client::builder().endpoints([gone.to_string()]);
    let alone = alone.request_timeout(Duration::from_millis(100)).build().unwrap();
    let error = alone.append_with("l", ["a"], &none()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
}

#[tokio::test]
async fn a_sequence_makes_repetition_safe() {
    let cluster = Cluster::start().await;
    cluster.on_append(|_, n| (n == 1).then_some(Fault::CutAfter));
    let options = AppendOptions { producer: Some((ProducerId::random(), 0)), ..none() };
    let appended = cluster.client().append_with("l", ["a"], &options).await.unwrap();
    assert!(appended.deduplicated);
    assert_eq!(cluster.values(), ["a"]);
}

#[tokio::test]
async fn doubt_outlives_a_refusal_of_the_repetition() {
    let cluster = Cluster::start().await;
    let shared = cluster.shared.clone();
    cluster.on_append(move |_, n| {
        (n == 2).then(|| shared.state.lock().unwrap().logs.remove("l"));
        (n == 1).then_some(Fault::CutBefore { late: None })
    });
    let options = AppendOptions { producer: Some((ProducerId::random(), 0)), ..none() };
    let error = cluster.client().append_with("l", ["a"], &options).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::LogNotFound, Effect::Unknown));
}

#[tokio::test]
async fn conditions_come_back_typed() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let at = |offset| AppendOptions { expected_offset: Some(offset), ..none() };
    client.append_with("l", ["a"], &at(0)).await.unwrap();
    let error = client.append_with("l", ["b"], &at(0)).await.unwrap_err();
    assert_eq!((error.kind(), error.next_offset()), (ErrorKind::OffsetMismatch, Some(1)));
    assert!(error.stamp().is_some());
    let fenced = client.fence("l", None, None).await.unwrap();
    let error = client.append_with("l", ["b"], &none()).await.unwrap_err();
    assert_eq!((error.kind(), error.writer_epoch()), (ErrorKind::Fenced, Some(1)));
    let options = AppendOptions { writer_epoch: Some(fenced.writer_epoch), ..none() };
    client.append_with("l", ["b"], &options).await.unwrap();
    let error = client.append_with("nope", ["b"], &none()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LogNotFound);
}

#[tokio::test]
async fn calls_that_may_run_twice_do_and_the_others_do_not() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    cluster.on_append(|_, n| (n % 2 == 1).then_some(Fault::CutAfter));
    assert!(!client.create_log("new", true).await.unwrap().created, "the first attempt did it");
    cluster.fill(5, 1);
    assert_eq!(client.trim_log("l", 3, None).await.unwrap().start_offset, 3);
    assert_eq!(cluster.appends(), 4);
    cluster.on_append(|_, _| Some(Fault::CutAfter));
    let error = client.create_log("newer", false).await.unwrap_err();
    assert_eq!((error.effect(), cluster.appends()), (Effect::Unknown, 5));
    let error = client.delete_log("new", None).await.unwrap_err();
    assert_eq!((error.effect(), cluster.appends()), (Effect::Unknown, 6));
}

#[tokio::test]
async fn several_logs_at_once() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.create_log("m", false).await.unwrap();
    let part = |log: &str, values: &[&'static str]| AppendPart {
        log: log.to_owned(),
        batch: Batch::of(values.iter().copied()).unwrap(),
        options: none(),
    };
    let parts = vec![part("l", &["a"]), part("m", &["b", "c"])];
    let appended = client.append_multi(parts).await.unwrap();
    assert_eq!(appended.iter().map(|a| a.next_offset).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(client.append_multi(vec![]).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_pinned_client_takes_the_answer_of_its_node() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let pinned = client.pinned_to(&cluster.endpoint(1));
    let error = pinned.append_with("l", ["a"], &none()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotLeader);
    assert_eq!(error.leader().unwrap().node_id, 1);
    assert_eq!(error.endpoint(), Some(cluster.endpoint(1).as_str()));
    let (_, header) = pinned.describe_log("l", &Consistency::eventual()).await.unwrap();
    assert_eq!(header.served_by, 2);
    assert_eq!(cluster.shared.control().calls, [0, 2, 0]);
}

#[tokio::test]
async fn a_dead_node_costs_a_read_a_detour() {
    let cluster = Cluster::start().await;
    cluster.shared.control().down = vec![true, true, false];
    for _ in 0..3 {
        let eventual = Consistency::eventual();
        let (_, header) = cluster.client().describe_log("l", &eventual).await.unwrap();
        assert_eq!(header.served_by, 3);
    }
}

/// So long that a test which pauses once is over before the pause is.
fn patient() -> RetryPolicy {
    let pause = Duration::from_secs(3600);
    RetryPolicy { initial_backoff: pause, max_backoff: pause }
}

#[tokio::test]
async fn a_new_leader_is_followed_without_a_pause() {
    let cluster = Cluster::start().await;
    // Three elections in a row, each of which the client hears of from who was deposed.
    cluster.on_append(|_, n| (n % 4 != 0).then_some(Fault::Moved));
    let client = cluster.builder().retry(patient()).build().unwrap();
    client.append_with("l", ["a"], &none()).await.unwrap();
    let producer = client.producer("l").open().await.unwrap();
    producer.append(["b"]).await.unwrap().await.unwrap();
    assert_eq!((cluster.appends(), cluster.values()), (8, vec!["a".to_owned(), "b".to_owned()]));
}
