//! Histories as EDN, for people who trust other checkers more than ours.
//!
//! [`plain`] is everything that is known, in the form of Jepsen's histories; [`elle`] is the part of
//! it that Elle's list-append checker understands, in its words. Both are one map a line.

mod value;

pub mod elle;
pub mod plain;

use std::collections::HashMap;

use crate::{
    history::History,
    ids::{Moment, OpId, Process},
    op::{Answer, Op},
};
pub use value::Edn;

/// What Jepsen calls the four kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Invoke,
    Ok,
    Fail,
    Info,
}

impl Type {
    fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Appended { .. }
            | Answer::Created { .. }
            | Answer::Deleted { .. }
            | Answer::Fenced { .. }
            | Answer::Trimmed { .. }
            | Answer::Read { .. }
            | Answer::AppliedUnplaced { .. } => Self::Ok,
            Answer::Refused { .. } => Self::Fail,
            Answer::Unknown { .. } => Self::Info,
        }
    }

    fn edn(self) -> Edn {
        Edn::Keyword(match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        })
    }
}

/// One event on its way into a file.
#[derive(Debug)]
struct Line<'a> {
    kind: Type,
    at: Moment,
    process: u64,
    op: &'a Op,
}

/// The events of operations in the order of time, under process names as Jepsen gives them: a
/// process whose operation was left open is never heard of again, and goes on under another name.
fn lines<'a>(ops: impl IntoIterator<Item = &'a Op>) -> Vec<Line<'a>> {
    // At one moment calls come before answers, because they may have been concurrent, unless the
    // call is the next one of the process that was just answered.
    let mut events: Vec<(Moment, u8, &Op, Type)> = Vec::new();
    let mut last_answer: HashMap<Process, Moment> = HashMap::new();
    let mut width = 1;
    let mut ops: Vec<&Op> = ops.into_iter().collect();
    ops.sort_by_key(|op| (op.invoked, op.id));
    let end = ops.iter().map(|op| op.returned.unwrap_or(op.invoked)).max().unwrap_or_default();
    for op in ops {
        let follows = last_answer.get(&op.process) == Some(&op.invoked);
        events.push((op.invoked, if follows { 2 } else { 0 }, op, Type::Invoke));
        // An operation that nobody answered is left open when everything is over.
        events.push((
            op.returned.unwrap_or(end),
            if follows { 3 } else { 1 },
            op,
            Type::of(&op.answer),
        ));
        last_answer.extend(op.returned.map(|at| (op.process, at)));
        width = width.max(u64::from(op.process.0) + 1);
    }
    events.sort_by_key(|(at, rank, op, _)| (*at, *rank, op.id));

    let mut lives: HashMap<Process, (u64, bool)> = HashMap::new();
    let mut names: HashMap<OpId, u64> = HashMap::new();
    let mut lines = Vec::with_capacity(events.len());
    for (at, _, op, kind) in events {
        let (life, busy) = lives.entry(op.process).or_default();
        let process = if kind == Type::Invoke {
            *life += u64::from(*busy);
            *busy = true;
            let name = u64::from(op.process.0) + *life * width;
            names.insert(op.id, name);
            name
        } else {
            let name = names.get(&op.id).copied().unwrap_or_default();
            let is_current = name == u64::from(op.process.0) + *life * width;
            if is_current && kind != Type::Info {
                *busy = false;
            }
            name
        };
        lines.push(Line { kind, at, process, op });
    }
    lines
}

/// When everything is over: what is read from the replicas comes after it.
fn end(history: &History) -> Moment {
    let ops = history.ops.iter().map(|op| op.returned.unwrap_or(op.invoked));
    let faults = history.faults.iter().map(|(at, _)| *at);
    Moment(ops.chain(faults).max().unwrap_or_default().0 + 1)
}

/// The first process name that no operation has.
fn free_process(lines: &[Line<'_>]) -> u64 {
    lines.iter().map(|line| line.process + 1).max().unwrap_or_default()
}

fn event(index: usize, kind: Type, process: Edn, f: &'static str, at: Moment) -> Vec<(Edn, Edn)> {
    vec![
        (Edn::Keyword("index"), Edn::number(index as u64)),
        (Edn::Keyword("time"), Edn::number(at.0)),
        (Edn::Keyword("type"), kind.edn()),
        (Edn::Keyword("process"), process),
        (Edn::Keyword("f"), Edn::Keyword(f)),
    ]
}

/// Why an operation did not simply succeed, in the words of the service.
fn error(answer: &Answer) -> Option<Edn> {
    match answer {
        Answer::Refused { kind, .. }
        | Answer::AppliedUnplaced { kind }
        | Answer::Unknown { kind } => Some(Edn::Text(kind.clone())),
        _ => None,
    }
}
