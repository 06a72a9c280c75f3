//! Operations as lines for people, one each.

use std::fmt::Write as _;

use quorate_jepsen_core::{
    history::History,
    ids::{Moment, OpId},
    op::{Answer, Call, Op},
};

/// Operations shown on either side of a counterexample.
const AROUND: usize = 20;

/// The operations on the log before and after each of `ops`, as lines, theirs marked.
#[must_use]
pub fn around(history: &History, log: &str, ops: &[OpId]) -> Vec<String> {
    let on_log: Vec<&Op> = history.ops.iter().filter(|op| op.call.log() == log).collect();
    let mut lines: Vec<String> = Vec::new();
    let mut shown = 0;
    // Those involved may be far from each other: what is between them is left out.
    for (at, _) in on_log.iter().enumerate().filter(|(_, op)| ops.contains(&op.id)) {
        let (from, to) =
            (at.saturating_sub(AROUND).max(shown), (at + AROUND + 1).min(on_log.len()));
        if from > shown && shown > 0 {
            lines.push(format!("   ... {} operations", from - shown));
        }
        lines.extend(
            on_log[from.min(to)..to].iter().map(|op| {
                format!("{} {}", if ops.contains(&op.id) { "->" } else { "  " }, line(op))
            }),
        );
        shown = shown.max(to);
    }
    lines
}

/// One operation as a line for people.
#[must_use]
pub fn line(op: &Op) -> String {
    let seconds = |at: Moment| at.0 as f64 / 1e9;
    let returned = op.returned.map_or("      ...".to_owned(), |at| format!("{:9.4}", seconds(at)));
    let mut text =
        format!("{:9.4} {returned} s  op {:<6} p{:<3} ", seconds(op.invoked), op.id.0, op.process);
    let done = match &op.call {
        Call::Append(append) => {
            let ids: Vec<_> = append.records.iter().map(|id| id.0.to_string()).collect();
            let mut call = format!("append {} [{}]", append.log, ids.join(" "));
            if let Some(offset) = append.expected_offset {
                write!(call, " expecting {offset}").expect("a String takes everything");
            }
            if let Some(epoch) = append.writer_epoch {
                write!(call, " epoch {epoch}").expect("a String takes everything");
            }
            if let Some(producer) = &append.producer {
                write!(call, " by {producer}").expect("a String takes everything");
            }
            call
        }
        Call::Create { log } => format!("create {log}"),
        Call::Delete { log } => format!("delete {log}"),
        Call::Fence { log } => format!("fence {log}"),
        Call::Trim { log, before } => format!("trim {log} up to {before}"),
        Call::Read { log, from, .. } => format!("read {log} from {from}"),
    };
    let came = match &op.answer {
        Answer::Appended { first_offset, next_offset, deduplicated, .. } => {
            let again = if *deduplicated { ", seen before" } else { "" };
            format!("ok {first_offset}..{next_offset}{again}")
        }
        Answer::Created { created, next_offset, .. } => {
            format!("ok {} end {next_offset}", if *created { "created" } else { "was there" })
        }
        Answer::Deleted { .. } => "ok deleted".to_owned(),
        Answer::Fenced { epoch, next_offset, .. } => format!("ok epoch {epoch} at {next_offset}"),
        Answer::Trimmed { start, .. } => format!("ok begins at {start}"),
        Answer::Read { batches, next_offset, .. } => {
            format!("ok {} batches, end {next_offset}", batches.len())
        }
        Answer::Refused { kind, .. } => format!("refused {kind}"),
        Answer::AppliedUnplaced { kind } => format!("applied {kind}"),
        Answer::Unknown { kind } => format!("unknown {kind}"),
    };
    text += &format!("{done}  =>  {came}");
    text
}
