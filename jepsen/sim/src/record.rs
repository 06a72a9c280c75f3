//! The history of a run, as its clients tell it.

use std::cell::RefCell;

use quorate_jepsen_core::{
    history::Event,
    ids::{Moment, Offset, OpId, Process, RecordId},
    op::{Answer, Call},
};

use crate::world;

/// A position that somebody was given.
#[derive(Clone, Debug)]
pub struct Token {
    /// The log it came with.
    pub log: String,
    /// The token.
    pub bytes: bytes::Bytes,
    /// The log's end there.
    pub next_offset: Offset,
}

/// Everything noted.
#[derive(Debug, Default)]
pub struct Record {
    /// The history.
    pub events: Vec<Event>,
    /// Reads with a bound that were refused because of it.
    pub refused_bounds: u64,
    tokens: Vec<Token>,
    ops: u64,
    processes: u32,
    records: u64,
}

thread_local! {
    static RECORD: RefCell<Record> = RefCell::default();
}

fn with<T>(f: impl FnOnce(&mut Record) -> T) -> T {
    RECORD.with_borrow_mut(f)
}

/// Everything noted so far.
#[must_use]
pub fn take() -> Record {
    RECORD.take()
}

/// A new client.
#[must_use]
pub fn process() -> Process {
    with(|r| {
        r.processes += 1;
        Process(r.processes)
    })
}

/// Records that nobody has appended yet.
#[must_use]
pub fn fresh_records(count: u64) -> Vec<RecordId> {
    with(|r| {
        r.records += count;
        (r.records - count + 1..=r.records).map(RecordId).collect()
    })
}

/// A call is made now.
#[must_use]
pub fn invoke(process: Process, call: Call) -> OpId {
    invoke_at(process, call, world::moment())
}

/// A call was made then.
#[must_use]
pub fn invoke_at(process: Process, call: Call, at: Moment) -> OpId {
    let op = with(|r| {
        r.ops += 1;
        let op = OpId(r.ops);
        r.events.push(Event::Invoke { op, process, at, call: call.clone() });
        op
    });
    world::trace(format_args!("p{process} op {op} {call:?}"));
    op
}

/// Its answer came now.
pub fn answer(op: OpId, answer: Answer) {
    let at = world::moment();
    world::trace(format_args!("op {op} {answer:?}"));
    with(|r| r.events.push(Event::Return { op, at, answer }));
}

/// Something was done to the cluster.
pub fn fault(what: String) {
    let at = world::moment();
    world::trace(format_args!("fault: {what}"));
    with(|r| r.events.push(Event::Fault { at, what }));
}

/// Anything else.
pub fn event(event: Event) {
    with(|r| r.events.push(event));
}

/// A read was refused for its bound.
pub fn refused_bound() {
    with(|r| r.refused_bounds += 1);
}

/// Somebody was given a position.
pub fn give(token: Token) {
    /// Old ones are trivially reached.
    const KEEP: usize = 8;
    with(|r| {
        if r.tokens.len() == KEEP {
            r.tokens.remove(0);
        }
        r.tokens.push(token);
    });
}

/// One of the last positions that anybody was given.
#[must_use]
pub fn token(number: u64) -> Option<Token> {
    with(|r| r.tokens.get(number as usize % r.tokens.len().max(1)).cloned())
}
