//! A replica whose state went wrong, in whatever way, shows it in its digest as soon as the wrong
//! row is used, although it applies the same entries as all others.

use quorate_state_machine::{
    apply::ApplyItem,
    batch::{RecordRef, encode},
    command::{AppendPart, Command},
    dedupe::Head,
    keys::{self, Key},
    memory::Memory,
    types::{
        Batch, Digest, LogIndex, LogName, LogPoint, Offset, ProducerId, ReadLevel, Sequence, Term,
        TimestampMs, WriterEpoch,
    },
    values::{GroupMeta, LogMeta},
    view::{View, Write, Writes},
};

use super::stream::pack;

const PRODUCER: ProducerId = ProducerId([5; 16]);
const NOW: u64 = 1_700_000_000_000;

fn name() -> LogName {
    LogName::new("a").expect("a valid name")
}

fn append(value: &str, sequence: u64) -> Command {
    let record = RecordRef { value: value.as_bytes(), ..RecordRef::default() };
    Command::Append(vec![AppendPart {
        log: name(),
        expected_offset: None,
        writer_epoch: Some(WriterEpoch(1)),
        producer: Some((PRODUCER, Sequence(sequence))),
        incarnation: None,
        batch: Batch::validate(encode([record]), None).expect("a valid batch"),
    }])
}

fn apply(memory: &mut Memory, commands: &[Command]) {
    let applied = memory.reader().expect("sound state").applied();
    let index = LogIndex(applied.map_or(1, |at| at.index.0 + 1));
    let at = LogPoint { term: Term(1), index };
    let payload = (!commands.is_empty()).then(|| pack(NOW, commands));
    memory.apply(&[ApplyItem { at, payload, membership: None }]).expect("sound state");
}

/// A fenced log with two appends of one producer.
fn sound() -> Memory {
    let mut memory = Memory::new();
    apply(&mut memory, &[Command::CreateLog { name: name(), if_absent: false, read_level: None }]);
    let fence = Command::Fence { name: name(), min_epoch: None, incarnation: None };
    apply(&mut memory, &[fence, append("first", 0), append("second", 1)]);
    memory
}

fn rewritten(memory: &Memory, key: Key, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Memory {
    let row = memory.get(&key).expect("readable").expect("it is there");
    let changed = change(&row);
    assert_ne!(changed, row, "something is changed");
    let mut other = memory.clone();
    other.write(Writes(vec![Write::Put(key, changed.into())]));
    other
}

/// Whether the digests differ behind the same entry.
fn found(one: &Memory, other: &Memory, commands: &[Command]) -> bool {
    let digest = |memory: &Memory| {
        let mut memory = memory.clone();
        apply(&mut memory, commands);
        memory.reader().expect("sound state").digest()
    };
    assert_eq!(digest(one), digest(one), "the same state gives the same digest");
    digest(one) != digest(other)
}

#[test]
fn every_field_of_a_log() {
    let changes: [(&str, fn(&mut LogMeta)); 11] = [
        ("incarnation", |log| log.incarnation.0 += 1),
        ("start offset", |log| log.start_offset.0 += 1),
        ("next offset", |log| log.next_offset.0 += 1),
        ("writer epoch", |log| log.writer_epoch = Some(WriterEpoch(2))),
        ("created", |log| log.created.0 += 1),
        ("last timestamp", |log| log.last_timestamp = TimestampMs(NOW + 1)),
        ("total bytes", |log| log.total_bytes += 1),
        ("trimmed bytes", |log| log.trimmed_bytes += 1),
        ("producers", |log| log.producers += 1),
        ("digest", |log| log.digest = Digest([9; 16])),
        ("read level", |log| log.read_level = Some(ReadLevel::Eventual)),
    ];
    let sound = sound();
    for (what, change) in changes {
        let other = rewritten(&sound, keys::log("a"), |row| {
            let mut log = LogMeta::decode(row).expect("sound");
            change(&mut log);
            log.encode()
        });
        // A new producer, so that it is no matter whether the old one is found.
        let Command::Append(mut parts) = append("third", 0) else { unreachable!("an append") };
        parts[0].producer = Some((ProducerId([6; 16]), Sequence(0)));
        assert!(found(&sound, &other, &[Command::Append(parts)]), "{what}");
    }
}

#[test]
fn a_log_that_is_missing_or_too_many() {
    let sound = sound();
    let mut missing = sound.clone();
    missing.write(Writes(vec![Write::Delete(keys::log("a"))]));
    for command in [
        append("third", 2),
        Command::CreateLog { name: name(), if_absent: true, read_level: None },
        Command::DeleteLog { name: name(), incarnation: None },
        Command::TrimLog { name: name(), before: Offset(0), incarnation: None },
    ] {
        assert!(found(&sound, &missing, std::slice::from_ref(&command)), "{command:?}");
    }
}

/// These decide about any entry to come, so any entry shows them, even a blank one.
#[test]
fn every_field_of_the_group() {
    let changes: [(&str, fn(&mut GroupMeta)); 4] = [
        ("digest", |group| group.digest = Digest([9; 16])),
        ("log time", |group| group.log_time.0 += 1),
        ("epoch floor", |group| group.epoch_floor += 1),
        ("logs", |group| group.logs += 1),
    ];
    let sound = sound();
    for (what, change) in changes {
        let other = rewritten(&sound, keys::group(), |row| {
            let mut group = GroupMeta::decode(row).expect("sound");
            change(&mut group);
            group.encode()
        });
        assert!(found(&sound, &other, &[]), "{what}");
    }
}

/// What is remembered of a producer is not in its log's row: the answer to a retry shows it.
#[test]
fn what_is_remembered_of_a_producer() {
    let changes: [(&str, fn(&mut Head)); 4] = [
        ("offset", |head| head.recent[0].first_offset.0 += 1),
        ("timestamp", |head| head.recent[0].timestamp.0 -= 1),
        ("checksum", |head| head.recent[0].crc32c ^= 1),
        ("all", |head| *head = Head { bucket: head.bucket, ..Head::default() }),
    ];
    let sound = sound();
    let log = sound.reader().and_then(|r| r.log(&name())).expect("sound").expect("it exists");
    for (what, change) in changes {
        let other = rewritten(&sound, keys::producer(log.incarnation, PRODUCER), |row| {
            let mut head = Head::decode(row).expect("sound");
            change(&mut head);
            head.encode()
        });
        assert!(found(&sound, &other, &[append("first", 0)]), "{what}");
    }
}
