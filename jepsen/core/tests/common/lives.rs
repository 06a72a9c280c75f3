//! A good history of one name that several logs have, one after the other.

use quorate_jepsen_core::{
    history::History,
    ids::{Epoch, Incarnation, Moment, Node, Offset, OpId, Process, RecordId, Stamp},
    op::{Answer, Append, Batch, Call, Identity, Op, ReplicaDigest, ReplicaLog},
    seed::Seed,
};

use super::LOG;

/// The log that has the name now.
#[derive(Clone, Default)]
struct Log {
    incarnation: Incarnation,
    batches: Vec<Batch>,
    next: Offset,
    epoch: Option<Epoch>,
}

#[derive(Default)]
struct Model {
    log: Option<Log>,
    gone: Option<Incarnation>,
    index: u64,
    time: u64,
    records: u64,
    epochs: u64,
}

/// A call, its answer, which incarnation it asked for, and which one answered.
type Step = (Call, Answer, Option<Incarnation>, Option<Incarnation>);

impl Model {
    fn stamp(&self) -> Option<Stamp> {
        let log = self.log.clone().unwrap_or_default();
        Some(Stamp {
            group: 0,
            term: 1 + self.index / 40,
            log_index: self.index,
            next_offset: log.next,
            writer_epoch: log.epoch.unwrap_or_default(),
        })
    }

    fn refused(&self, kind: &str) -> Answer {
        Answer::Refused { kind: kind.into(), next_offset: None, stamp: self.stamp() }
    }

    fn create(&mut self) -> Step {
        let created = self.log.is_none();
        if created {
            let incarnation = Incarnation(self.index << 16);
            self.log = Some(Log { incarnation, ..Log::default() });
        }
        let log = self.log.clone().unwrap();
        let (next_offset, stamp) = (log.next, self.stamp());
        let answer = Answer::Created { created, next_offset, stamp };
        (Call::Create { log: LOG.into() }, answer, None, Some(log.incarnation))
    }

    fn append(&mut self, count: u64, asked: Option<Incarnation>) -> Step {
        self.records += count;
        let records: Vec<_> = (self.records - count + 1..=self.records).map(RecordId).collect();
        let mut append = Append { log: LOG.into(), records, ..Append::default() };
        let stamp = self.stamp();
        let Some(log) = &mut self.log else {
            return (Call::Append(append), self.refused("LOG_NOT_FOUND"), asked, None);
        };
        if asked.is_some_and(|asked| asked != log.incarnation) {
            return (Call::Append(append), self.refused("LOG_RECREATED"), asked, None);
        }
        append.writer_epoch = log.epoch;
        let first_offset = log.next;
        log.next = first_offset.plus(append.records.len());
        self.time += 3;
        log.batches.push(Batch {
            first_offset,
            records: append.records.iter().copied().map(Some).collect(),
            timestamp_ms: self.time,
            crc32c: append.records[0].0 as u32,
            writer_epoch: log.epoch,
            producer: None,
        });
        let (next_offset, answered) = (log.next, Some(log.incarnation));
        let answer = Answer::Appended { first_offset, next_offset, deduplicated: false, stamp };
        (Call::Append(append), answer, asked, answered)
    }

    fn fence(&mut self) -> Step {
        let stamp = self.stamp();
        let call = Call::Fence { log: LOG.into() };
        let Some(log) = &mut self.log else {
            return (call, self.refused("LOG_NOT_FOUND"), None, None);
        };
        self.epochs += 1;
        log.epoch = Some(Epoch(self.epochs));
        let answer = Answer::Fenced { epoch: Epoch(self.epochs), next_offset: log.next, stamp };
        (call, answer, None, Some(log.incarnation))
    }

    fn delete(&mut self) -> Step {
        let call = Call::Delete { log: LOG.into() };
        let Some(log) = self.log.take() else {
            return (call, self.refused("LOG_NOT_FOUND"), self.gone, None);
        };
        self.gone = Some(log.incarnation);
        (call, Answer::Deleted { stamp: self.stamp() }, self.gone, None)
    }

    fn read(&self, from_end: u64, linearizable: bool) -> Step {
        let Some(log) = &self.log else {
            let call = Call::Read { log: LOG.into(), from: Offset(0), linearizable };
            return (call, self.refused("LOG_NOT_FOUND"), None, None);
        };
        let from = Offset(log.next.0.saturating_sub(from_end));
        let after = log.batches.partition_point(|batch| batch.next_offset() <= from);
        let mut batches = log.batches[after..].to_vec();
        if let Some(first) = batches.first_mut() {
            first.records.drain(..(from.0 - first.first_offset.0) as usize);
            first.first_offset = from;
        }
        let answer = Answer::Read { batches, next_offset: log.next, stamp: self.stamp() };
        let call = Call::Read { log: LOG.into(), from, linearizable };
        (call, answer, None, Some(log.incarnation))
    }

    fn step(&mut self, seed: &mut Seed, stays: bool) -> Step {
        if stays && self.log.is_none() {
            return self.create();
        }
        match seed.below(20) {
            0 | 1 => self.create(),
            2 if !stays => self.delete(),
            3 | 4 => self.fence(),
            5..9 => self.read(seed.below(60), !seed.one_in(4)),
            9 if self.gone.is_some() => self.append(1, self.gone),
            kind => {
                let current = self.log.as_ref().map(|log| log.incarnation);
                self.append(1 + seed.below(4), current.filter(|_| kind < 15))
            }
        }
    }
}

/// `ops` operations from a seed, timed as [`super::good`] does; at the end the log is there.
pub fn lives(seed: u64, ops: usize) -> History {
    let mut seed = Seed::new(seed);
    let mut model = Model::default();
    let mut history = History { name: "lives".into(), expected_replicas: 3, ..History::default() };
    for number in 0..ops {
        model.index += 1;
        let (call, answer, asked, answered) = model.step(&mut seed, number + ops / 3 > ops);
        let decided = 1000 * (number as u64 + 1);
        let lost = !matches!(call, Call::Read { .. }) && seed.one_in(12);
        history.ops.push(Op {
            id: OpId(number as u64),
            process: Process(number as u32 % 8),
            invoked: Moment(decided.saturating_sub(1 + seed.below(1500))),
            returned: (!lost).then_some(Moment(decided + 1 + seed.below(1500))),
            call,
            answer: if lost { Answer::Unknown { kind: "no answer".into() } } else { answer },
        });
        if asked.is_some() || answered.is_some() {
            let answered = answered.filter(|_| !lost);
            history.identities.push(Identity { op: OpId(number as u64), asked, answered });
        }
    }
    history.ops.sort_by_key(|op| (op.invoked, op.id));
    let log = model.log.expect("it stays at the end");
    for node in [1, 2, 3] {
        history.replicas.push(ReplicaLog {
            node: Node(node),
            log: LOG.into(),
            incarnation: Some(log.incarnation),
            start_offset: Offset(0),
            next_offset: log.next,
            batches: log.batches.clone(),
        });
        history.digests.push(ReplicaDigest {
            node: Node(node),
            group: 0,
            log_index: model.index,
            digest: "5eed".into(),
        });
    }
    history
}
