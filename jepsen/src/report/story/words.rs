//! The operations of a counterexample as sentences.

use quorate_jepsen_core::{
    history::History,
    op::{Answer, Call, Claim, Op},
};

use super::{
    super::{charts::seconds, plot::escape},
    SHOWN,
};

/// What happened, a sentence an operation.
#[must_use]
pub fn sentences(history: &History, ops: &[&Op]) -> String {
    let mut out = String::new();
    for (number, op) in ops.iter().enumerate() {
        let came = match op.returned {
            Some(at) => format!("at {:.4} s", seconds(at)),
            None => "never".to_owned(),
        };
        let claim = history.claims.iter().find(|claim| claim.op == op.id);
        let by = claim.map(|claim| format!(", by n{}", claim.node)).unwrap_or_default();
        out += &format!(
            "<li><b class=\"mark\">{}</b> At {:.4} s client {} {} (op {}). The answer came \
             {came}{by}: {}.</li>\n",
            number + 1,
            seconds(op.invoked),
            op.process,
            escape(&asked(op, claim)),
            op.id,
            escape(&answered(op)),
        );
    }
    out
}

fn asked(op: &Op, claim: Option<&Claim>) -> String {
    match &op.call {
        Call::Append(append) => {
            let ids: Vec<_> = append.records.iter().take(SHOWN).map(ToString::to_string).collect();
            let more = if append.records.len() > SHOWN { ", ..." } else { "" };
            let records = if append.records.len() == 1 { "record" } else { "records" };
            let mut text =
                format!("appended {records} {}{more} to {:?}", ids.join(", "), append.log);
            if let Some(offset) = append.expected_offset {
                text += &format!(", but only at offset {offset}");
            }
            if let Some(epoch) = append.writer_epoch {
                text += &format!(", under writer epoch {epoch}");
            }
            if let Some(producer) = &append.producer {
                text += &format!(
                    ", as {producer}, and sent it again under the same sequence number until an answer \
                     came"
                );
            }
            text
        }
        Call::Create { log } => format!("created {log:?}"),
        Call::Delete { log } => format!("deleted {log:?}"),
        Call::Fence { log } => format!("took {log:?} by raising its writer epoch"),
        Call::Trim { log, before } => format!("trimmed the offsets before {before} of {log:?}"),
        Call::Read { log, linearizable: true, .. } => {
            format!("read the end of {log:?}, all that was acknowledged before (linearizable)")
        }
        Call::Read { log, from, .. } => match claim.and_then(|claim| claim.bound_ms) {
            Some(bound) => format!("read the end of {log:?}, no older than {bound} ms"),
            None if claim.is_some_and(|claim| claim.at_least.is_some()) => {
                format!("read the end of {log:?}, as new as what it had seen")
            }
            None => format!("read {log:?} from offset {from} on, however old it might be"),
        },
    }
}

pub(super) fn answered(op: &Op) -> String {
    match &op.answer {
        Answer::Appended { first_offset, next_offset, deduplicated, .. } => {
            let again = if *deduplicated { " (by an attempt before)" } else { "" };
            let last = next_offset.0.saturating_sub(1);
            format!("acknowledged, at offsets {first_offset} to {last}{again}")
        }
        Answer::Created { created: true, .. } => "created".to_owned(),
        Answer::Created { next_offset, .. } => {
            format!("it was there, and ends before offset {next_offset}")
        }
        Answer::Deleted { .. } => "deleted".to_owned(),
        Answer::Fenced { epoch, next_offset, .. } => {
            format!("epoch {epoch} from offset {next_offset} on")
        }
        Answer::Trimmed { start, .. } => format!("the log begins at offset {start}"),
        Answer::Read { next_offset, stamp, .. } => {
            let end = match next_offset.0 {
                0 => "the log is empty".to_owned(),
                next => format!("the log ends before offset {next}"),
            };
            let at = stamp.map(|stamp| format!(", as of log index {}", stamp.log_index));
            format!("{end}{}", at.unwrap_or_default())
        }
        Answer::Refused { kind, .. } => format!("refused, {kind}"),
        Answer::AppliedUnplaced { kind } => format!("done, but not where ({kind})"),
        Answer::Unknown { kind } => format!("unknown whether it was done ({kind})"),
    }
}
