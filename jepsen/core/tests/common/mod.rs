//! A good history of one log, made by a model that answers honestly: concurrent producers, plain
//! and conditional appends, fences, reads, refusals, lost answers.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod lives;

use quorate_jepsen_core::{
    history::History,
    ids::{Epoch, Moment, Node, Offset, OpId, Process, RecordId, Stamp},
    op::{Answer, Append, Batch, Call, Claim, Op, ReplicaDigest, ReplicaLog},
    seed::Seed,
};

pub const LOG: &str = "orders";

#[derive(Default)]
struct Model {
    batches: Vec<Batch>,
    next: Offset,
    epoch: Option<Epoch>,
    index: u64,
    sequences: [u64; 3],
    time: u64,
    records: u64,
}

impl Model {
    fn stamp(&self) -> Stamp {
        Stamp {
            group: 0,
            term: 1 + self.index / 40,
            log_index: self.index,
            next_offset: self.next,
            writer_epoch: self.epoch.unwrap_or_default(),
        }
    }

    fn records(&mut self, count: u64) -> Vec<RecordId> {
        self.records += count;
        (self.records - count + 1..=self.records).map(RecordId).collect()
    }

    fn store(&mut self, append: &Append, producer: Option<(String, u64)>) -> Answer {
        let first_offset = self.next;
        self.next = first_offset.plus(append.records.len());
        self.time += 3;
        self.batches.push(Batch {
            first_offset,
            records: append.records.iter().copied().map(Some).collect(),
            timestamp_ms: self.time,
            crc32c: append.records[0].0 as u32,
            writer_epoch: append.writer_epoch,
            producer,
        });
        let (next_offset, stamp) = (self.next, Some(self.stamp()));
        Answer::Appended { first_offset, next_offset, deduplicated: false, stamp }
    }

    fn refused(&self, kind: &str) -> Answer {
        Answer::Refused {
            kind: kind.to_owned(),
            next_offset: Some(self.next),
            stamp: Some(self.stamp()),
        }
    }
}

/// `ops` operations from a seed. Each is decided at one moment, called a little before and answered
/// a little after, so that neighbours overlap.
pub fn good(seed: u64, ops: usize) -> History {
    let mut seed = Seed::new(seed);
    let mut model = Model::default();
    let mut history = History { name: "model".into(), expected_replicas: 3, ..History::default() };
    for number in 0..ops {
        model.index += 1;
        let (call, answer) = step(&mut seed, &mut model);
        let decided = 1000 * (number as u64 + 1);
        // A producer's calls are in its order, so they are called at their turn.
        let early = match &call {
            Call::Append(append) if append.producer.is_some() => 1,
            _ => 1 + seed.below(1500),
        };
        let lost = !matches!(call, Call::Read { .. }) && seed.one_in(12);
        if let Answer::Read { next_offset, .. } = &answer {
            history.claims.push(Claim {
                op: OpId(number as u64),
                node: Node(1 + number as u64 % 3),
                bound_ms: Some(5),
                age_ms: Some(1),
                served: None,
                at_least: Some(*next_offset),
            });
        }
        history.ops.push(Op {
            id: OpId(number as u64),
            process: Process(number as u32 % 8),
            invoked: Moment(decided.saturating_sub(early)),
            returned: (!lost).then_some(Moment(decided + 1 + seed.below(1500))),
            call,
            answer: if lost { Answer::Unknown { kind: "no answer".into() } } else { answer },
        });
    }
    history.ops.sort_by_key(|op| (op.invoked, op.id));
    for node in [1, 2, 3] {
        history.replicas.push(ReplicaLog {
            node: Node(node),
            log: LOG.into(),
            incarnation: None,
            start_offset: Offset(0),
            next_offset: model.next,
            batches: model.batches.clone(),
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

fn step(seed: &mut Seed, model: &mut Model) -> (Call, Answer) {
    let append = |records, expected_offset, writer_epoch, producer| Append {
        log: LOG.into(),
        records,
        expected_offset,
        writer_epoch,
        producer,
    };
    let count = 1 + seed.below(4);
    match seed.below(10) {
        0..4 => {
            let number = seed.below(3) as usize;
            let producer = format!("p{number}");
            let request = append(model.records(count), None, model.epoch, Some(producer.clone()));
            let answer = model.store(&request, Some((producer, model.sequences[number])));
            model.sequences[number] += 1;
            (Call::Append(request), answer)
        }
        4 => {
            let request = append(model.records(count), Some(model.next), model.epoch, None);
            let answer = model.store(&request, None);
            (Call::Append(request), answer)
        }
        5 => {
            let wrong = model.next.plus(1);
            let request = append(model.records(count), Some(wrong), model.epoch, None);
            (Call::Append(request), model.refused("OFFSET_MISMATCH"))
        }
        6 if seed.one_in(3) => {
            let epoch = Epoch(model.epoch.unwrap_or_default().0 + 1);
            model.epoch = Some(epoch);
            let (next_offset, stamp) = (model.next, Some(model.stamp()));
            (Call::Fence { log: LOG.into() }, Answer::Fenced { epoch, next_offset, stamp })
        }
        7 if model.epoch.is_some_and(|epoch| epoch.0 > 1) => {
            let low = model.epoch.map(|epoch| Epoch(epoch.0 - 1));
            let request = append(model.records(count), None, low, None);
            (Call::Append(request), model.refused("FENCED"))
        }
        8 => {
            let from = Offset(model.next.0 - seed.below(model.next.0.min(60) + 1));
            let after = model.batches.partition_point(|batch| batch.next_offset() <= from);
            let mut batches = model.batches[after..].to_vec();
            if let Some(first) = batches.first_mut() {
                first.records.drain(..(from.0 - first.first_offset.0) as usize);
                first.first_offset = from;
            }
            let call = Call::Read { log: LOG.into(), from, linearizable: true };
            let (next_offset, stamp) = (model.next, Some(model.stamp()));
            (call, Answer::Read { batches, next_offset, stamp })
        }
        _ => {
            let request = append(model.records(count), None, model.epoch, None);
            let answer = model.store(&request, None);
            (Call::Append(request), answer)
        }
    }
}
