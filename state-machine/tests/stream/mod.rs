//! Streams of entries for tests: short ways to write commands, and to look at all of a state.
#![allow(dead_code, reason = "each test file uses its own part")]

use bytes::Bytes;
use quorate_state_machine::{
    apply::ApplyItem,
    batch::{RecordRef, encode},
    command::{AppendPart, Command},
    entry::EntryBuilder,
    outcome::LogDescription,
    read::{Reader, StoredBatch},
    types::{
        Batch, Digest, LogIndex, LogName, LogPoint, Offset, ProducerId, Sequence, Term,
        TimestampMs, WriterEpoch,
    },
    view::{View, ViewError},
};

pub fn name(name: &str) -> LogName {
    LogName::new(name).expect("tests use valid names")
}

pub fn batch(values: &[&[u8]]) -> Batch {
    let records = values.iter().map(|value| RecordRef { value, ..RecordRef::default() });
    Batch::validate(encode(records), None).expect("tests use valid batches")
}

pub fn part(log: &str, batch: Batch) -> AppendPart {
    AppendPart {
        log: name(log),
        expected_offset: None,
        writer_epoch: None,
        producer: None,
        incarnation: None,
        batch,
    }
}

pub fn append(log: &str, batch: Batch) -> Command {
    Command::Append(vec![part(log, batch)])
}

pub fn produce(log: &str, producer: u8, sequence: u64, batch: Batch) -> Command {
    let producer = Some((ProducerId([producer; 16]), Sequence(sequence)));
    Command::Append(vec![AppendPart { producer, ..part(log, batch) }])
}

pub fn create(log: &str) -> Command {
    Command::CreateLog { name: name(log), if_absent: true, read_level: None }
}

pub fn delete(log: &str) -> Command {
    Command::DeleteLog { name: name(log), incarnation: None }
}

pub fn trim(log: &str, before: u64) -> Command {
    Command::TrimLog { name: name(log), before: Offset(before), incarnation: None }
}

pub fn fence(log: &str, min_epoch: Option<u64>) -> Command {
    Command::Fence { name: name(log), min_epoch: min_epoch.map(WriterEpoch), incarnation: None }
}

pub fn at(index: u64) -> LogPoint {
    // A new term now and then, so that terms are rows to compare too.
    LogPoint { term: Term(1 + index / 16), index: LogIndex(index) }
}

/// An entry of some commands.
pub fn entry(index: u64, time: u64, commands: &[Command]) -> ApplyItem {
    let mut entry = EntryBuilder::new();
    commands.iter().for_each(|command| entry.push(command));
    ApplyItem { at: at(index), payload: Some(entry.finish(TimestampMs(time))), membership: None }
}

/// An entry that changes the Raft membership.
pub fn membership(index: u64, blob: &'static [u8]) -> ApplyItem {
    ApplyItem { at: at(index), payload: None, membership: Some(Bytes::from_static(blob)) }
}

/// Everything readers can ask of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    pub applied: Option<LogPoint>,
    pub digest: Digest,
    pub logs: Vec<(LogDescription, Vec<StoredBatch>)>,
}

pub fn answers<V: View>(reader: &Reader<V>) -> Result<Answers, ViewError> {
    let logs = reader.list("", None, usize::MAX)?;
    let read = |log: LogDescription| {
        let found = reader.log(&log.name)?;
        assert_eq!(found.as_ref(), Some(&log), "a log is listed as it is found by name");
        let (from, to) = (log.start_offset, log.next_offset);
        let batches = reader.batches(log.incarnation, from, to, usize::MAX)?;
        let read: u64 = batches.iter().map(|b| u64::from(b.count)).sum();
        let end = batches.last().map_or(from, |b| Offset(b.first_offset.0 + u64::from(b.count)));
        if from < to && (read < to.0 - from.0 || end != to) {
            return Err(ViewError::Corrupt {
                what: format!("log {:?}", log.name.as_str()),
                why: "records are missing".into(),
            });
        }
        if let Some(middle) = batches.get(batches.len() / 2) {
            // The first record of that time is in the middle batch or before.
            let first = reader.offset_for_timestamp(&log, middle.timestamp)?;
            assert!(first.is_some_and(|first| first <= middle.first_offset.max(from)));
        }
        Ok((log, batches))
    };
    Ok(Answers {
        applied: reader.applied(),
        digest: reader.digest(),
        logs: logs.into_iter().map(read).collect::<Result<_, ViewError>>()?,
    })
}
