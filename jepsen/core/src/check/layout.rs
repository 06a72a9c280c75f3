//! A log is one dense sequence of offsets, and its time does not run backwards (G2).

use super::{FinalLog, Findings, Kind};

pub(super) fn check(log: &FinalLog, found: &mut Findings) {
    let mut next = log.start;
    let mut time = 0;
    for batch in &log.batches {
        let first = batch.first_offset;
        if first > next {
            let what = format!("nothing at offsets {next}..{first}");
            found.add(Kind::OffsetGap, &log.name, &[], what);
        } else if first < next {
            let what = format!("a batch at {first} overlaps one that ends at {next}");
            found.add(Kind::OffsetOverlap, &log.name, &[], what);
        }
        if batch.timestamp_ms < time {
            let what = format!("{} at offset {first}, behind {time}", batch.timestamp_ms);
            found.add(Kind::TimestampBackwards, &log.name, &[], what);
        }
        (next, time) = (batch.next_offset(), batch.timestamp_ms);
    }
    if next < log.next {
        let what = format!("nothing at offsets {next}..{}", log.next);
        found.add(Kind::OffsetGap, &log.name, &[], what);
    } else if next > log.next {
        let what = format!("records up to {next}, the log ends at {}", log.next);
        found.add(Kind::OffsetOverlap, &log.name, &[], what);
    }
}
