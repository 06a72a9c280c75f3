//! Random streams of entries. What is generated are intentions ("the next sequence", "one epoch too
//! low"); they become commands by looking at the model, so that most of them hit something. Few
//! names, few producers, and great leaps of time, so that they collide.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use quorate_state_machine::{
    apply::ApplyItem,
    batch::{RecordRef, encode},
    command::{AppendPart, Command},
    entry::EntryBuilder,
    outcome::Outcome,
    types::{
        Batch, Incarnation, LogName, LogPoint, Offset, ProducerId, ReadLevel, Sequence,
        TimestampMs, WriterEpoch,
    },
};

use super::model::Model;

const NAMES: [&str; 3] = ["a", "a/b", "c"];
const PRODUCERS: u8 = 4;

#[derive(Clone, Debug)]
pub enum Intent {
    Create {
        log: u8,
        if_absent: bool,
    },
    Delete {
        log: u8,
        incarnation: Which,
    },
    Trim {
        log: u8,
        percent: u64,
        incarnation: Which,
    },
    Fence {
        log: u8,
        min: Option<u64>,
        incarnation: Which,
    },
    SetReadLevel {
        log: u8,
        level: Option<u64>,
        incarnation: Which,
    },
    Mark,
    Append(Vec<Part>),
    /// One of the latest appends again.
    Again(usize),
    /// Many appends of one producer.
    Burst {
        log: u8,
        producer: u8,
        count: u8,
    },
    /// One append each of many producers.
    Crowd {
        log: u8,
        count: u8,
    },
}

/// A condition that mostly holds.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    None,
    Right,
    Lower,
    Higher,
}

#[derive(Clone, Debug)]
pub struct Part {
    log: u8,
    producer: Option<(u8, Number)>,
    offset: Which,
    epoch: Which,
    incarnation: Which,
    records: u8,
}

/// A sequence.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    Next,
    /// So many back, with the same or another content.
    Back(u64, bool),
    Ahead(u64),
}

#[derive(Clone, Debug)]
pub enum Kind {
    Commands(Vec<Intent>),
    Blank,
    Membership,
    Garbage(Vec<u8>),
}

/// How the leader's clock moves before an entry, milliseconds.
#[derive(Clone, Debug)]
pub struct Entry {
    pub clock: i64,
    pub new_term: bool,
    pub kind: Kind,
}

/// A generated entry as it is applied, with what the model says.
pub struct Resolved {
    pub item: ApplyItem,
    pub timestamp: u64,
    /// `None` for what is no entry of decodable commands.
    pub commands: Option<Vec<Command>>,
    pub expected: Option<Vec<Outcome>>,
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        12 => Just(Which::None),
        4 => Just(Which::Right),
        1 => Just(Which::Lower),
        1 => Just(Which::Higher),
    ]
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        6 => Just(Number::Next),
        3 => (1_u64..4, any::<bool>()).prop_map(|(n, same)| Number::Back(n, same)),
        3 => (60_u64..70, any::<bool>()).prop_map(|(n, same)| Number::Back(n, same)),
        1 => (1_u64..3).prop_map(Number::Ahead),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    let epoch = prop_oneof![8 => Just(Which::Right), 1 => Just(Which::None), 1 => which()];
    let producer = option::weighted(0.7, (0..PRODUCERS, number()));
    (0..3_u8, producer, which(), epoch, which(), 1..4_u8).prop_map(
        |(log, producer, offset, epoch, incarnation, records)| Part {
            log,
            producer,
            offset,
            epoch,
            incarnation,
            records,
        },
    )
}

fn intent() -> impl Strategy<Value = Intent> {
    let log = 0..3_u8;
    prop_oneof![
        4 => (log.clone(), any::<bool>())
            .prop_map(|(log, if_absent)| Intent::Create { log, if_absent }),
        1 => (log.clone(), which())
            .prop_map(|(log, incarnation)| Intent::Delete { log, incarnation }),
        2 => (log.clone(), 0..110_u64, which())
            .prop_map(|(log, percent, incarnation)| Intent::Trim { log, percent, incarnation }),
        2 => (log.clone(), option::weighted(0.3, 0..20_u64), which())
            .prop_map(|(log, min, incarnation)| Intent::Fence { log, min, incarnation }),
        1 => (log.clone(), option::of(0..3_u64), which()).prop_map(|(log, level, incarnation)| {
            Intent::SetReadLevel { log, level, incarnation }
        }),
        1 => Just(Intent::Mark),
        12 => part().prop_map(|part| Intent::Append(vec![part])),
        4 => vec(part(), 2..4).prop_map(Intent::Append),
        3 => (0..8_usize).prop_map(Intent::Again),
        2 => (log.clone(), 0..PRODUCERS, 10..90_u8)
            .prop_map(|(log, producer, count)| Intent::Burst { log, producer, count }),
        1 => (log, 10..30_u8).prop_map(|(log, count)| Intent::Crowd { log, count }),
    ]
}

const HOUR: i64 = 3_600_000;

fn clock(leaps: bool) -> BoxedStrategy<i64> {
    let calm = prop_oneof![4 => Just(0_i64), 4 => 1..1000_i64, 1 => -5000..0_i64];
    if !leaps {
        return calm.boxed();
    }
    prop_oneof![
        10 => calm,
        2 => 1..3 * HOUR,
        1 => 23 * HOUR..26 * HOUR,
        1 => 24 * HOUR..200 * HOUR,
        1 => -30 * HOUR..0_i64,
    ]
    .boxed()
}

/// Entries; with or without leaps of time that make producers expire.
pub fn entries(leaps: bool) -> impl Strategy<Value = Vec<Entry>> {
    let kind = prop_oneof![
        20 => vec(intent(), 1..5).prop_map(Kind::Commands),
        1 => Just(Kind::Blank),
        1 => Just(Kind::Membership),
        1 => vec(any::<u8>(), 0..40).prop_map(Kind::Garbage),
    ];
    let entry = (clock(leaps), proptest::bool::weighted(0.05), kind)
        .prop_map(|(clock, new_term, kind)| Entry { clock, new_term, kind });
    vec(entry, 1..40)
}

/// Turns intentions into entries, one by one.
pub struct Resolver {
    pub model: Model,
    at: LogPoint,
    clock: u64,
    /// Makes every record different from all others.
    records: u64,
    appends: Vec<Command>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            model: Model::default(),
            at: LogPoint::default(),
            clock: 1_000_000 * HOUR as u64,
            records: 0,
            appends: Vec::new(),
        }
    }
}

impl Resolver {
    pub fn all(entries: &[Entry]) -> Vec<Resolved> {
        let mut resolver = Self::default();
        entries.iter().map(|entry| resolver.resolve(entry)).collect()
    }

    pub fn resolve(&mut self, entry: &Entry) -> Resolved {
        self.clock = self.clock.saturating_add_signed(entry.clock);
        self.at.index.0 += 1;
        self.at.term.0 += u64::from(entry.new_term || self.at.term.0 == 0);
        let mut item = ApplyItem { at: self.at, ..ApplyItem::default() };
        let (mut commands, mut expected) = (None, None);
        match &entry.kind {
            Kind::Commands(intents) => {
                // Applied to the model one by one, because each command looks at what the ones
                // before it did.
                let mut outcomes = self.model.apply(self.at, self.clock, &[]);
                let mut resolved = Vec::new();
                for intent in intents {
                    for command in self.commands(intent) {
                        let position = resolved.len();
                        outcomes.push(self.model.command(self.at, self.clock, position, &command));
                        resolved.push(command);
                    }
                }
                item.payload = Some(pack(self.clock, &resolved));
                (commands, expected) = (Some(resolved), Some(outcomes));
            }
            Kind::Blank => self.model.applied.push(self.at),
            Kind::Membership => {
                self.model.applied.push(self.at);
                item.membership = Some(Bytes::copy_from_slice(&self.at.index.0.to_le_bytes()));
            }
            Kind::Garbage(bytes) => {
                self.model.applied.push(self.at);
                // A first byte that is no version keeps it from ever being an entry.
                item.payload = Some([&[0], bytes.as_slice()].concat().into());
            }
        }
        Resolved { item, timestamp: self.clock, commands, expected }
    }

    fn commands(&mut self, intent: &Intent) -> Vec<Command> {
        let command = match intent {
            Intent::Create { log, if_absent } => {
                // Every second log starts with a level of its own.
                let read_level = (*log % 2 == 1).then_some(ReadLevel::Eventual);
                Command::CreateLog { name: name(*log), if_absent: *if_absent, read_level }
            }
            Intent::SetReadLevel { log, level, incarnation } => Command::SetReadLevel {
                name: name(*log),
                read_level: level.map(|ms| ReadLevel::Bounded { max_staleness_ms: ms }),
                incarnation: self.incarnation(*log, *incarnation),
            },
            Intent::Delete { log, incarnation } => Command::DeleteLog {
                name: name(*log),
                incarnation: self.incarnation(*log, *incarnation),
            },
            Intent::Trim { log, percent, incarnation } => {
                let end = self.model.logs.get(&name(*log)).map_or(3, |log| log.next());
                Command::TrimLog {
                    name: name(*log),
                    before: Offset(end * percent / 100),
                    incarnation: self.incarnation(*log, *incarnation),
                }
            }
            Intent::Fence { log, min, incarnation } => Command::Fence {
                name: name(*log),
                min_epoch: min.map(WriterEpoch),
                incarnation: self.incarnation(*log, *incarnation),
            },
            Intent::Mark => Command::MarkDigest,
            Intent::Append(parts) => {
                Command::Append(parts.iter().map(|part| self.part(part)).collect())
            }
            Intent::Again(back) => match self.appends.iter().rev().nth(*back) {
                Some(command) => return vec![command.clone()],
                None => return Vec::new(),
            },
            Intent::Burst { log, producer, count } => {
                let first = self.next(*log, id(*producer));
                return (0..u64::from(*count))
                    .map(|n| self.plain(*log, id(*producer), first + n))
                    .collect();
            }
            Intent::Crowd { log, count } => {
                return (0..*count).map(|n| self.plain(*log, id(100 + n), 0)).collect();
            }
        };
        if matches!(command, Command::Append(_)) {
            self.appends.push(command.clone());
        }
        vec![command]
    }

    /// An append under the right epoch.
    fn plain(&mut self, log: u8, producer: ProducerId, sequence: u64) -> Command {
        Command::Append(vec![AppendPart {
            log: name(log),
            expected_offset: None,
            writer_epoch: self.epoch(log, Which::Right),
            producer: Some((producer, Sequence(sequence))),
            incarnation: None,
            batch: self.batch(1),
        }])
    }

    fn part(&mut self, part: &Part) -> AppendPart {
        let next = self.model.logs.get(&name(part.log)).map_or(0, |log| log.next());
        let mut batch = self.batch(part.records);
        let producer = part.producer.map(|(producer, number)| {
            let next = self.next(part.log, id(producer));
            let sequence = match number {
                Number::Next => next,
                Number::Back(n, same) => {
                    let sequence = next.saturating_sub(n);
                    if same {
                        batch = self
                            .appended(part.log, id(producer), sequence)
                            .unwrap_or(batch.clone());
                    }
                    sequence
                }
                Number::Ahead(n) => next + n,
            };
            (id(producer), Sequence(sequence))
        });
        AppendPart {
            log: name(part.log),
            expected_offset: near(part.offset, next).map(Offset),
            writer_epoch: self.epoch(part.log, part.epoch),
            producer,
            incarnation: self.incarnation(part.log, part.incarnation),
            batch,
        }
    }

    fn batch(&mut self, records: u8) -> Batch {
        let values: Vec<String> = (0..records)
            .map(|_| {
                self.records += 1;
                format!("r{}", self.records)
            })
            .collect();
        let refs = values
            .iter()
            .map(|value| RecordRef { value: value.as_bytes(), ..RecordRef::default() });
        Batch::validate(encode(refs), None).expect("a valid batch")
    }

    fn next(&self, log: u8, producer: ProducerId) -> u64 {
        let log = self.model.logs.get(&name(log));
        log.and_then(|log| log.producers.get(&producer)).map_or(0, |p| p.batches.len() as u64)
    }

    fn appended(&self, log: u8, producer: ProducerId, sequence: u64) -> Option<Batch> {
        let log = self.model.logs.get(&name(log))?;
        let batch = log.producers.get(&producer)?.batches.get(sequence as usize)?;
        Some(log.batches[*batch].batch.clone())
    }

    fn epoch(&self, log: u8, which: Which) -> Option<WriterEpoch> {
        let epoch = self.model.logs.get(&name(log)).and_then(|log| log.epoch);
        match (which, epoch) {
            (Which::Right, epoch) => epoch,
            (which, epoch) => near(which, epoch.map_or(0, |e| e.0)).map(WriterEpoch),
        }
    }

    fn incarnation(&self, log: u8, which: Which) -> Option<Incarnation> {
        let log = self.model.logs.get(&name(log))?;
        near(which, log.incarnation.0).map(Incarnation)
    }
}

fn near(which: Which, right: u64) -> Option<u64> {
    match which {
        Which::None => None,
        Which::Right => Some(right),
        Which::Lower => Some(right.saturating_sub(1)),
        Which::Higher => Some(right + 1),
    }
}

pub fn pack(timestamp: u64, commands: &[Command]) -> Bytes {
    let mut builder = EntryBuilder::new();
    commands.iter().for_each(|command| builder.push(command));
    builder.finish(TimestampMs(timestamp))
}

fn name(log: u8) -> LogName {
    LogName::new(NAMES[usize::from(log)]).expect("a valid name")
}

fn id(producer: u8) -> ProducerId {
    ProducerId([producer; 16])
}
