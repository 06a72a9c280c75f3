//! What a read costs at each level, on the leader and on a follower. Prints a table; asserts nothing
//! about speed, and is not run by itself:
//!
//! ```text
//! cargo test --release -p quorate-raft-node --test service -- --ignored --nocapture price
//! ```

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use quorate_proto::v1::{Level, OnUnmet, ReadFrom, ReadRequest, read_from::From};
use quorate_raft_node::runtime;

use super::{Logs, append, cluster::Cluster, create, levels::consistency};

/// One case is measured this long, in each of so many rounds; the rounds take turns.
const MEASURE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;

/// Single records in the log that is read.
const RECORDS: u64 = 200;

const LEVELS: [(&str, Level, Option<u64>); 4] = [
    ("EVENTUAL", Level::Eventual, None),
    ("BOUNDED 1 s", Level::Bounded, Some(1_000)),
    ("BOUNDED 0 ms", Level::Bounded, Some(0)),
    ("LINEARIZABLE", Level::Linearizable, None),
];

/// Reads one record after the other until `end`; how long each took.
async fn reader(
    mut logs: Logs,
    level: Level,
    ms: Option<u64>,
    first: u64,
    end: Instant,
) -> Vec<u32> {
    let mut took = Vec::new();
    let mut offset = first % RECORDS;
    while Instant::now() < end {
        offset = (offset * 31 + 17) % RECORDS;
        let request = ReadRequest {
            log: "a".to_owned(),
            from: Some(ReadFrom { from: Some(From::Offset(offset)) }),
            to_offset: Some(offset + 1),
            consistency: Some(consistency(level, ms, OnUnmet::Wait)),
            ..ReadRequest::default()
        };
        let began = Instant::now();
        let mut answer = logs.read(request).await.expect("an answer").into_inner();
        let mut batches = 0;
        while let Some(message) = answer.message().await.expect("an answer") {
            batches += message.batches.len();
        }
        assert_eq!(batches, 1);
        took.push(began.elapsed().as_micros() as u32);
    }
    took
}

/// Of all rounds of a case.
#[derive(Default)]
struct Case {
    took: Vec<u32>,
    per_second: Vec<f64>,
    rounds: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for minutes"]
async fn the_price_of_each_level() {
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    create(&mut cluster.logs(leader), "a").await;
    for n in 0..RECORDS {
        append(&mut cluster.logs(leader), "a", &[&format!("{n:0128}")]).await;
    }
    let rounds_of = "quorate_read_index_round_readers_count{group=\"0\"}";
    let mut cases: BTreeMap<(usize, usize, bool), Case> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for readers in [1, 64] {
            for (n, (_, level, ms)) in LEVELS.into_iter().enumerate() {
                for follower in [false, true] {
                    let node = if follower { (leader + 1) % 3 } else { leader };
                    let before = cluster.metric(leader, rounds_of).await;
                    let logs = cluster.logs(node);
                    let began = Instant::now();
                    let tasks = (0..readers).map(|id| {
                        let end = began + MEASURE;
                        runtime::spawn(reader(logs.clone(), level, ms, id as u64 * 7, end))
                    });
                    let took = futures::future::join_all(tasks.collect::<Vec<_>>()).await;
                    let took: Vec<u32> = took.into_iter().flat_map(Result::unwrap).collect();
                    let case = cases.entry((readers, n, follower)).or_default();
                    case.per_second.push(took.len() as f64 / began.elapsed().as_secs_f64());
                    case.took.extend(took);
                    case.rounds += cluster.metric(leader, rounds_of).await - before;
                }
            }
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average {load}");
    println!(
        "| readers | level | node | reads/s | p50 µs | p99 µs | rounds of the leader's own per read |"
    );
    println!("|---|---|---|---|---|---|---|");
    for ((readers, level, follower), mut case) in cases {
        case.took.sort_unstable();
        case.per_second.sort_by(f64::total_cmp);
        let at = |percent: usize| case.took[(case.took.len() - 1) * percent / 100];
        println!(
            "| {readers} | {} | {} | {:.0} ({:.0} to {:.0}) | {} | {} | {:.3} |",
            LEVELS[level].0,
            if follower { "follower" } else { "leader" },
            case.per_second[ROUNDS / 2],
            case.per_second[0],
            case.per_second[ROUNDS - 1],
            at(50),
            at(99),
            case.rounds / case.took.len() as f64,
        );
    }
}
