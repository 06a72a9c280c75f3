//! A million operations are judged in seconds, and the time is printed. Not a benchmark: a check
//! that were quadratic would take hours here.
mod common;

use std::time::Instant;

use quorate_jepsen_core::check::{Verdict, check};

const OPERATIONS: usize = 1_000_000;

/// On a busy machine; alone it takes a fraction of it.
const ENOUGH_S: f64 = 30.0;

#[test]
fn a_million_operations_take_seconds() {
    let mut history = common::good(5, OPERATIONS);
    let start = Instant::now();
    let report = check(&history);
    let took = start.elapsed().as_secs_f64();
    assert_eq!(report.verdict(), Verdict::Valid, "{report}");
    println!("{OPERATIONS} operations: {took:.2} s ({report})");
    assert!(took < ENOUGH_S, "{took:.1} s");

    // The worst case is not slower by much: everything is wrong, and everything is reported.
    for replica in &mut history.replicas {
        let half = replica.batches.len() / 2;
        replica.batches.rotate_left(half);
    }
    let start = Instant::now();
    let report = check(&history);
    let took = start.elapsed().as_secs_f64();
    assert_eq!(report.verdict(), Verdict::Invalid);
    println!("and wrong everywhere: {took:.2} s, {} anomalies", report.anomalies.len());
    assert!(took < ENOUGH_S, "{took:.1} s");
}
