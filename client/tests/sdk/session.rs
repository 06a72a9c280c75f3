//! Sessions: what was written and read is seen again, whichever replica answers.

use std::{collections::HashSet, time::Duration};

use quorate_client::{
    AppendOptions, Client, Consistency, ErrorKind, Level, OnUnmet, Route, Session, SessionToken,
    TailEvent,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    cluster::Cluster,
    replicas::{Replicas, endpoint},
};

async fn append(session: &Session, log: &str) -> u64 {
    let options = AppendOptions::default();
    session.append_with(log, ["x"], &options).await.unwrap().stamp.unwrap().log_index
}

/// Who answered, and what it had applied.
async fn look(session: &Session, log: &str) -> (u64, u64) {
    let (_, header) = session.describe_log(log, &Consistency::eventual()).await.unwrap();
    (header.served_by, header.applied_index)
}

#[tokio::test(start_paused = true)]
async fn own_writes_are_read_from_any_replica() {
    let replicas = Replicas::new();
    let client = replicas.client();
    replicas.freeze(1);
    replicas.freeze(2);
    let session = client.session();
    let written = append(&session, "l").await;
    for _ in 0..9 {
        let (served_by, applied) = look(&session, "l").await;
        assert_eq!((served_by, applied), (0, written), "the others are behind");
    }
    // Whoever is no part of the session gets what there is.
    let (behind, eventual) = (client.pinned_to(&endpoint(1)), Consistency::eventual());
    assert!(behind.describe_log("l", &eventual).await.unwrap().1.applied_index < written);
    // All serve it once they have caught up.
    replicas.thaw(1);
    replicas.thaw(2);
    let mut served = HashSet::new();
    while served.len() < 3 {
        served.insert(look(&session, "l").await.0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whoever lacks what the session has seen costs it a moment, once; then it is left out until a
/// probe finds that it has caught up.
#[tokio::test(start_paused = true)]
async fn replicas_that_lag_cost_a_session_little() {
    let replicas = Replicas::new();
    let session = replicas.client().session();
    replicas.freeze(1);
    replicas.freeze(2);
    append(&session, "l").await;
    let began = tokio::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(look(&session, "l").await.0, 0);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?} for two replicas that lag");
    let asked = replicas.reads();
    // The read that found it out, and probes since then.
    assert!(asked[1] <= 3 && asked[2] <= 3, "{asked:?}");
    assert!(asked[1] + asked[2] > 0, "nobody took a replica that lags");
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_a_replica_that_is_about_to_catch_up() {
    let replicas = Replicas::new();
    let session = replicas.client().session();
    for n in 0..3 {
        replicas.freeze(n);
    }
    let written = append(&session, "l").await;
    let catch_up = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        (0..3).for_each(|n| replicas.thaw(n));
    };
    let began = tokio::time::Instant::now();
    let ((_, applied), ()) = tokio::join!(look(&session, "l"), catch_up);
    assert_eq!((applied, began.elapsed()), (written, Duration::from_millis(30)));
}

#[tokio::test(start_paused = true)]
async fn reads_never_go_back_in_time() {
    let mut went_back_without = false;
    for seed in 0..20 {
        let mut dice = StdRng::seed_from_u64(seed);
        let replicas = Replicas::new();
        let client = replicas.client();
        let session = client.session();
        let (mut newest, mut newest_without) = (0, 0);
        for _ in 0..100 {
            match dice.random_range(0..4) {
                0 => drop(replicas.append("l", 1)),
                1 => replicas.freeze(dice.random_range(0..3)),
                _ => replicas.thaw(dice.random_range(0..3)),
            }
            let (_, applied) = look(&session, "l").await;
            assert!(applied >= newest, "seed {seed}: {applied} after {newest}");
            newest = applied;
            let eventual = Consistency::eventual();
            let (_, header) = client.describe_log("l", &eventual).await.unwrap();
            went_back_without |= header.applied_index < newest_without;
            newest_without = header.applied_index;
        }
    }
    assert!(went_back_without, "the replicas must have differed");
}

#[tokio::test(start_paused = true)]
async fn every_way_to_read_counts() {
    let replicas = Replicas::new();
    let session = replicas.client().session();
    replicas.freeze(1);
    replicas.freeze(2);
    let written = append(&session, "l").await;
    // A read that no replica but the first one can serve at first; what it saw is then asked for.
    let reader = session.read("l").open().await.unwrap();
    assert_eq!((reader.header().served_by, reader.header().applied_index), (0, written));
    let tailer = session.tail("l").open().await.unwrap();
    assert_eq!(tailer.header().applied_index, written);

    let other = replicas.client().session();
    let seen_by_read = replicas.append("l", 1).stamp.unwrap().log_index;
    other.read("l").at(&endpoint(0)).open().await.unwrap();
    assert_eq!(look(&other, "l").await, (0, seen_by_read));
    // The others have all but what the tail sees.
    for n in 1..=2 {
        replicas.thaw(n);
        replicas.freeze(n);
    }
    let other = replicas.client().session();
    let seen_by_tail = replicas.append("l", 1).stamp.unwrap().log_index;
    let mut tailer = other.tail("l").at(&endpoint(0)).open().await.unwrap();
    assert!(matches!(tailer.next().await.unwrap(), TailEvent::Header(_)));
    let told = replicas.client().pinned_to(&endpoint(0)).session();
    assert_eq!(look(&told, "l").await, (0, seen_by_tail));
    assert_eq!(other.token(), told.token());
    assert_eq!(look(&other, "l").await, (0, seen_by_tail));
}

#[tokio::test]
async fn what_a_tail_brings_counts_as_it_comes() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let session = client.session();
    let mut tailer =
        session.tail("l").header_interval(Duration::from_millis(10)).open().await.unwrap();
    cluster.fill(3, 1);
    let newest = cluster.shared.state().index;
    while tailer.header().applied_index < newest {
        tailer.next().await.unwrap();
    }
    let fresh = client.session();
    fresh.describe_log("l", &Consistency::eventual()).await.unwrap();
    assert_eq!(session.token(), fresh.token());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_a_tail_brought_is_there_for_good() {
    for _ in 0..9 {
        let replicas = Replicas::new();
        let session = replicas.client().session();
        let mut tailer = session.tail("l").at(&endpoint(0)).open().await.unwrap();
        assert!(matches!(tailer.next().await.unwrap(), TailEvent::Header(_)));
        replicas.freeze(1);
        replicas.freeze(2);
        let written = replicas.append("l", 1).stamp.unwrap().log_index;
        // It comes without a header.
        assert!(matches!(tailer.next().await.unwrap(), TailEvent::Batch(_)));
        assert!(tailer.header().applied_index < written);
        assert_eq!(look(&session, "l").await, (0, written));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_hands_a_session_over() {
    let replicas = Replicas::new();
    let (here, there) = (replicas.client(), replicas.client());
    replicas.freeze(1);
    replicas.freeze(2);
    let session = here.session();
    let written = append(&session, "l").await;
    let cookie = session.token().to_string();
    assert!(cookie.len() < 200, "{cookie}");

    let token: SessionToken = cookie.parse().unwrap();
    let resumed = there.resume_session(&token);
    for _ in 0..6 {
        assert_eq!(look(&resumed, "l").await, (0, written));
    }
    // Joining another's session adds to one's own, in whatever order.
    let mine = there.session();
    let newer = append(&mine, "l").await;
    mine.join(&token);
    assert_eq!(look(&mine, "l").await, (0, newer));
    resumed.join(&mine.token());
    assert_eq!(resumed.token(), mine.token());
    // Clones are the same session.
    let newest = append(&mine.clone(), "l").await;
    assert_eq!(look(&mine, "l").await, (0, newest));
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_in_one_log_counts_for_the_others() {
    let replicas = Replicas::new();
    replicas.create("cause");
    let session = replicas.client().session();
    replicas.freeze(1);
    replicas.freeze(2);
    // Somebody writes to "l", and then to "cause"; we see only the latter.
    let hidden = replicas.append("l", 1).stamp.unwrap().log_index;
    replicas.append("cause", 1);
    session.read("cause").at(&endpoint(0)).open().await.unwrap();
    for _ in 0..6 {
        assert!(look(&session, "l").await.1 > hidden);
    }
}

#[tokio::test(start_paused = true)]
async fn another_logs_deletion_does_not_stop_a_session() {
    let replicas = Replicas::new();
    replicas.create("gone");
    let session = replicas.client().session();
    append(&session, "l").await;
    let last = append(&session, "gone").await;
    replicas.delete("gone");
    assert!(look(&session, "l").await.1 >= last);
    let fresh = replicas.client().session();
    look(&fresh, "l").await;
    assert_eq!(session.token(), fresh.token(), "the deleted log is forgotten");

    // Recreated is deleted, too; but only for the others.
    replicas.create("gone");
    append(&session, "gone").await;
    replicas.delete("gone");
    replicas.create("gone");
    let eventual = Consistency::eventual();
    let error = session.describe_log("gone", &eventual).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadPosition, "what was seen in it is gone");
    look(&session, "l").await;
    session.forget("gone");
    look(&session, "gone").await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_does_not_take_a_session_back_in_time() {
    // Which replica is asked first is not fixed.
    for _ in 0..30 {
        let replicas = Replicas::new();
        replicas.create("gone");
        replicas.freeze(1);
        replicas.freeze(2);
        let session = replicas.client().session();
        let last = append(&session, "gone").await;
        replicas.delete("gone");
        assert!(look(&session, "l").await.1 >= last);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_made_up_for_before_it_is_forgotten() {
    // Given up at any moment of the read that finds out about the deletion.
    for give_up in 0..12 {
        let replicas = Replicas::new();
        replicas.create("gone");
        replicas.freeze(1);
        replicas.freeze(2);
        let session = replicas.client().session();
        let last = append(&session, "gone").await;
        replicas.delete("gone");
        replicas.set(0, |replica| replica.delay = Duration::from_millis(300));
        let limit = Duration::from_millis(100 * give_up);
        let read = session.read("l").at(&endpoint(0)).open();
        let _ = tokio::time::timeout(limit, read).await;
        for _ in 0..3 {
            let seen = look(&session, "l").await.1;
            assert!(seen >= last, "{seen} after {last}, given up after {limit:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_in_other_groups_outlives_its_log() {
    for _ in 0..9 {
        let replicas = Replicas::new();
        for log in ["gone", "other/gone", "other/l"] {
            replicas.create(log);
        }
        replicas.freeze(1);
        replicas.freeze(2);
        let session = replicas.client().session();
        append(&session, "gone").await;
        let last = append(&session, "other/gone").await;
        replicas.delete("gone");
        replicas.delete("other/gone");
        // A read of the first group makes up for what was seen there, and for that only.
        assert!(look(&session, "l").await.1 >= last);
        assert!(look(&session, "other/l").await.1 >= last);
    }
}

#[tokio::test(start_paused = true)]
async fn to_forget_a_log_is_not_to_go_back() {
    for _ in 0..9 {
        let replicas = Replicas::new();
        replicas.create("cause");
        let session = replicas.client().session();
        replicas.freeze(1);
        replicas.freeze(2);
        let last = append(&session, "cause").await;
        session.forget("cause");
        assert!(look(&session, "l").await.1 >= last);
        // Nor in another process.
        let session = replicas.client().session();
        let last = append(&session, "cause").await;
        session.forget("cause");
        let token: SessionToken = session.token().to_string().parse().unwrap();
        assert!(look(&replicas.client().resume_session(&token), "l").await.1 >= last);
    }
}

#[tokio::test(start_paused = true)]
async fn that_a_log_is_not_there_was_seen_too() {
    for _ in 0..9 {
        let replicas = Replicas::new();
        replicas.create("gone");
        replicas.freeze(1);
        replicas.freeze(2);
        replicas.delete("gone");
        let gone_at = replicas.index();
        let session = replicas.client().session();
        let error = session.read("gone").at(&endpoint(0)).open().await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::LogNotFound);
        assert_eq!(error.age(), Some(Duration::ZERO), "the answer says of which state it is");
        let seen = look(&session, "l").await.1;
        assert!(seen >= gone_at, "{seen} after {gone_at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_history_is_an_error_and_not_a_deletion() {
    let replicas = Replicas::new();
    replicas.create("other");
    let session = replicas.client().session();
    append(&session, "l").await;
    let index = replicas.index();
    append(&session, "other").await;
    replicas.lose_behind(index);
    for log in ["l", "other"] {
        let error = session.describe_log(log, &Consistency::eventual()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadPosition, "{log}");
        let error = session.read(log).open().await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::BadPosition, "{log}");
        let error = session.tail(log).open().await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::BadPosition, "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_levels_go_with_it() {
    let replicas = Replicas::new();
    let session = replicas.client().with_route(Route::Spread).session();
    replicas.freeze(2);
    let written = append(&session, "l").await;
    replicas.set(1, |replica| replica.age = Duration::from_millis(500));
    let bounded = Consistency::new(Level::Bounded(Duration::from_millis(100)));
    for _ in 0..6 {
        // The second replica is too old, the third has not what was written.
        let answer = session.describe_log("l", &bounded.clone().on_unmet(OnUnmet::Wait)).await;
        let header = answer.unwrap().1;
        assert_eq!((header.served_by, header.applied_index), (0, written));
    }
}

#[test]
fn its_futures_may_move_between_threads() {
    fn check<T: Send>(_: T) {}
    fn all(client: &Client, session: &Session, consistency: &Consistency) {
        check(session.describe_log("l", consistency));
        check(session.append("l", ["x"]));
        check(session.read("l").open());
        check(session.tail("l").open());
        check(client.read("l").open());
        check(client.append("l", ["x"]));
    }
    let _ = all;
}
