//! Clients that keep a cluster busy and note every answer.
//!
//! Four kinds, each on the logs where its promise can be judged: *producers* that send a batch again
//! under its sequence, to whatever node, until it is answered; *plain* writers, some with an
//! expected offset; *fenced* writers that take a log from each other; *readers* that ask any node at
//! any level, with positions that anybody was given. A fifth kind creates and deletes logs under
//! writers and readers ([`recreated`]).

pub mod recreated;

use std::{cell::Cell, time::Duration};

use quorate_jepsen_core::{
    history::Event,
    ids::{Epoch, Incarnation, Node, Offset, Process, Stamp},
    op::{Answer, Append, Call, Claim},
    payload,
    seed::Seed,
};
use quorate_proto::v1 as wire;
use quorate_raft_node::runtime;
use quorate_state_machine::planted;

use crate::{
    cluster::{self, Shape},
    host,
    record::{self, Token},
    rpc::{self, Failure},
    world::{self, CLIENTS, HostId},
};

/// How many clients of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Per group.
    pub producers: u64,
    /// Per group.
    pub plain: u64,
    /// Per group.
    pub fenced: u64,
    /// Per group, for the logs that are deleted.
    pub recreating: u64,
    /// In all.
    pub readers: u64,
    /// Longest pause between two operations of a client.
    pub pause_ms: u64,
}

/// A client waits for one attempt at most this long.
const ATTEMPT: Duration = Duration::from_millis(600);

thread_local! {
    static STOPPED: Cell<bool> = const { Cell::new(false) };
    static AT_WORK: Cell<u64> = const { Cell::new(0) };
}

/// Lets every client end its operation.
pub fn stop() {
    STOPPED.set(true);
}

/// Clients that have not ended yet.
#[must_use]
pub fn at_work() -> u64 {
    AT_WORK.get()
}

/// The logs of a group: written by producers and plain writers, by fenced writers, and the one that
/// is deleted now and then.
#[must_use]
pub fn logs_of(group: u32) -> [String; 3] {
    [tagged("shared", group), tagged("fenced", group), recreated::log_of(group)]
}

/// A name that lives in `group`.
fn tagged(what: &str, group: u32) -> String {
    GROUPS.with(|groups| {
        let groups = groups.get();
        let fits = |tag: &u32| {
            let name = quorate_state_machine::types::LogName::new(&format!("{what}-{{{tag}}}"));
            let name = name.expect("a plain name");
            quorate_raft_node::api::route::group_of(&name, groups).0 == group
        };
        let tag = (0..).find(fits).expect("every group has names");
        format!("{what}-{{{tag}}}")
    })
}

thread_local! {
    static GROUPS: Cell<u32> = const { Cell::new(1) };
}

/// All logs.
#[must_use]
pub fn logs(shape: &Shape) -> Vec<String> {
    GROUPS.set(shape.groups);
    let all = (0..shape.groups).flat_map(logs_of);
    all.filter(|log| shape.recreated || !recreated::is(log)).collect()
}

/// One of them: it does one thing at a time.
pub struct Client {
    seed: Seed,
    /// Where the last call went well, or the last hint pointed.
    at: HostId,
    process: Process,
    pause_ms: u64,
}

/// Starts the clients.
pub fn start(shape: &Shape, mix: &Mix, seed: &Seed) {
    let logs = logs(shape);
    let client = |kind: &str, number: u64| Client {
        seed: seed.fork(&format!("{kind}-{number}")),
        at: 1 + number % shape.nodes,
        process: record::process(),
        pause_ms: mix.pause_ms,
    };
    for group in 0..shape.groups {
        let [shared, fenced, reborn] = logs_of(group);
        let number = |n: u64| u64::from(group) * 100 + n;
        for n in 0..mix.producers {
            run(client("producer", number(n)).produce(shared.clone()));
        }
        for n in 0..mix.plain {
            run(client("plain", number(n)).write_plainly(shared.clone()));
        }
        for n in 0..mix.fenced {
            run(client("fenced", number(n)).write_fenced(fenced.clone()));
        }
        for n in 0..mix.recreating {
            run(client("lives", number(n)).create_and_delete(reborn.clone()));
            run(client("each", number(n)).produce_to_each(reborn.clone()));
            run(client("any", number(n)).write_to_any(reborn.clone()));
        }
    }
    for n in 0..mix.readers {
        run(client("reader", n).read(logs.clone()));
    }
}

fn run(client: impl Future<Output = ()> + Send + 'static) {
    AT_WORK.set(AT_WORK.get() + 1);
    host::spawn(CLIENTS, async move {
        client.await;
        AT_WORK.set(AT_WORK.get() - 1);
    });
}

fn stopped() -> bool {
    STOPPED.get()
}

/// The part of an append on the wire.
pub(crate) fn part(
    append: &Append,
    producer: Option<([u8; 16], u64)>,
    incarnation: Option<Incarnation>,
) -> wire::AppendPart {
    let record = |id: &quorate_jepsen_core::ids::RecordId| wire::Record {
        value: payload::encode(*id, 40).into(),
        ..wire::Record::default()
    };
    wire::AppendPart {
        log: append.log.clone(),
        records: append.records.iter().map(record).collect(),
        conditions: Some(wire::AppendConditions {
            expected_offset: append.expected_offset.map(|offset| offset.0),
            writer_epoch: append.writer_epoch.map(|epoch| epoch.0),
            producer: producer.map(|(id, sequence)| wire::Producer {
                id: bytes::Bytes::copy_from_slice(&id),
                sequence,
            }),
            incarnation: incarnation.map(|incarnation| incarnation.0),
        }),
        ..wire::AppendPart::default()
    }
}

impl Client {
    /// One that is not part of the load, and asks this node.
    #[must_use]
    pub fn alone(at: HostId) -> Self {
        let process = record::process();
        Self { seed: Seed::new(u64::from(process.0)), at, process, pause_ms: 0 }
    }

    async fn pause(&mut self) {
        let ms = self.seed.below(self.pause_ms + 1);
        runtime::sleep(Duration::from_millis(ms)).await;
    }

    /// Where to go after a failure: to the leader that was named, or to anybody.
    fn move_on(&mut self, failure: &Failure) {
        let hint = failure.detail.as_ref().and_then(|d| d.leader.as_ref()).map(|l| l.node_id);
        let all = cluster::in_service();
        self.at = match hint {
            Some(node) if all.contains(&node) && !self.seed.one_in(5) => node,
            _ => *self.seed.pick(&all),
        };
    }

    fn new_append(&mut self, log: &str) -> Append {
        let count = 1 + self.seed.below(4);
        Append { log: log.to_owned(), records: record::fresh_records(count), ..Append::default() }
    }

    async fn append_once(
        &mut self,
        append: &Append,
        producer: Option<([u8; 16], u64)>,
    ) -> Result<Answer, Failure> {
        self.append_to(append, producer, None).await.map(|(answer, _)| answer)
    }

    /// The answer, and which of the logs of that name gave it.
    async fn append_to(
        &mut self,
        append: &Append,
        producer: Option<([u8; 16], u64)>,
        incarnation: Option<Incarnation>,
    ) -> Result<(Answer, Option<u64>), Failure> {
        let answer = rpc::append(self.at, part(append, producer, incarnation), ATTEMPT).await;
        match answer {
            Ok(answer) => {
                let part = answer.part.unwrap_or_default();
                if !part.deduplicated {
                    record::give(Token {
                        log: append.log.clone(),
                        bytes: answer.position,
                        next_offset: Offset(part.next_offset),
                    });
                }
                let told = Answer::Appended {
                    first_offset: Offset(part.first_offset),
                    next_offset: Offset(part.next_offset),
                    deduplicated: part.deduplicated,
                    stamp: answer.stamp.map(rpc::stamp),
                };
                Ok((told, Some(part.incarnation)))
            }
            Err(failure) => {
                self.move_on(&failure);
                Err(failure)
            }
        }
    }

    /// The answer of the history.
    fn note(&mut self, op: quorate_jepsen_core::ids::OpId, result: &Result<Answer, Failure>) {
        let answer = match result {
            Ok(answer) => answer.clone(),
            Err(failure) => failure.answer(),
        };
        // A client that does not know what came of its call is not that client any more.
        if matches!(answer, Answer::Unknown { .. }) {
            self.process = record::process();
        }
        record::answer(op, answer);
    }

    async fn write_plainly(mut self, log: String) {
        let mut known_end = Offset(0);
        while !stopped() {
            let mut append = self.new_append(&log);
            append.expected_offset = self.seed.one_in(2).then_some(known_end);
            let op = record::invoke(self.process, Call::Append(append.clone()));
            let result = self.append_once(&append, None).await;
            self.note(op, &result);
            match &result {
                Ok(Answer::Appended { next_offset, .. }) => known_end = *next_offset,
                Err(Failure { detail: Some(detail), .. }) => {
                    known_end = detail.next_offset.map_or(known_end, Offset);
                }
                _ => {}
            }
            self.pause().await;
        }
    }

    /// The same (producer, sequence) again until its fate is known; exactly once is the promise.
    async fn produce(mut self, log: String) {
        let mut id = self.new_id();
        let mut sequence = 0;
        while !stopped() {
            let mut append = self.new_append(&log);
            append.producer = Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
            let op = record::invoke(self.process, Call::Append(append.clone()));
            let mut lost = false;
            let result = loop {
                if lost && planted::is("batch_split_on_retry") && append.records.len() > 1 {
                    // A planted fault: the rest goes with the next sequence.
                    let mut half = append.clone();
                    let rest = half.records.split_off(append.records.len() / 2);
                    if self.append_once(&half, Some((id, sequence))).await.is_ok() {
                        sequence += 1;
                        half.records = rest;
                        break self.append_once(&half, Some((id, sequence))).await;
                    }
                }
                match self.append_once(&append, Some((id, sequence))).await {
                    Err(failure) => {
                        // After a lost answer, a refusal says nothing about the attempt that was lost.
                        lost |= failure.effect == wire::Effect::Unknown;
                        let again = failure.detail.as_ref().is_none_or(|d| d.retryable);
                        if failure.effect == wire::Effect::Applied {
                            break Err(failure);
                        }
                        if stopped() || !again {
                            let effect = if lost { wire::Effect::Unknown } else { failure.effect };
                            break Err(Failure { effect, ..failure });
                        }
                    }
                    done => break done,
                }
                self.pause().await;
            };
            self.note(op, &result);
            match result {
                Ok(_) => sequence += 1,
                Err(failure) if failure.effect == wire::Effect::Applied => sequence += 1,
                Err(failure) if failure.effect == wire::Effect::None => {}
                // Whether the sequence is taken is not known: another producer goes on.
                Err(_) => (id, sequence) = (self.new_id(), 0),
            }
            self.pause().await;
        }
    }

    fn new_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.seed.next_u64().to_be_bytes());
        id
    }

    /// Takes the log, writes until another takes it, takes it back.
    async fn write_fenced(mut self, log: String) {
        let mut epoch: Option<Epoch> = None;
        while !stopped() {
            if let Some(epoch_now) = epoch {
                let mut append = self.new_append(&log);
                append.writer_epoch = Some(epoch_now);
                let op = record::invoke(self.process, Call::Append(append.clone()));
                let result = self.append_once(&append, None).await;
                self.note(op, &result);
                // Now and then it insists although it was fenced off.
                if matches!(&result, Err(f) if f.kind == "FENCED") && self.seed.one_in(3) {
                    epoch = None;
                }
            } else {
                let op = record::invoke(self.process, Call::Fence { log: log.clone() });
                let result = rpc::fence(self.at, log.clone(), ATTEMPT).await;
                let result = match result {
                    Ok(granted) => {
                        epoch = Some(Epoch(granted.writer_epoch));
                        Ok(Answer::Fenced {
                            epoch: Epoch(granted.writer_epoch),
                            next_offset: Offset(granted.next_offset),
                            stamp: granted.stamp.map(rpc::stamp),
                        })
                    }
                    Err(failure) => {
                        self.move_on(&failure);
                        Err(failure)
                    }
                };
                self.note(op, &result);
            }
            self.pause().await;
        }
    }

    async fn read(mut self, logs: Vec<String>) {
        while !stopped() {
            let log = self.seed.pick(&logs).clone();
            let node = *self.seed.pick(&cluster::in_service());
            self.read_once(log, node).await;
            self.pause().await;
        }
    }

    /// Draws a read: its request and, when it has one, its staleness bound.
    fn draw_read(&mut self, log: &str) -> (wire::ReadRequest, Option<u64>, Option<Token>) {
        let (level, bound_ms) = match self.seed.below(4) {
            0 | 1 => (wire::Level::Linearizable, None),
            2 => (wire::Level::Bounded, Some(*self.seed.pick(&[0, 20, 100, 400]))),
            _ => (wire::Level::Eventual, None),
        };
        let on_unmet = *self.seed.pick(&[
            wire::OnUnmet::Wait,
            wire::OnUnmet::Wait,
            wire::OnUnmet::Fail,
            wire::OnUnmet::Redirect,
            wire::OnUnmet::ServeAndMark,
        ]);
        let with_token = self.seed.one_in(3);
        let token = record::token(self.seed.next_u64()).filter(|t| with_token && t.log == log);
        let request = wire::ReadRequest {
            log: log.to_owned(),
            from: Some(wire::ReadFrom { from: Some(wire::read_from::From::Last(10)) }),
            consistency: Some(wire::Consistency {
                level: level.into(),
                max_staleness_ms: bound_ms,
                at_least: token.iter().map(|t| t.bytes.clone()).collect(),
                on_unmet: on_unmet.into(),
            }),
            ..wire::ReadRequest::default()
        };
        (request, bound_ms, token)
    }

    async fn read_once(&mut self, log: String, node: HostId) {
        let (request, bound, token) = self.draw_read(&log);
        let consistency = request.consistency.clone().unwrap_or_default();
        let marked = consistency.on_unmet() == wire::OnUnmet::ServeAndMark;
        let linearizable = consistency.level() == wire::Level::Linearizable && !marked;
        let invoked = world::moment();
        let limit = Duration::from_millis(200 + self.seed.below(800));
        let shown = rpc::read(node, request, limit).await;
        // Where a read of the last records begins is known only with its answer, so the history is
        // told the call afterwards, at the time it was made.
        match shown {
            Ok(shown) => {
                let header = shown.header;
                let next_offset = Offset(header.next_offset);
                let from = shown.batches.first().map_or(next_offset, |b| b.first_offset);
                let call = Call::Read { log: log.clone(), from, linearizable };
                let op = record::invoke_at(self.process, call, invoked);
                let stamp = Stamp {
                    group: header.group,
                    term: header.term,
                    log_index: header.applied_index,
                    next_offset,
                    writer_epoch: Epoch(0),
                };
                let answer =
                    Answer::Read { batches: shown.batches, next_offset, stamp: Some(stamp) };
                record::answer(op, answer);
                if recreated::is(&log) {
                    recreated::told(&log, op, None, Some(header.incarnation));
                }
                record::event(Event::Claim(Claim {
                    op,
                    node: Node(node),
                    // An answer that is only marked says its age, and promises no bound.
                    bound_ms: bound.filter(|_| !marked),
                    age_ms: header.age_ms,
                    // And an answer that is marked may say that it lacks the position.
                    at_least: token.filter(|_| !header.position_unmet).map(|t| t.next_offset),
                    served: Some(shown.served),
                }));
                record::give(Token { log, bytes: header.position, next_offset });
            }
            Err(failure) => {
                if failure.kind == "TOO_STALE" && bound.is_some() {
                    record::refused_bound();
                }
                let call = Call::Read { log, from: Offset(0), linearizable };
                let op = record::invoke_at(self.process, call, invoked);
                record::answer(op, failure.of_a_read());
            }
        }
    }
}
