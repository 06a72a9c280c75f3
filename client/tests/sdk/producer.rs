//! Producers: every record once and in order, whatever happens to their streams.

use std::time::Duration;

use futures::{StreamExt, stream::FuturesUnordered};
use quorate_client::{Batch, Effect, ErrorKind, Producer, ProducerId};
use quorate_proto::v1 as wire;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::cluster::{Cluster, Fault};

fn numbered(n: u64) -> Vec<String> {
    (0..n).map(|n| n.to_string()).collect()
}

/// Faults of every kind at random places, late deliveries included.
fn random_faults(seed: u64) -> impl FnMut(usize, u64) -> Option<Fault> + Send {
    let mut dice = StdRng::seed_from_u64(seed);
    move |_, n| {
        if !dice.random_bool(0.15) {
            return None;
        }
        Some(match dice.random_range(0..7) {
            0 => Fault::CutBefore { late: None },
            1 | 2 => Fault::CutBefore { late: Some(n + dice.random_range(1..30)) },
            3 => Fault::CutAfter,
            4 => Fault::Busy,
            5 => Fault::Moved,
            _ => Fault::Deposed { applied: dice.random() },
        })
    }
}

#[tokio::test]
async fn exactly_once_and_in_order_under_random_faults() {
    let mut duplicates = 0;
    for seed in 0..40 {
        let cluster = Cluster::start().await;
        cluster.on_append(random_faults(seed));
        let producer = cluster.client().producer("l").target_batch_bytes(30).open().await.unwrap();
        let mut tickets = Vec::new();
        for n in 0..500_u64 {
            tickets.push(producer.append([n.to_string()]).await.unwrap());
        }
        producer.flush().await.unwrap();
        for (n, ticket) in (0..).zip(tickets) {
            let appended = ticket.await.unwrap();
            assert_eq!((appended.first_offset, appended.next_offset), (n, n + 1), "seed {seed}");
        }
        assert_eq!(cluster.values(), numbered(500), "seed {seed}");
        duplicates += cluster.shared.state().duplicates;
    }
    assert!(duplicates > 100, "the faults must have made repetitions: {duplicates}");
}

#[tokio::test]
async fn many_callers_share_one_stream() {
    let cluster = Cluster::start().await;
    cluster.on_append(random_faults(7));
    let client = cluster.client();
    let mut calls: FuturesUnordered<_> = (0..400)
        .map(|n| {
            let client = client.clone();
            async move { (n, client.append("l", [format!("{n}.a"), format!("{n}.b")]).await) }
        })
        .collect();
    let mut expected = vec![String::new(); 800];
    while let Some((n, appended)) = calls.next().await {
        let appended = appended.unwrap();
        assert_eq!(appended.next_offset, appended.first_offset + 2);
        let at = appended.first_offset as usize;
        (expected[at], expected[at + 1]) = (format!("{n}.a"), format!("{n}.b"));
    }
    assert_eq!(cluster.values(), expected);
    let batches = cluster.shared.state().logs["l"].batches.len();
    assert!(batches < 100, "400 callers are packed, not sent one by one: {batches} batches");
}

/// Callers that append again and again, and don't all come back in the same turn.
#[tokio::test]
async fn a_crowd_that_was_answered_together_is_packed_together_again() {
    const CALLERS: usize = 12;
    const ROUNDS: usize = 50;
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let calls = (0..CALLERS).map(|n| {
        let client = client.clone();
        async move {
            for round in 0..ROUNDS {
                client.append("l", [format!("{n} {round}")]).await.unwrap();
                for _ in 0..n % 3 {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    // A task each, which one thread gives its turns to.
    let tasks: Vec<_> = calls.map(tokio::spawn).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(cluster.values().len(), CALLERS * ROUNDS);
    let batches = cluster.shared.state().logs["l"].batches.len();
    assert!(batches < 2 * ROUNDS, "{ROUNDS} crowds went out in {batches} batches");
}

#[tokio::test]
async fn bytes_and_batches_in_flight_are_bounded() {
    let cluster = Cluster::start().await;
    let hold = |hold: bool| {
        cluster.shared.control().hold.send_replace(hold);
    };
    hold(true);
    let producer = cluster.client().producer("l").max_bytes_in_flight(64 * 1024);
    let producer = producer.max_batches_in_flight(8).target_batch_bytes(4000).open().await.unwrap();
    let pump = {
        let producer = producer.clone();
        async move {
            let mut tickets = Vec::new();
            for _ in 0..300 {
                tickets.push(producer.append([vec![7_u8; 1000]]).await.unwrap());
            }
            tickets
        }
    };
    let mut pump = tokio::spawn(pump);
    cluster.until("eight batches", |s| s.control().most_unanswered.1 == 8).await;
    let blocked = tokio::time::timeout(Duration::from_millis(50), &mut pump).await;
    assert!(blocked.is_err(), "300 KB can't be admitted under a bound of 64 KB");
    hold(false);
    for ticket in pump.await.unwrap() {
        ticket.await.unwrap();
    }
    let (bytes, batches) = cluster.shared.control().most_unanswered;
    assert!(bytes <= 64 * 1024 && batches <= 8, "{bytes} bytes, {batches} batches");
    assert_eq!(cluster.shared.state().logs["l"].next, 300);
}

#[tokio::test]
async fn a_final_refusal_fails_this_and_everything_behind() {
    let cluster = Cluster::start().await;
    let shared = cluster.shared.clone();
    cluster.on_append(move |_, n| {
        (n == 3).then(|| shared.state.lock().unwrap().logs.get_mut("l").unwrap().epoch = Some(9));
        None
    });
    let producer = cluster.client().producer("l").open().await.unwrap();
    let mut tickets = Vec::new();
    for n in 0..20_u64 {
        let batch = Batch::of([n.to_string()]).unwrap();
        match producer.append_batch(batch).await {
            Ok(ticket) => tickets.push(ticket),
            // It may have failed before all were admitted.
            Err(error) => {
                assert_eq!((error.kind(), error.effect()), (ErrorKind::Fenced, Effect::None))
            }
        }
    }
    for (n, ticket) in tickets.into_iter().enumerate() {
        match ticket.await {
            Ok(_) => assert!(n < 2),
            Err(error) => {
                assert!(n >= 2);
                assert_eq!((error.kind(), error.effect()), (ErrorKind::Fenced, Effect::None));
                assert_eq!(error.stamp().is_some(), n == 2, "only the first was judged");
            }
        }
    }
    assert_eq!(producer.failure().unwrap().kind(), ErrorKind::Fenced);
    assert_eq!(producer.flush().await.unwrap_err().kind(), ErrorKind::Fenced);
    let error = producer.append(["late"]).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Fenced, Effect::None));
    assert_eq!(cluster.values(), numbered(2));
}

/// The same again would only end the next stream, too.
#[tokio::test]
async fn what_a_node_cannot_read_is_not_sent_again() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let cluster = Cluster::start().await;
    cluster.on_append(|_, n| (n > 2).then_some(Fault::CannotRead));
    let producer = cluster.client().producer("l").open().await.unwrap();
    cluster.shared.control().hold.send_replace(true);
    let mut tickets = Vec::new();
    for n in 0..4_u64 {
        let batch = Batch::of([n.to_string()]).unwrap();
        tickets.push(producer.append_batch(batch).await.unwrap());
    }
    cluster.until("four batches", |s| s.control().most_unanswered.1 == 4).await;
    cluster.shared.control().hold.send_replace(false);
    for (n, ticket) in tickets.into_iter().enumerate() {
        let answer =
            tokio::time::timeout(PATIENCE, ticket).await.expect("long before the deadline");
        match answer {
            Ok(appended) => assert_eq!((appended.first_offset, n < 2), (n as u64, true)),
            Err(error) => {
                assert!(n >= 2, "{error:?}");
                let said = (error.kind(), error.is_retryable(), error.effect());
                assert_eq!(said, (ErrorKind::Invalid, false, Effect::None), "batch {n}");
                assert_eq!(error.message().contains("earlier append"), n == 3, "{error:?}");
            }
        }
    }
    assert_eq!(producer.failure().unwrap().kind(), ErrorKind::Invalid);
    assert_eq!((cluster.appends(), cluster.values()), (3, numbered(2)));
}

/// The node's last word is about this stream; what was lost with another one may be in the log.
#[tokio::test]
async fn what_a_node_cannot_read_may_have_arrived_before() {
    let cluster = Cluster::start().await;
    cluster.on_append(|_, n| match n {
        1 => Some(Fault::CutBefore { late: None }),
        _ => Some(Fault::CannotRead),
    });
    let producer = cluster.client().producer("l").open().await.unwrap();
    let error = producer.append(["a"]).await.unwrap().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Invalid, Effect::Unknown));
    assert_eq!(cluster.appends(), 2);
}

#[tokio::test]
async fn the_delivery_timeout_poisons_and_says_unknown() {
    let cluster = Cluster::start().await;
    cluster.on_append(|_, n| (n > 1).then_some(Fault::Mute));
    let timeout = Some(Duration::from_millis(200));
    let producer = cluster.client().producer("l").delivery_timeout(timeout).open().await.unwrap();
    producer.append(["a"]).await.unwrap().await.unwrap();
    let lost = producer.append(["b"]).await.unwrap().await.unwrap_err();
    assert_eq!((lost.kind(), lost.effect()), (ErrorKind::Deadline, Effect::Unknown));
    let after = producer.append(["c"]).await.unwrap_err();
    assert_eq!((after.kind(), after.effect()), (ErrorKind::Deadline, Effect::None));
}

#[tokio::test]
async fn a_silent_leader_is_left_for_another() {
    let cluster = Cluster::start().await;
    cluster.on_append(|_, n| (n == 1).then_some(Fault::Mute));
    let producer = cluster.client().producer("l").open().await.unwrap();
    let ticket = producer.append(["a"]).await.unwrap();
    cluster.until("it was applied", |s| s.state().judged == 1).await;
    cluster.shared.control().leader = Some(1);
    let appended = ticket.await.unwrap();
    assert!(appended.deduplicated);
    assert_eq!(cluster.values(), ["a"]);
}

#[tokio::test]
async fn a_rerun_with_the_same_batches_repeats_nothing() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let id = ProducerId::random();
    let batch = |n: u64| Batch::of([format!("{}", 2 * n), format!("{}", 2 * n + 1)]).unwrap();
    let first = Producer::resume(&client, "l", id, 0).await.unwrap();
    for n in 0..20 {
        first.append_batch(batch(n)).await.unwrap().await.unwrap();
    }
    assert_eq!(first.next_sequence(), 20);
    drop(first);
    // From the beginning, within what the log remembers.
    let second = Producer::resume(&client, "l", id, 0).await.unwrap();
    for n in 0..100 {
        let appended = second.append_batch(batch(n)).await.unwrap().await.unwrap();
        assert_eq!(appended.deduplicated, n < 20);
        assert_eq!(appended.first_offset, 2 * n);
    }
    second.close().await.unwrap();
    // Beyond it: stale, which says how far the log is, and fails nothing.
    let third = Producer::resume(&client, "l", id, 0).await.unwrap();
    let stale = third.append_batch(batch(0)).await.unwrap().await.unwrap_err();
    assert_eq!((stale.kind(), stale.effect()), (ErrorKind::SequenceStale, Effect::Applied));
    assert_eq!(stale.next_sequence(), Some(100));
    let stale = third.append_batch(batch(1)).await.unwrap().await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::SequenceStale);
    assert!(third.failure().is_none());
    // Skipping ahead.
    let fourth = Producer::resume(&client, "l", id, 99).await.unwrap();
    assert!(fourth.append_batch(batch(99)).await.unwrap().await.unwrap().deduplicated);
    assert!(!fourth.append_batch(batch(100)).await.unwrap().await.unwrap().deduplicated);
    assert_eq!(cluster.values(), numbered(202));
    // Another input under the same id is noticed.
    let other = Producer::resume(&client, "l", id, 100).await.unwrap();
    let reused = other.append_batch(batch(7)).await.unwrap().await.unwrap_err();
    assert_eq!(reused.kind(), ErrorKind::SequenceReused);
    // A number from nowhere, too.
    let ahead = Producer::resume(&client, "l", id, 500).await.unwrap();
    let gap = ahead.append_batch(batch(7)).await.unwrap().await.unwrap_err();
    assert_eq!((gap.kind(), gap.next_sequence()), (ErrorKind::SequenceGap, Some(101)));
}

#[tokio::test]
async fn dropped_tickets_and_a_dropped_producer_still_deliver() {
    let cluster = Cluster::start().await;
    let producer = cluster.client().producer("l").open().await.unwrap();
    for n in 0..50_u64 {
        drop(producer.append([n.to_string()]).await.unwrap());
    }
    drop(producer);
    cluster.until("all of it", |s| s.state().logs["l"].next == 50).await;
    assert_eq!(cluster.values(), numbered(50));
}

#[tokio::test]
async fn close_delivers_and_ends() {
    let cluster = Cluster::start().await;
    let producer = cluster.client().producer("l").open().await.unwrap();
    let ticket = producer.append(["a"]).await.unwrap();
    producer.close().await.unwrap();
    ticket.await.unwrap();
    let error = producer.append(["b"]).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::ShuttingDown, Effect::None));
    producer.close().await.unwrap();
}

#[tokio::test]
async fn whoever_closes_waits_for_the_delivery() {
    let cluster = Cluster::start().await;
    cluster.shared.control().hold.send_replace(true);
    let producer = cluster.client().producer("l").open().await.unwrap();
    let ticket = producer.append(["a"]).await.unwrap();
    cluster.until("it was sent", |s| s.control().most_unanswered.1 == 1).await;
    let closing = |producer: Producer| tokio::spawn(async move { producer.close().await });
    let mut closes = [closing(producer.clone()), closing(producer.clone())];
    for close in &mut closes {
        let early = tokio::time::timeout(Duration::from_millis(50), close).await;
        assert!(early.is_err(), "nothing is delivered yet");
    }
    // Comes when nothing is taken any more, and waits all the same.
    let mut flush = tokio::spawn(async move { producer.flush().await });
    let early = tokio::time::timeout(Duration::from_millis(50), &mut flush).await;
    assert!(early.is_err(), "nothing is delivered yet");
    cluster.shared.control().hold.send_replace(false);
    for close in closes {
        close.await.unwrap().unwrap();
    }
    flush.await.unwrap().unwrap();
    ticket.await.unwrap();
}

#[tokio::test]
async fn a_forgotten_producer_goes_on_under_another_id() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let id = ProducerId::random();
    let resumed = Producer::resume(&client, "l", id, 0).await.unwrap();
    let producer = client.producer("l").target_batch_bytes(1).open().await.unwrap();
    resumed.append(["0"]).await.unwrap().await.unwrap();
    producer.append(["1"]).await.unwrap().await.unwrap();
    let forget = || cluster.shared.state().logs.get_mut("l").unwrap().producers.clear();
    forget();
    let mut tickets = Vec::new();
    for n in 2..20_u64 {
        tickets.push(producer.append([n.to_string()]).await.unwrap());
    }
    for (n, ticket) in (2..).zip(tickets) {
        assert_eq!(ticket.await.unwrap().first_offset, n);
    }
    assert_eq!(cluster.values(), numbered(20));
    // Who brought his own id decides himself.
    let error = resumed.append(["no"]).await.unwrap().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::ProducerUnknown, Effect::None));
    // What may be in the log already is not sent under another id.
    let (shared, mut forgot) = (cluster.shared.clone(), false);
    cluster.on_append(move |_, _| {
        shared.state().logs.get_mut("l").unwrap().producers.clear();
        (!std::mem::replace(&mut forgot, true)).then_some(Fault::CutBefore { late: None })
    });
    let error = producer.append(["doubt"]).await.unwrap().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::ProducerUnknown, Effect::Unknown));
}

#[tokio::test]
async fn one_callers_refusal_is_not_the_others() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.append("l", ["0"]).await.unwrap();
    cluster.on_append(|_, n| (n == 3).then_some(Fault::Refused(wire::ErrorKind::Invalid)));
    {
        let mut control = cluster.shared.control();
        control.most_unanswered = (0, 0);
        control.hold.send_replace(true);
    }
    let mut calls = Vec::new();
    for n in 1..=4_usize {
        let client = client.clone();
        calls.push(tokio::spawn(async move { client.append("l", [n.to_string()]).await }));
        cluster.until("one more batch", |s| s.control().most_unanswered.1 == n).await;
    }
    cluster.shared.control().hold.send_replace(false);
    for (n, call) in (1..).zip(calls) {
        let appended = call.await.unwrap();
        match n {
            2 => assert_eq!(appended.unwrap_err().kind(), ErrorKind::Invalid),
            _ => drop(appended.unwrap()),
        }
    }
    let mut values = cluster.values();
    values.sort();
    assert_eq!(values, ["0", "1", "3", "4"]);
}

#[tokio::test]
async fn a_new_log_under_the_old_name() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let bound = client.producer("l").open().await.unwrap();
    client.append("l", ["a"]).await.unwrap();
    cluster.shared.state().create("l");
    // Whoever binds to the log is told; whoever only names it goes on.
    let error = bound.append(["b"]).await.unwrap().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::LogRecreated, Effect::None));
    let appended = client.append("l", ["c"]).await.unwrap();
    assert_eq!((appended.first_offset, appended.incarnation), (0, 2));
    assert_eq!(cluster.values(), ["c"]);
}

#[tokio::test]
async fn the_shared_producer_recovers_from_its_failures() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let error = client.append("nope", ["a"]).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::LogNotFound, Effect::None));
    client.create_log("nope", false).await.unwrap();
    client.append("nope", ["a"]).await.unwrap();
    cluster.on_append(|_, _| Some(Fault::Refused(wire::ErrorKind::TooManyProducers)));
    let error = client.append("l", ["a"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyProducers);
    cluster.on_append(|_, _| None);
    client.append("l", ["a"]).await.unwrap();
    assert_eq!(cluster.values(), ["a"]);
    // A caller's own deadline fails nobody else.
    cluster.shared.control().hold.send_replace(true);
    let hasty = client.with_timeout(Duration::from_millis(50));
    let error = hasty.append("l", ["b"]).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Deadline, Effect::Unknown));
    cluster.shared.control().hold.send_replace(false);
    client.append("l", ["c"]).await.unwrap();
    assert_eq!(cluster.values(), ["a", "b", "c"]);
}
