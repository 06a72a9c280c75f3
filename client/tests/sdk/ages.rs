//! What a reader may say about an age, and where reads go that leave the level to the log.

use std::time::Duration;

use quorate_client::TailEvent;
use quorate_proto::v1::{Level, ReadLevel};
use tokio::time::sleep;

use crate::replicas::{Replicas, endpoint};

const STATED: Duration = Duration::from_millis(50);

/// Ages look at the wall clock, too, which these tests don't stop.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn an_age_counts_the_time_that_a_header_lay_unread() {
    let replicas = Replicas::new();
    replicas.set(0, |replica| replica.age = STATED);
    let session = replicas.client().session();
    let mut tailer = session.tail("l").at(&endpoint(0)).open().await.unwrap();
    assert!(matches!(tailer.next().await.unwrap(), TailEvent::Header(_)));
    let age = tailer.age().unwrap();
    assert!(age >= STATED && age < STATED + SOON, "{age:?}");
    // The node says something, and its reader is busy for a while.
    replicas.set(0, |replica| replica.beats += 1);
    sleep(Duration::from_secs(8)).await;
    assert!(matches!(tailer.next().await.unwrap(), TailEvent::Header(_)));
    assert_eq!(tailer.header().age_ms, Some(50), "what the node wrote then");
    let age = tailer.age().unwrap();
    assert!(age >= Duration::from_secs(8) + STATED, "{age:?}");
    // Who waits for it gets it young.
    let beat = async {
        sleep(Duration::from_secs(3)).await;
        replicas.set(0, |replica| replica.beats += 1);
    };
    let (event, ()) = tokio::join!(tailer.next(), beat);
    assert!(matches!(event.unwrap(), TailEvent::Header(_)));
    let age = tailer.age().unwrap();
    assert!(age >= STATED && age < STATED + SOON, "{age:?}");
    sleep(Duration::from_secs(1)).await;
    let later = tailer.age().unwrap();
    assert!(later >= age + Duration::from_secs(1), "{later:?} a second after {age:?}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_bears_it_is_read_from_every_replica() {
    let bounded = ReadLevel { level: Level::Bounded.into(), max_staleness_ms: Some(2_000) };
    let eventual = ReadLevel { level: Level::Eventual.into(), max_staleness_ms: None };
    let linearizable = ReadLevel { level: Level::Linearizable.into(), max_staleness_ms: None };
    for (level, spread) in [(bounded, true), (eventual, true), (linearizable, false)] {
        let replicas = Replicas::new();
        replicas.level(level);
        let client = replicas.client();
        // Says who leads, and what the log wants.
        client.append_with("l", ["x"], &Default::default()).await.unwrap();
        client.read("l").open().await.unwrap();
        replicas.reads();
        for _ in 0..9 {
            // No level is named.
            client.read("l").open().await.unwrap();
        }
        let expected = if spread { vec![3, 3, 3] } else { vec![9, 0, 0] };
        assert_eq!(replicas.reads(), expected, "{level:?}");
    }
}
