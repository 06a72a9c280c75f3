//! Expected offsets: done means the base was the end of the log; a miss states another end.

use super::{FinalLog, Findings, Kind};
use crate::op::{Answer, Call, Op};

pub(super) fn check(log: &FinalLog, ops: &[&Op], found: &mut Findings) {
    for op in ops {
        let Call::Append(append) = &op.call else { continue };
        let Some(expected) = append.expected_offset else { continue };
        match &op.answer {
            Answer::Appended { first_offset, .. } if *first_offset != expected => {
                let what = format!("expected {expected}, appended at {first_offset}");
                found.add(Kind::ExpectedOffsetIgnored, &log.name, &[op.id], what);
            }
            Answer::Refused { kind, next_offset, .. }
                if kind == "OFFSET_MISMATCH" && *next_offset == Some(expected) =>
            {
                let what = format!("refused though the log ended at {expected}");
                found.add(Kind::ExpectedOffsetMisjudged, &log.name, &[op.id], what);
            }
            // Wherever it landed in the end, it must have been there.
            _ => {
                if let Some(offset) = append.records.first().and_then(|id| log.offset_of(*id))
                    && offset != expected
                {
                    let what = format!("expected {expected}, found at {offset}");
                    found.add(Kind::ExpectedOffsetIgnored, &log.name, &[op.id], what);
                }
            }
        }
    }
}
