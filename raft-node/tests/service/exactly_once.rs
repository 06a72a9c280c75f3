//! A repeated append answers with its original offsets, whoever leads: one that got the producer's
//! history by snapshot only, and all of them after they were killed.

use quorate_proto::{
    admin::v1::TransferLeaderRequest,
    v1::{AppendConditions, AppendedPart, ErrorKind, Level, Producer},
};

use crate::{all, append, append_if, cluster::Cluster, create, read, refused};

/// More than the log remembers of a producer.
const SEQUENCES: u64 = 100;

/// The window is 64; some of it is spent on what each round appends.
const REPEATED: u64 = 50;

fn from_producer(sequence: u64) -> AppendConditions {
    let producer = Producer { id: vec![9; 16].into(), sequence };
    AppendConditions { producer: Some(producer), ..AppendConditions::default() }
}

/// Appends a sequence through node `n`. Each has its own value.
async fn produce(cluster: &Cluster, n: usize, sequence: u64) -> AppendedPart {
    let (value, conditions) = (sequence.to_string(), from_producer(sequence));
    let done = append_if(&mut cluster.logs(n), "a", &[&value], conditions).await;
    done.expect("an append").part.expect("its part")
}

/// Repeats what was appended last, appends one more, and looks at the whole log.
async fn repeat(cluster: &Cluster, n: usize, original: &mut Vec<AppendedPart>) {
    let next = original.len() as u64;
    for sequence in next - REPEATED..next {
        let again = produce(cluster, n, sequence).await;
        let first = &original[sequence as usize];
        assert!(again.deduplicated, "sequence {sequence} took effect twice");
        assert_eq!(
            (again.first_offset, again.next_offset, again.timestamp_ms),
            (first.first_offset, first.next_offset, first.timestamp_ms),
            "sequence {sequence}"
        );
    }
    let other = append_if(&mut cluster.logs(n), "a", &["other"], from_producer(next - 1)).await;
    refused(other, ErrorKind::SequenceReused);
    let gap = append_if(&mut cluster.logs(n), "a", &["x"], from_producer(next + 1)).await;
    refused(gap, ErrorKind::SequenceGap);
    original.push(produce(cluster, n, next).await);
    let (values, _) = read(&mut cluster.logs(n), all("a", Level::Linearizable)).await.unwrap();
    assert_eq!(values, (0..=next).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_are_known_to_whoever_leads() {
    let mut cluster = Cluster::start(3, "[log]\nsegment_mb = 16\nretain_mb = 1\n").await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    create(&mut cluster.logs(leader), "filler").await;
    let absent = (leader + 1) % 3;
    let before = cluster.status(absent).await.expect("it runs").applied_index;
    cluster.kill(absent);
    let mut original = Vec::new();
    for sequence in 0..SEQUENCES {
        original.push(produce(&cluster, leader, sequence).await);
    }
    // Until the log does not reach back to the absent one any more.
    let value = "v".repeat(1 << 19);
    let purged = async |cluster: &Cluster| {
        cluster.status(leader).await.is_some_and(|group| group.purged_index > before + SEQUENCES)
    };
    while !purged(&cluster).await {
        append(&mut cluster.logs(leader), "filler", &[&value, &value]).await;
    }
    cluster.run(absent);
    let done = append(&mut cluster.logs(leader), "filler", &["last"]).await;
    let index = done.stamp.expect("where it is").log_index;
    cluster.wait_for(absent, "catches up", |group| group.applied_index >= index).await;
    cluster.wait_for(absent, "by snapshot", |group| group.purged_index > before).await;

    let to = absent as u64 + 1;
    let transfer = TransferLeaderRequest { group: 0, to };
    cluster.admin(leader).transfer_leader(transfer).await.expect("it can lead");
    assert_eq!(cluster.leader().await, absent);
    repeat(&cluster, absent, &mut original).await;

    (0..3).for_each(|n| cluster.kill(n));
    (0..3).for_each(|n| cluster.run(n));
    let leader = cluster.leader().await;
    repeat(&cluster, leader, &mut original).await;

    cluster.kill(leader);
    let leader = cluster.leader().await;
    repeat(&cluster, leader, &mut original).await;
}
