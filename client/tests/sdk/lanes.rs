//! Small reads that share a stream: as good as calls of their own, whatever happens to the stream.

use std::time::Duration;

use futures::future::join_all;
use quorate_client::{Client, Consistency, Effect, ErrorKind};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    cluster::{Cluster, ReadFault},
    service::lane::Lane,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Reads record `n`.
async fn point(client: &Client, n: u64) {
    let read = client.read("l").from_offset(n).to_offset(n + 1).timeout(PATIENCE);
    let records = read.open().await.unwrap().collect().await.unwrap();
    assert_eq!(records.len(), 1, "at {n}");
    assert_eq!((records[0].offset, &*records[0].record.value), (n, n.to_string().as_bytes()));
}

async fn cluster() -> (Cluster, Client) {
    let cluster = Cluster::start().await;
    cluster.fill(300, 7);
    let client = cluster.client();
    // It has learned who leads.
    client.describe_log("l", &Consistency::linearizable()).await.unwrap();
    (cluster, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_travel_together_and_get_their_own_answers() {
    let (cluster, client) = cluster().await;
    let callers = (0..50).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                point(&client, (caller * 17 + n * 31) % 300).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let control = cluster.shared.control();
    assert_eq!(control.lanes, 1, "one stream to the node that leads");
    assert_eq!(control.packed.iter().sum::<usize>(), 1000);
    assert!(control.packed.len() < 500, "{} requests", control.packed.len());
}

#[tokio::test]
async fn what_is_not_small_or_not_to_be_shared_makes_calls() {
    let (cluster, client) = cluster().await;
    let all = client.read("l").open().await.unwrap().collect().await.unwrap();
    assert_eq!(all.len(), 300);
    point(&cluster.builder().share_reads(false).build().unwrap(), 3).await;
    assert_eq!(cluster.shared.control().lanes, 0);
    point(&client, 3).await;
    assert_eq!(cluster.shared.control().lanes, 1);
}

#[tokio::test]
async fn a_node_without_lanes_is_asked_once() {
    let (cluster, client) = cluster().await;
    cluster.shared.control().lane = Lane::Missing;
    join_all((0..20).map(|n| point(&client, n))).await;
    for n in 0..20 {
        point(&client, n).await;
    }
    assert_eq!(cluster.shared.control().lanes, 1);
}

#[tokio::test]
async fn a_node_may_send_a_read_off_to_a_call() {
    let (cluster, client) = cluster().await;
    cluster.shared.control().lane = Lane::SendsOff;
    join_all((0..20).map(|n| point(&client, n))).await;
    let control = cluster.shared.control();
    assert_eq!((control.lanes, control.packed.iter().sum::<usize>()), (1, 20));
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again() {
    let (cluster, client) = cluster().await;
    cluster.shared.control().lane = Lane::Ends;
    let pinned = client.pinned_to(&cluster.endpoint(0));
    let refused = pinned.read("l").last(1).open().await.err().unwrap();
    assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Unavailable, Effect::None));
    assert!(refused.is_retryable() && refused.endpoint().is_some(), "{refused}");
    let shared = cluster.shared.clone();
    let better = async {
        while shared.control().lanes < 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        shared.control().lane = Lane::Serves;
    };
    tokio::join!(join_all((0..20).map(|n| point(&client, n))), better);
}

/// Nobody can say which read of a request was too much, and the others are not to suffer.
#[tokio::test]
async fn what_a_node_cannot_read_is_asked_by_calls() {
    let (cluster, client) = cluster().await;
    cluster.shared.control().lane = Lane::CannotRead(7);
    join_all((0..20).map(|n| point(&client, n))).await;
    let lanes = cluster.shared.control().lanes;
    assert!((1..=20).contains(&lanes), "each read was on a stream once, at most: {lanes} streams");
    // Without it, a stream lasts.
    for n in 8..20 {
        point(&client, n).await;
    }
    let control = cluster.shared.control();
    assert!(control.lanes <= lanes + 1, "{} streams after {lanes}", control.lanes);
}

#[tokio::test]
async fn a_node_that_is_silent_costs_no_more_than_the_deadline() {
    let (cluster, client) = cluster().await;
    cluster.shared.control().lane = Lane::Mute;
    let pinned = client.pinned_to(&cluster.endpoint(0));
    let read = || pinned.read("l").last(1);
    let late = read().timeout(Duration::from_millis(50)).open().await.err().unwrap();
    assert_eq!((late.kind(), late.effect()), (ErrorKind::Deadline, Effect::None));
    // Those that were given up are in nobody's way.
    cluster.shared.control().lane = Lane::Serves;
    assert_eq!(read().timeout(PATIENCE).open().await.unwrap().collect().await.unwrap().len(), 1);
}

#[tokio::test]
async fn refusals_are_as_a_call_has_them() {
    let (cluster, client) = cluster().await;
    let error = client.read("l").from_offset(301).to_offset(302).open().await.err().unwrap();
    assert_eq!((error.kind(), error.next_offset()), (ErrorKind::OutOfRange, Some(300)));
    assert!(error.endpoint().is_some());
    let error = client.read("nobody").last(1).open().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::LogNotFound);
    assert_eq!(cluster.shared.control().packed.len(), 2);
}

#[tokio::test]
async fn random_faults_lose_and_repeat_nothing() {
    use ReadFault::{Cut, Damage, End, Repeat, Skip};
    const FAULTS: [ReadFault; 5] = [Cut, End, Damage, Repeat, Skip];
    let (cluster, client) = cluster().await;
    let mut dice = StdRng::seed_from_u64(7);
    cluster.on_read(move |_, _| {
        dice.random_bool(0.1).then(|| FAULTS[dice.random_range(0..FAULTS.len())])
    });
    join_all((0..20).map(|reader| {
        let client = &client;
        async move {
            for n in 0..10 {
                let (from, count) = (reader * 13 + n, 1 + (reader * 3 + n) % 40);
                let read = client.read("l").from_offset(from).max_records(count);
                let read = read.timeout(PATIENCE).open().await.unwrap().collect().await.unwrap();
                let offsets: Vec<u64> = read.iter().map(|r| r.offset).collect();
                assert_eq!(offsets, (from..from + count).collect::<Vec<_>>());
                read.iter().for_each(|r| assert_eq!(r.record.value, r.offset.to_string()));
            }
        }
    }))
    .await;
}
