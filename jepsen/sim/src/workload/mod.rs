//! Clients that keep a cluster busy and note every answer.
//!
//! Four kinds, each on the logs where its promise can be judged: *producers* that send a batch again
//! under its sequence, to whatever node, until it is answered; *plain* writers, some with an
//! expected offset; *fenced* writers that take a log from each other; *readers* that ask any node at
//! any level, with positions that anybody was given. A fifth kind creates and deletes logs under
//! writers and readers ([`recreated`]).

mod readers;
pub mod recreated;
mod writers;

use std::{cell::Cell, time::Duration};

use quorate_jepsen_core::{
    ids::{Incarnation, Offset, Process},
    op::{Answer, Append},
    payload,
    seed::Seed,
};
use quorate_proto::v1 as wire;
use quorate_raft_node::runtime;

use crate::{
    cluster::{self, Shape},
    host,
    record::{self, Token},
    rpc::{self, Failure},
    world::{CLIENTS, HostId},
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
}
