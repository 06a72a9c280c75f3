//! Reads and tails: everything once, in order, whatever happens to their streams.

use std::time::Duration;

use quorate_client::{ErrorKind, ReadRecord, TailEvent, Tailer};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::cluster::{Cluster, ReadFault};

fn check(records: &[ReadRecord], offsets: std::ops::Range<u64>) {
    let read: Vec<u64> = records.iter().map(|r| r.offset).collect();
    assert_eq!(read, offsets.collect::<Vec<_>>());
    for record in records {
        assert_eq!(record.record.value, record.offset.to_string());
    }
}

#[tokio::test]
async fn exactly_the_range() {
    let cluster = Cluster::start().await;
    cluster.fill(100, 7);
    let client = cluster.client();
    let read = || client.read("l");
    let table = [
        (read(), 0..100),
        (read().from_offset(10), 10..100),
        (read().from_offset(10).to_offset(12), 10..12),
        (read().last(5), 95..100),
        (read().from_timestamp_ms(50), 50..100),
        (read().from_timestamp_ms(100), 100..100),
        (read().from_offset(100), 100..100),
        (read().from_offset(3).max_records(10), 3..13),
        (read().max_bytes(1), 0..7),
        (read().at(&cluster.endpoint(2)), 0..100),
    ];
    for (read, expected) in table {
        let what = format!("{read:?}");
        let reader = read.open().await.unwrap();
        assert_eq!(reader.header().next_offset, 100, "{what}");
        check(&reader.collect().await.unwrap(), expected);
    }
    let error = read().from_offset(101).open().await.err().unwrap();
    assert_eq!((error.kind(), error.next_offset()), (ErrorKind::OutOfRange, Some(100)));
    client.trim_log("l", 20, None).await.unwrap();
    let error = read().from_offset(19).open().await.err().unwrap();
    assert_eq!((error.kind(), error.start_offset()), (ErrorKind::Trimmed, Some(20)));
}

#[tokio::test]
async fn a_read_ends_where_the_log_ended_when_it_began() {
    let cluster = Cluster::start().await;
    cluster.fill(10, 1);
    let shared = cluster.shared.clone();
    // Breaks in the middle; when it is resumed the log is longer.
    cluster.on_read(move |_, n| (n == 5).then_some(ReadFault::Cut));
    let reader = cluster.client().read("l").open().await.unwrap();
    cluster.fill(10, 1);
    check(&reader.collect().await.unwrap(), 0..10);
    assert_eq!(shared.state().logs["l"].next, 20);
}

/// Faults of these kinds at random places.
fn random_faults(
    seed: u64,
    faults: &'static [ReadFault],
) -> impl FnMut(usize, u64) -> Option<ReadFault> + Send {
    let mut dice = StdRng::seed_from_u64(seed);
    move |_, _| dice.random_bool(0.1).then(|| faults[dice.random_range(0..faults.len())])
}

use ReadFault::{Cut, Damage, End, Repeat, Skip};

#[tokio::test]
async fn random_faults_lose_and_repeat_nothing() {
    for seed in 0..20 {
        let cluster = Cluster::start().await;
        cluster.fill(300, 7);
        cluster.on_read(random_faults(seed, &[Cut, End, Damage, Repeat, Skip]));
        let client = cluster.client();
        let read = client.read("l").from_offset(5).max_records(250);
        check(&read.open().await.unwrap().collect().await.unwrap(), 5..255);
        // Only the first batch tells which offset a timestamp means: that one must not be left out.
        cluster.on_read(random_faults(seed, &[Cut, Damage, Repeat]));
        let read = client.read("l").from_timestamp_ms(100);
        check(&read.open().await.unwrap().collect().await.unwrap(), 100..300);
    }
}

#[tokio::test]
async fn damage_everywhere_is_an_error_in_time() {
    let cluster = Cluster::start().await;
    cluster.fill(10, 1);
    cluster.on_read(|_, n| (n > 3).then_some(ReadFault::Damage));
    let read = cluster.client().read("l").timeout(Duration::from_millis(200));
    let mut reader = read.open().await.unwrap();
    for _ in 0..3 {
        assert!(reader.next_batch().await.unwrap().is_some());
    }
    assert_eq!(reader.next_batch().await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(reader.next_batch().await.unwrap().is_none(), "nothing after an error");
}

#[tokio::test]
async fn a_pinned_read_is_not_resumed() {
    let cluster = Cluster::start().await;
    cluster.fill(10, 1);
    cluster.on_read(|_, n| (n == 3).then_some(ReadFault::Cut));
    let reader = cluster.client().read("l").at(&cluster.endpoint(1)).open().await.unwrap();
    assert_eq!(reader.collect().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(cluster.shared.control().calls, [0, 1, 0]);
}

#[tokio::test]
async fn records_as_a_stream() {
    use futures::TryStreamExt;
    let cluster = Cluster::start().await;
    cluster.fill(30, 7);
    let reader = cluster.client().read("l").from_offset(3).open().await.unwrap();
    check(&reader.into_records().try_collect::<Vec<_>>().await.unwrap(), 3..30);
}

/// Records of a tail until it stands at `end`.
async fn follow(tailer: &mut Tailer, end: u64) -> Vec<ReadRecord> {
    let mut seen = Vec::new();
    while tailer.next_offset() != Some(end) {
        if let TailEvent::Batch(batch) = tailer.next().await.unwrap() {
            seen.extend(batch.records().map(Result::unwrap));
        }
    }
    seen
}

#[tokio::test]
async fn a_tail_follows_without_loss_or_repetition() {
    for seed in 0..10 {
        let cluster = Cluster::start().await;
        cluster.fill(50, 3);
        // A batch left out is noticed by the one behind it, which may never come here.
        cluster.on_read(random_faults(100 + seed, &[Cut, End, Damage, Repeat]));
        let interval = Duration::from_millis(10);
        let tail = cluster.client().tail("l").from_offset(7).header_interval(interval);
        let mut tailer = tail.open().await.unwrap();
        let mut seen = follow(&mut tailer, 50).await;
        for n in 1..=10 {
            cluster.fill(10, 4);
            if n == 5 {
                cluster.shared.control().down[(seed % 3) as usize] = true;
                cluster.shared.bump();
            }
            seen.extend(follow(&mut tailer, 50 + n * 10).await);
        }
        check(&seen, 7..150);
    }
}

#[tokio::test]
async fn a_tail_begins_at_the_end_even_when_it_breaks_at_once() {
    let cluster = Cluster::start().await;
    cluster.fill(10, 1);
    cluster.on_read(|_, n| (n == 1).then_some(ReadFault::Cut));
    let mut tailer = cluster.client().tail("l").open().await.unwrap();
    cluster.fill(5, 1);
    check(&follow(&mut tailer, 15).await, 10..15);
}

#[tokio::test]
async fn a_quiet_tail_still_has_headers() {
    let cluster = Cluster::start().await;
    let interval = Duration::from_millis(10);
    let tail = cluster.client().tail("l").header_interval(interval);
    let mut tailer = tail.open().await.unwrap();
    for _ in 0..3 {
        assert!(matches!(tailer.next().await.unwrap(), TailEvent::Header(_)));
    }
}

#[tokio::test]
async fn a_replica_that_is_behind_is_not_an_end() {
    let cluster = Cluster::start().await;
    cluster.fill(10, 1);
    let mut tailer = cluster.client().tail("l").from_offset(0).open().await.unwrap();
    check(&follow(&mut tailer, 10).await, 0..10);
    // The stream breaks; whoever is asked next has less than we saw, and then catches up.
    let shared = cluster.shared.clone();
    let lost = {
        let mut state = shared.state();
        let log = state.logs.get_mut("l").unwrap();
        log.next = 5;
        log.batches.split_off(5)
    };
    let node = (0..3).find(|n| cluster.endpoint(*n) == *tailer.endpoint()).unwrap();
    shared.control().down[node] = true;
    shared.bump();
    let calls = shared.control().calls.iter().sum::<u64>();
    let catch_up = async {
        while shared.control().calls.iter().sum::<u64>() < calls + 2 {
            tokio::task::yield_now().await;
        }
        let mut state = shared.state();
        let log = state.logs.get_mut("l").unwrap();
        log.next = 10;
        log.batches.extend(lost);
        drop(state);
        cluster.fill(2, 1);
    };
    let (seen, ()) = tokio::join!(follow(&mut tailer, 12), catch_up);
    check(&seen, 10..12);
}

#[tokio::test]
async fn final_ends_of_a_tail_are_typed() {
    let cluster = Cluster::start().await;
    cluster.fill(10, 1);
    let client = cluster.client();
    let tail = || client.tail("l").header_interval(Duration::from_millis(10));
    let mut deleted = tail().open().await.unwrap();
    client.delete_log("l", None).await.unwrap();
    let error = loop {
        if let Err(error) = deleted.next().await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::LogNotFound);
    assert_eq!(deleted.next().await.unwrap_err().kind(), ErrorKind::LogNotFound);

    cluster.shared.state().create("l");
    let mut recreated = tail().open().await.unwrap();
    cluster.shared.state().create("l");
    let down = (0..3).map(|n| recreated.endpoint() == &cluster.endpoint(n)).collect();
    cluster.shared.control().down = down;
    cluster.shared.bump();
    let error = loop {
        if let Err(error) = recreated.next().await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::LogRecreated);
}

#[tokio::test]
async fn a_tail_gives_up_after_its_patience() {
    let cluster = Cluster::start().await;
    let tail = cluster.client().tail("l").patience(Some(Duration::from_millis(100)));
    let mut tailer = tail.open().await.unwrap();
    cluster.shared.control().down = vec![true; 3];
    cluster.shared.bump();
    let error = loop {
        if let Err(error) = tailer.next().await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
