//! What readers are told, against the model.

use quorate_state_machine::{
    memory::Memory,
    read::StoredBatch,
    types::{LogIndex, LogName, Offset, TimestampMs},
};

use super::model::{Log, Model};

/// Asks everything there is to ask.
pub fn check(memory: &Memory, model: &Model) {
    let reader = memory.reader().expect("sound state");
    assert_eq!(reader.applied(), model.applied.last().copied());
    assert_eq!(reader.log_count(), model.logs.len() as u64);
    assert_eq!(reader.log_time(), TimestampMs(model.log_time));
    for at in &model.applied {
        assert_eq!(reader.term_at(at.index).expect("sound state"), Some(at.term));
    }
    let beyond = LogIndex(model.applied.len() as u64 + 1);
    assert_eq!(reader.term_at(beyond).expect("sound state"), None);
    for (n, index) in model.marks.iter().rev().enumerate() {
        let mark = reader.digest_mark(*index).expect("sound state");
        assert_eq!(mark.is_some(), n < 8, "the last eight marks are kept");
    }
    for prefix in ["", "a", "a/", "b", "c"] {
        for after in [None, Some("a"), Some("a/b"), Some("zz")] {
            for limit in [0, 1, 9] {
                let listed = reader.list(prefix, after, limit).expect("sound state");
                let matching = model.logs.iter().filter(|(name, _)| {
                    name.as_str().starts_with(prefix) && after.is_none_or(|a| name.as_str() > a)
                });
                let expected: Vec<_> =
                    matching.take(limit).map(|(name, log)| log.describe(name)).collect();
                assert_eq!(listed, expected, "{prefix:?} {after:?} {limit}");
            }
        }
    }
    for (name, log) in &model.logs {
        check_log(memory, name, log);
    }
}

fn check_log(memory: &Memory, name: &LogName, log: &Log) {
    let reader = memory.reader().expect("sound state");
    let description = reader.log(name).expect("sound state").expect("the model has it");
    assert_eq!(description, log.describe(name));
    assert!(reader.exists(log.incarnation).expect("sound state"));
    let next = log.next();
    let read = |from: u64, to: u64, max_bytes: usize| {
        reader.batches(log.incarnation, Offset(from), Offset(to), max_bytes).expect("sound state")
    };
    let middle = log.start + (next - log.start) / 2;
    for (from, to) in [(log.start, next), (log.start, middle), (middle, next), (middle, middle + 1)]
    {
        for max_bytes in [0, 10, 40, usize::MAX] {
            let expected = naive_read(log, from, to.min(next), max_bytes);
            assert_eq!(read(from, to.min(next), max_bytes), expected, "{from}..{to} {max_bytes}");
        }
    }
    let sums = reader
        .checksums(log.incarnation, Offset(log.start), Offset(next), usize::MAX)
        .expect("sound state");
    assert_eq!(sums.len(), read(log.start, next, usize::MAX).len());
    assert!(sums.iter().all(|sum| sum.computed_crc32c == sum.stored_crc32c));
    let readable = &log.records[log.start as usize..];
    let times = readable.iter().flat_map(|r| [r.timestamp, r.timestamp + 1]);
    for time in times.chain([0, u64::MAX]) {
        let expected = readable.iter().position(|r| r.timestamp >= time);
        let expected = expected.map(|n| Offset(log.start + n as u64));
        let found = reader.offset_for_timestamp(&description, TimestampMs(time));
        assert_eq!(found.expect("sound state"), expected, "@{time}");
    }
}

/// Record by record: the batch of each, once.
fn naive_read(log: &Log, from: u64, to: u64, max_bytes: usize) -> Vec<StoredBatch> {
    let mut numbers: Vec<usize> =
        (from..to).map(|offset| log.records[offset as usize].batch).collect();
    numbers.dedup();
    let mut bytes = 0;
    let mut batches = Vec::new();
    for number in numbers {
        let stored = &log.batches[number];
        bytes += stored.batch.bytes.len();
        if !batches.is_empty() && bytes > max_bytes {
            break;
        }
        batches.push(StoredBatch {
            first_offset: Offset(stored.first),
            count: stored.batch.count,
            timestamp: TimestampMs(stored.timestamp),
            bytes: stored.batch.bytes.clone(),
            crc32c: stored.batch.crc32c,
            writer_epoch: stored.epoch,
            producer: stored.producer,
        });
    }
    batches
}
