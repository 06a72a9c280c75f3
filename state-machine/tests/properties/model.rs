//! What the state machine should do, written a second time in the most naive way: every record in a
//! `Vec`, every append of a producer remembered, nothing cut, packed or indexed. It shares the
//! vocabulary (commands, outcomes) with the real one, and no logic.

use std::collections::{BTreeMap, BTreeSet};

use quorate_state_machine::{
    command::{AppendPart, Command},
    outcome::{Accepted, Appended, LogDescription, Outcome, Refused},
    types::{
        Batch, Incarnation, LogIndex, LogName, LogPoint, Offset, ProducerId, ReadLevel, Sequence,
        TimestampMs, WriterEpoch,
    },
};

const HOUR: u64 = 3_600_000;

#[derive(Clone, Default)]
pub struct Model {
    pub logs: BTreeMap<LogName, Log>,
    pub log_time: u64,
    /// The highest epoch of any deleted log.
    floor: u64,
    /// Indexes of entries with a mark, all of them.
    pub marks: Vec<LogIndex>,
    pub applied: Vec<LogPoint>,
}

#[derive(Clone)]
pub struct Log {
    pub incarnation: Incarnation,
    pub epoch: Option<WriterEpoch>,
    pub created: u64,
    pub start: u64,
    pub records: Vec<Record>,
    pub batches: Vec<Stored>,
    pub producers: BTreeMap<ProducerId, Producer>,
    pub read_level: Option<ReadLevel>,
}

#[derive(Clone)]
pub struct Record {
    pub timestamp: u64,
    /// Which of the log's batches it came in.
    pub batch: usize,
}

#[derive(Clone)]
pub struct Stored {
    pub first: u64,
    pub timestamp: u64,
    pub batch: Batch,
    pub epoch: Option<WriterEpoch>,
    pub producer: Option<(ProducerId, Sequence)>,
}

#[derive(Clone)]
pub struct Producer {
    /// Log time of its last append.
    pub used: u64,
    /// Which of the log's batches it appended, by sequence.
    pub batches: Vec<usize>,
}

impl Log {
    pub fn next(&self) -> u64 {
        self.records.len() as u64
    }

    fn last_timestamp(&self) -> u64 {
        self.records.last().map_or(0, |record| record.timestamp)
    }

    pub fn describe(&self, name: &LogName) -> LogDescription {
        let end = |b: &Stored| b.first + u64::from(b.batch.count);
        let kept = self.batches.iter().filter(|b| end(b) > self.start);
        LogDescription {
            name: name.clone(),
            incarnation: self.incarnation,
            start_offset: Offset(self.start),
            next_offset: Offset(self.next()),
            writer_epoch: self.epoch,
            created: TimestampMs(self.created),
            last_timestamp: TimestampMs(self.last_timestamp()),
            stored_bytes: kept.map(|b| b.batch.bytes.len() as u64).sum(),
            producers: self.producers.len() as u64,
            read_level: self.read_level,
        }
    }
}

impl Producer {
    /// A day is over, and the hour in which it was.
    fn expired(&self, now: u64) -> bool {
        now / HOUR > self.used / HOUR + 24
    }
}

type Decided = (Option<LogName>, Result<Accepted, Refused>);

impl Model {
    /// Applies an entry of decodable commands.
    pub fn apply(&mut self, at: LogPoint, timestamp: u64, commands: &[Command]) -> Vec<Outcome> {
        self.log_time = self.log_time.max(timestamp);
        self.applied.push(at);
        let each = commands.iter().enumerate();
        each.map(|(position, command)| self.command(at, timestamp, position, command)).collect()
    }

    /// Applies one command of an entry.
    pub fn command(
        &mut self,
        at: LogPoint,
        timestamp: u64,
        position: usize,
        command: &Command,
    ) -> Outcome {
        let (about, result) = match command {
            Command::Append(parts) => self.append(timestamp, parts),
            Command::CreateLog { name, if_absent, read_level } => {
                let incarnation = Incarnation((at.index.0 << 16) + position as u64);
                (Some(name.clone()), self.create(name, *if_absent, *read_level, incarnation))
            }
            Command::DeleteLog { name, incarnation } => {
                (Some(name.clone()), self.delete(name, *incarnation))
            }
            Command::TrimLog { name, before, incarnation } => {
                (Some(name.clone()), self.trim(name, before.0, *incarnation))
            }
            Command::Fence { name, min_epoch, incarnation } => {
                (Some(name.clone()), self.fence(name, *min_epoch, *incarnation))
            }
            Command::SetReadLevel { name, read_level, incarnation } => {
                (Some(name.clone()), self.set_read_level(name, *read_level, *incarnation))
            }
            Command::MarkDigest => {
                if self.marks.last() != Some(&at.index) {
                    self.marks.push(at.index);
                }
                (None, Ok(Accepted::Marked(at.index)))
            }
        };
        let log = about.and_then(|name| self.logs.get(&name));
        Outcome {
            at,
            next_offset: Offset(log.map_or(0, Log::next)),
            writer_epoch: log.and_then(|log| log.epoch),
            result,
        }
    }

    fn create(
        &mut self,
        name: &LogName,
        if_absent: bool,
        read_level: Option<ReadLevel>,
        incarnation: Incarnation,
    ) -> Result<Accepted, Refused> {
        if let Some(log) = self.logs.get(name) {
            let log = log.describe(name);
            return if if_absent {
                Ok(Accepted::Created(log, false))
            } else {
                Err(Refused::LogExists(log))
            };
        }
        let log = Log {
            incarnation,
            epoch: None,
            created: self.log_time,
            start: 0,
            records: Vec::new(),
            batches: Vec::new(),
            producers: BTreeMap::new(),
            read_level,
        };
        let description = log.describe(name);
        self.logs.insert(name.clone(), log);
        Ok(Accepted::Created(description, true))
    }

    fn find(&mut self, name: &LogName, asked: Option<Incarnation>) -> Result<&mut Log, Refused> {
        let log = self.logs.get_mut(name).ok_or_else(|| Refused::LogNotFound(name.clone()))?;
        match asked {
            Some(asked) if asked != log.incarnation => {
                Err(Refused::LogRecreated { name: name.clone(), asked, actual: log.incarnation })
            }
            _ => Ok(log),
        }
    }

    fn delete(
        &mut self,
        name: &LogName,
        incarnation: Option<Incarnation>,
    ) -> Result<Accepted, Refused> {
        let log = self.find(name, incarnation)?;
        let (incarnation, epoch) = (log.incarnation, log.epoch);
        self.logs.remove(name);
        self.floor = self.floor.max(epoch.map_or(0, |e| e.0));
        Ok(Accepted::Deleted(incarnation))
    }

    fn trim(
        &mut self,
        name: &LogName,
        before: u64,
        incarnation: Option<Incarnation>,
    ) -> Result<Accepted, Refused> {
        let log = self.find(name, incarnation)?;
        if before > log.next() {
            return Err(Refused::TrimBeyondEnd {
                log: name.clone(),
                asked: Offset(before),
                next_offset: Offset(log.next()),
            });
        }
        log.start = log.start.max(before);
        Ok(Accepted::Trimmed(log.incarnation, Offset(log.start)))
    }

    fn fence(
        &mut self,
        name: &LogName,
        min: Option<WriterEpoch>,
        incarnation: Option<Incarnation>,
    ) -> Result<Accepted, Refused> {
        let floor = self.floor;
        let log = self.find(name, incarnation)?;
        let candidates = [floor + 1, log.epoch.map_or(0, |e| e.0 + 1), min.map_or(0, |e| e.0)];
        let epoch = WriterEpoch(candidates.into_iter().max().expect("three"));
        log.epoch = Some(epoch);
        Ok(Accepted::Fenced(log.incarnation, epoch))
    }

    fn set_read_level(
        &mut self,
        name: &LogName,
        read_level: Option<ReadLevel>,
        incarnation: Option<Incarnation>,
    ) -> Result<Accepted, Refused> {
        let log = self.find(name, incarnation)?;
        log.read_level = read_level;
        Ok(Accepted::ReadLevelSet(log.describe(name)))
    }

    fn append(&mut self, timestamp: u64, parts: &[AppendPart]) -> Decided {
        let mut names = BTreeSet::new();
        let mut repetitions = Vec::new();
        for part in parts {
            if !names.insert(part.log.clone()) {
                return (Some(part.log.clone()), Err(Refused::DuplicateLog(part.log.clone())));
            }
            match self.judge(part) {
                Ok(repetition) => repetitions.push(repetition),
                Err(refused) => return (Some(part.log.clone()), Err(refused)),
            }
        }
        let repeated = repetitions.iter().position(Option::is_some);
        if let Some(at) = repeated
            && repetitions.iter().any(Option::is_none)
        {
            let log = parts[at].log.clone();
            let (_, got) = parts[at].producer.expect("only producers repeat");
            return (Some(log.clone()), Err(Refused::SequenceReused { log, got }));
        }
        let appended = parts.iter().zip(repetitions).map(|(part, repetition)| match repetition {
            Some(batch) => self.appended(&part.log, batch, true),
            None => self.carry_out(timestamp, part),
        });
        let appended = appended.collect();
        (Some(parts[0].log.clone()), Ok(Accepted::Appended(appended)))
    }

    /// Which batch it repeats, if it repeats one.
    fn judge(&mut self, part: &AppendPart) -> Result<Option<usize>, Refused> {
        let now = self.log_time;
        let name = part.log.clone();
        let log = self.find(&part.log, part.incarnation)?;
        let producer = part.producer.and_then(|(id, _)| log.producers.get(&id));
        let producer = producer.filter(|producer| !producer.expired(now));
        if let (Some(producer), Some((_, got))) = (producer, part.producer) {
            let next = producer.batches.len() as u64;
            if got.0 < next {
                let batch = producer.batches[got.0 as usize];
                return if next - got.0 > 64 {
                    Err(Refused::SequenceStale { log: name, got, expected: Sequence(next) })
                } else if log.batches[batch].batch == part.batch {
                    Ok(Some(batch))
                } else {
                    Err(Refused::SequenceReused { log: name, got })
                };
            }
        }
        match (log.epoch, part.writer_epoch) {
            (Some(current), Some(asked)) if asked > current => {
                return Err(Refused::EpochNotGranted { log: name, asked, current: Some(current) });
            }
            (None, Some(asked)) => {
                return Err(Refused::EpochNotGranted { log: name, asked, current: None });
            }
            (Some(current), asked) if asked != Some(current) => {
                return Err(Refused::Fenced { log: name, current });
            }
            _ => {}
        }
        let actual = Offset(log.next());
        if let Some(expected) = part.expected_offset
            && expected != actual
        {
            return Err(Refused::OffsetMismatch { log: name, expected, actual });
        }
        match (producer, part.producer) {
            (None, Some((_, got))) if got.0 != 0 => {
                Err(Refused::ProducerUnknown { log: name, got })
            }
            (Some(producer), Some((_, got))) if got.0 != producer.batches.len() as u64 => {
                let expected = Sequence(producer.batches.len() as u64);
                Err(Refused::SequenceGap { log: name, got, expected })
            }
            _ => Ok(None),
        }
    }

    fn carry_out(&mut self, timestamp: u64, part: &AppendPart) -> Appended {
        let now = self.log_time;
        let log = self.logs.get_mut(&part.log).expect("judged");
        let timestamp = timestamp.max(log.last_timestamp());
        let batch = log.batches.len();
        log.batches.push(Stored {
            first: log.next(),
            timestamp,
            batch: part.batch.clone(),
            epoch: part.writer_epoch,
            producer: part.producer,
        });
        log.records.extend((0..part.batch.count).map(|_| Record { timestamp, batch }));
        if let Some((id, _)) = part.producer {
            if !log.producers.contains_key(&id) {
                let expired = log.producers.iter().filter(|(_, p)| p.expired(now));
                let mut due: Vec<_> = expired.map(|(id, p)| (p.used / HOUR, *id)).collect();
                due.sort();
                due.iter().take(16).for_each(|(_, id)| drop(log.producers.remove(id)));
            }
            let new = Producer { used: now, batches: Vec::new() };
            let producer = log.producers.entry(id).or_insert_with(|| new.clone());
            if producer.expired(now) {
                *producer = new;
            }
            producer.used = now;
            producer.batches.push(batch);
        }
        self.appended(&part.log, batch, false)
    }

    fn appended(&self, name: &LogName, batch: usize, deduplicated: bool) -> Appended {
        let log = &self.logs[name];
        let Stored { first, timestamp, batch, .. } = &log.batches[batch];
        Appended {
            first_offset: Offset(*first),
            next_offset: Offset(first + u64::from(batch.count)),
            timestamp: TimestampMs(*timestamp),
            deduplicated,
            incarnation: log.incarnation,
        }
    }
}
