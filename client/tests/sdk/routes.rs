//! Where reads go: routes, replicas that are left out and come back, second tries.

use std::time::Duration;

use quorate_client::{Client, Consistency, ErrorKind, Hedging, OnUnmet, Route};
use tokio::time::{Instant, sleep};

use crate::replicas::{Replicas, endpoint};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

async fn look(client: &Client) -> u64 {
    let eventual = Consistency::eventual();
    client.describe_log("l", &eventual).await.unwrap().1.served_by
}

async fn served_by(client: &Client, reads: usize) -> [usize; 3] {
    let mut served = [0; 3];
    for _ in 0..reads {
        served[look(client).await as usize] += 1;
    }
    served
}

#[tokio::test(start_paused = true)]
async fn the_default_asks_all_in_turn_and_the_leader_for_the_newest() {
    let replicas = Replicas::new();
    let client = replicas.client();
    assert_eq!(served_by(&client, 9).await, [3, 3, 3]);
    let newest = Consistency::linearizable();
    for _ in 0..3 {
        let (_, header) = client.describe_log("l", &newest).await.unwrap();
        assert_eq!(header.served_by, 0);
    }
    let leader = client.with_route(Route::Leader);
    assert_eq!(served_by(&leader, 3).await, [3, 0, 0]);
    // Any replica can serve it.
    let spread = client.with_route(Route::Spread);
    let mut served = [0; 3];
    for _ in 0..3 {
        served[spread.describe_log("l", &newest).await.unwrap().1.served_by as usize] += 1;
    }
    assert_eq!(served, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_nearest_is_found_by_measuring_and_followed_when_it_changes() {
    let replicas = Replicas::new();
    for (n, delay) in [40, 2, 30].into_iter().enumerate() {
        replicas.set(n, |replica| replica.delay = ms(delay));
    }
    let client = replicas.client().with_route(Route::Nearest);
    look(&client).await;
    sleep(ms(100)).await;
    replicas.reads();
    assert_eq!(served_by(&client, 20).await, [0, 20, 0]);
    assert_eq!(replicas.reads(), [0, 20, 0], "nobody else is bothered");
    // Its way gets longer: its own reads tell, and probes tell of the others.
    replicas.set(1, |replica| replica.delay = ms(60));
    served_by(&client, 10).await;
    assert_eq!(served_by(&client, 10).await, [0, 0, 10]);
    replicas.set(0, |replica| replica.delay = ms(1));
    for _ in 0..5 {
        sleep(Duration::from_secs(11)).await;
        look(&client).await;
        sleep(ms(100)).await;
    }
    assert_eq!(served_by(&client, 10).await, [10, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_least_loaded_has_the_fewest_unanswered() {
    let replicas = Replicas::new();
    (0..3).for_each(|n| replicas.set(n, |replica| replica.delay = ms(10)));
    replicas.set(2, |replica| replica.delay = ms(40));
    let client = replicas.client().with_route(Route::LeastLoaded);
    let reads = futures::future::join_all((0..30).map(|_| look(&client)));
    let watch = async {
        sleep(ms(5)).await;
        assert_eq!(replicas.unanswered(), [10, 10, 10]);
        sleep(ms(15)).await;
        let eventual = Consistency::eventual();
        let (_, header) = client.describe_log("l", &eventual).await.unwrap();
        assert_ne!(header.served_by, 2, "it has not answered yet");
    };
    tokio::join!(reads, watch);
    // A tail is load, too, as long as it lasts.
    let client = replicas.client().with_route(Route::LeastLoaded);
    let tailer = client.tail("l").consistency(Consistency::eventual()).open().await.unwrap();
    let home = (0..3).find(|n| *tailer.endpoint() == endpoint(*n)).unwrap();
    assert_eq!(served_by(&client, 10).await[home], 0);
    drop(tailer);
    assert_ne!(served_by(&client, 10).await[home], 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_pinned_to_a_replica_for_every_client() {
    let replicas = Replicas::new();
    let home = |key: &str| {
        let client = replicas.client().with_route(Route::pinned_by(key));
        async move { look(&client).await }
    };
    let mut homes = [0; 3];
    for n in 0..30 {
        let key = format!("user-{n}");
        let first = home(&key).await;
        assert_eq!(home(&key).await, first);
        homes[first as usize] += 1;
    }
    assert!(homes.iter().all(|keys| *keys > 3), "{homes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_replica_costs_one_detour_and_comes_back_by_a_probe() {
    let replicas = Replicas::new();
    let client = replicas.client();
    replicas.set(1, |replica| replica.down = true);
    let served = served_by(&client, 30).await;
    assert_eq!(served[1], 0);
    // One read found out, a few probes looked whether it is back; no other read met it.
    let met = replicas.reads()[1];
    assert!(met <= 2, "{met}");
    for _ in 0..100 {
        sleep(ms(100)).await;
        look(&client).await;
    }
    let met = replicas.reads()[1];
    assert!((2..=8).contains(&met), "probes back off: {met} in ten seconds");
    replicas.set(1, |replica| replica.down = false);
    assert_eq!(served_by(&client, 3).await[1], 0, "time alone brings nobody back");
    let down = Instant::now();
    while served_by(&client, 3).await[1] == 0 {
        sleep(ms(100)).await;
        assert!(down.elapsed() < Duration::from_secs(16), "a probe finds it");
    }
    // And it is like the others again.
    assert_eq!(served_by(&client, 9).await, [3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_replica_is_left_out() {
    let replicas = Replicas::new();
    let client = replicas.client();
    replicas.set(2, |replica| replica.mute = true);
    let began = Instant::now();
    assert_eq!(served_by(&client, 30).await[2], 0);
    assert!(began.elapsed() < Duration::from_secs(4), "one timeout, not ten");
    // But not because a caller had no time.
    let replicas = Replicas::new();
    (0..3).for_each(|n| replicas.set(n, |replica| replica.delay = ms(50)));
    let client = replicas.client();
    let hasty = client.with_timeout(ms(10));
    for _ in 0..3 {
        let error = hasty.describe_log("l", &Consistency::eventual()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
    }
    assert_eq!(served_by(&client, 9).await, [3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_stale_replica_is_left_out_of_reads_that_ask_as_much() {
    let replicas = Replicas::new();
    let client = replicas.client();
    replicas.set(0, |replica| replica.age = ms(300));
    let bounded = |bound| Consistency::bounded(ms(bound)).on_unmet(OnUnmet::Redirect);
    let served = async |bound| {
        let mut served = [0; 3];
        for _ in 0..12 {
            let (_, header) = client.describe_log("l", &bounded(bound)).await.unwrap();
            served[header.served_by as usize] += 1;
        }
        served
    };
    let strict = served(100).await;
    assert_eq!(strict[0], 0);
    assert_eq!(replicas.reads()[0], 1, "it was asked once");
    assert_eq!(served(1000).await, [4, 4, 4], "it is good enough for these");
    assert_eq!(served_by(&client, 12).await, [4, 4, 4]);
    // The probe asks for what was missing, so it stays out until it can give that.
    replicas.reads();
    for _ in 0..20 {
        sleep(ms(100)).await;
        assert_eq!(served(100).await[0], 0);
    }
    let met = replicas.reads()[0];
    assert!(met <= 5, "only probes went there: {met} in two seconds");
    replicas.set(0, |replica| replica.age = Duration::ZERO);
    for _ in 0..20 {
        sleep(Duration::from_secs(1)).await;
        served(100).await;
    }
    assert_eq!(served(100).await, [4, 4, 4]);
    // Who wants to be told is told, and nobody is asked in his place.
    replicas.set(0, |replica| replica.age = ms(300));
    let told = client.pinned_to(&endpoint(0));
    let error = told.describe_log("l", &bounded(100)).await.unwrap_err();
    assert_eq!((error.kind(), error.age()), (ErrorKind::TooStale, Some(ms(300))));
}

#[tokio::test(start_paused = true)]
async fn when_nobody_is_well_somebody_is_asked_all_the_same() {
    let replicas = Replicas::new();
    let client = replicas.client();
    (0..3).for_each(|n| replicas.set(n, |replica| replica.down = true));
    let error = client
        .with_timeout(Duration::from_secs(2))
        .describe_log("l", &Consistency::eventual())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(replicas.reads().iter().all(|reads| *reads > 0), "all were tried");
    (0..3).for_each(|n| replicas.set(n, |replica| replica.down = false));
    look(&client).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_try_is_made_only_where_asked_for() {
    let replicas = Replicas::new();
    (0..3).for_each(|n| replicas.set(n, |replica| replica.delay = ms(200)));
    served_by(&replicas.client(), 9).await;
    assert_eq!(replicas.reads().iter().sum::<u64>(), 9, "off by default");

    let hedging = Hedging::after(ms(20)).at_most_percent(100);
    let client = replicas.builder().hedging(hedging).route(Route::Leader).build().unwrap();
    replicas.set(1, |replica| replica.delay = ms(10));
    replicas.set(2, |replica| replica.delay = ms(10));
    let began = Instant::now();
    assert_ne!(look(&client).await, 0, "the other one was quicker");
    assert_eq!(began.elapsed(), ms(30));
    assert_eq!(replicas.unanswered(), [0; 3], "the slow one is called off");
    assert_eq!(replicas.reads().iter().sum::<u64>(), 2);
    // Streams, too.
    let began = Instant::now();
    let reader = client.read("l").consistency(Consistency::eventual()).open().await.unwrap();
    assert_ne!(reader.header().served_by, 0);
    assert_eq!(began.elapsed(), ms(30));
    // Quick reads are not doubled.
    replicas.set(0, |replica| replica.delay = ms(19));
    replicas.reads();
    assert_eq!(served_by(&client, 5).await, [5, 0, 0]);
    assert_eq!(replicas.reads(), [5, 0, 0]);
    // A first try that fails leaves the answer to the second.
    replicas.set(0, |replica| replica.mute = true);
    replicas.set(1, |replica| replica.delay = ms(100));
    replicas.set(2, |replica| replica.delay = ms(100));
    let began = Instant::now();
    assert_ne!(look(&client).await, 0);
    assert_eq!(began.elapsed(), ms(120));
    // A pinned caller wants this node's answer.
    let pinned = client.pinned_to(&endpoint(0)).with_timeout(ms(500));
    replicas.reads();
    pinned.describe_log("l", &Consistency::eventual()).await.unwrap_err();
    assert_eq!(replicas.reads(), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn second_tries_keep_to_their_budget() {
    let replicas = Replicas::new();
    (0..3).for_each(|n| replicas.set(n, |replica| replica.delay = ms(50)));
    let client = replicas.builder().hedging(Hedging::after(ms(10))).build().unwrap();
    served_by(&client, 200).await;
    assert_eq!(replicas.reads().iter().sum::<u64>(), 210, "5 of 100");
}
