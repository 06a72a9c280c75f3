//! What a log means, for tests: offsets, deduplication, fencing, refusals, judged in the order of
//! the real one.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use prost::Message;
use quorate_proto::v1::{self as wire, Effect, ErrorDetail, ErrorKind};

/// Appends remembered of each producer.
const WINDOW: usize = 64;

pub struct Stored {
    pub first: u64,
    pub count: u32,
    pub bytes: Bytes,
    pub crc: u32,
}

#[derive(Default)]
pub struct ProducerState {
    next: u64,
    remembered: VecDeque<(u64, u64, u32, u32)>,
}

#[derive(Default)]
pub struct Log {
    pub incarnation: u64,
    pub start: u64,
    pub next: u64,
    pub epoch: Option<u64>,
    pub batches: Vec<Stored>,
    pub producers: HashMap<Bytes, ProducerState>,
}

impl Log {
    /// All values, in order.
    pub fn values(&self) -> Vec<String> {
        let records = self.batches.iter().flat_map(|b| {
            wire::RecordBatch::decode(b.bytes.clone()).expect("validated on arrival").records
        });
        records.map(|r| String::from_utf8(r.value.to_vec()).unwrap()).collect()
    }
}

#[derive(Default)]
pub struct State {
    pub logs: HashMap<String, Log>,
    pub term: u64,
    pub index: u64,
    pub incarnations: u64,
    /// Appends that reached the state machine, repetitions and refusals included.
    pub judged: u64,
    pub duplicates: u64,
}

pub fn detail(kind: ErrorKind, retryable: bool, effect: Effect) -> ErrorDetail {
    ErrorDetail {
        kind: kind.into(),
        retryable,
        effect: effect.into(),
        message: format!("scripted: {kind:?}"),
        ..Default::default()
    }
}

impl State {
    pub fn stamp(&self, log: Option<&Log>) -> wire::Stamp {
        wire::Stamp {
            group: 0,
            term: self.term,
            log_index: self.index,
            next_offset: log.map_or(0, |l| l.next),
            writer_epoch: log.and_then(|l| l.epoch).unwrap_or(0),
        }
    }

    pub fn position(&self) -> Bytes {
        Bytes::copy_from_slice(&self.index.to_be_bytes())
    }

    pub fn create(&mut self, name: &str) -> &mut Log {
        self.incarnations += 1;
        let log = Log { incarnation: self.incarnations, ..Log::default() };
        self.logs.insert(name.to_owned(), log);
        self.logs.get_mut(name).unwrap()
    }

    pub fn append(
        &mut self,
        request: &wire::AppendRequest,
    ) -> Result<wire::AppendResponse, ErrorDetail> {
        self.index += 1;
        self.judged += 1;
        let (stamp, position) = (self.stamp(None), self.position());
        let refuse =
            |kind, effect| ErrorDetail { stamp: Some(stamp), ..detail(kind, false, effect) };
        let part = request.part.as_ref().expect("a part");
        assert_eq!(Some(crc32c::crc32c(&part.batch)), part.batch_crc32c, "checksum of a request");
        let batch = wire::RecordBatch::decode(part.batch.clone()).expect("a record batch");
        let count = batch.records.len() as u32;
        assert!(count > 0);
        let conditions = part.conditions.clone().unwrap_or_default();
        let Some(log) = self.logs.get_mut(&part.log) else {
            return Err(refuse(ErrorKind::LogNotFound, Effect::None));
        };
        if conditions.incarnation.is_some_and(|asked| asked != log.incarnation) {
            return Err(refuse(ErrorKind::LogRecreated, Effect::None));
        }
        let done = |first: u64, count: u32, deduplicated| wire::AppendResponse {
            part: Some(wire::AppendedPart {
                first_offset: first,
                next_offset: first + u64::from(count),
                timestamp_ms: first,
                deduplicated,
                incarnation: log.incarnation,
            }),
            position: position.clone(),
            stamp: Some(stamp),
        };
        let crc = part.batch_crc32c.unwrap();
        if let Some(wire::Producer { id, sequence }) = &conditions.producer {
            if *sequence > 0 && !log.producers.contains_key(id) {
                return Err(refuse(ErrorKind::ProducerUnknown, Effect::None));
            }
            let known = log.producers.entry(id.clone()).or_default();
            if *sequence < known.next {
                let found = known.remembered.iter().find(|r| r.0 == *sequence);
                return match found {
                    Some((_, first, count, old)) if *old == crc => {
                        self.duplicates += 1;
                        Ok(done(*first, *count, true))
                    }
                    Some(_) => Err(refuse(ErrorKind::SequenceReused, Effect::None)),
                    None => Err(ErrorDetail {
                        next_sequence: Some(known.next),
                        ..refuse(ErrorKind::SequenceStale, Effect::Applied)
                    }),
                };
            }
        }
        if let Some(epoch) = log.epoch
            && conditions.writer_epoch.is_none_or(|asked| asked < epoch)
        {
            return Err(ErrorDetail {
                writer_epoch: Some(epoch),
                ..refuse(ErrorKind::Fenced, Effect::None)
            });
        }
        if conditions.expected_offset.is_some_and(|expected| expected != log.next) {
            return Err(ErrorDetail {
                next_offset: Some(log.next),
                ..refuse(ErrorKind::OffsetMismatch, Effect::None)
            });
        }
        let first = log.next;
        if let Some(wire::Producer { id, sequence }) = &conditions.producer {
            let known = log.producers.entry(id.clone()).or_default();
            if *sequence > known.next {
                return Err(ErrorDetail {
                    next_sequence: Some(known.next),
                    ..refuse(ErrorKind::SequenceGap, Effect::None)
                });
            }
            known.next += 1;
            known.remembered.push_back((*sequence, first, count, crc));
            if known.remembered.len() > WINDOW {
                known.remembered.pop_front();
            }
        }
        log.next += u64::from(count);
        log.batches.push(Stored { first, count, bytes: part.batch.clone(), crc });
        let mut answer = done(first, count, false);
        answer.stamp = Some(self.stamp(self.logs.get(&part.log)));
        Ok(answer)
    }
}
