//! A counterexample as a picture and as sentences: what was done, in the order in which it was, and who
//! led meanwhile.

use std::collections::BTreeMap;

use quorate_jepsen_core::{
    check::Anomaly,
    history::History,
    ids::{OpId, Process, RecordId},
    op::{Answer, Append, Call, Claim, Op},
};

use super::{
    charts::{Charts, outcome, seconds},
    plot::{Plot, Scale, escape},
};
use crate::suite::{
    results::line,
    timeline::{FaultMark, Mark},
};

/// Clients in the picture besides those involved: enough to see that others were served.
const OTHERS: usize = 6;

/// Operations around each that is involved, on either side.
const AROUND: usize = 20;

/// More of an operation's records and batches than these are only counted.
const SHOWN: usize = 6;

/// The operations involved, in the order in which they were called.
#[must_use]
pub fn involved<'a>(history: &'a History, anomaly: &Anomaly) -> Vec<&'a Op> {
    history.ops.iter().filter(|op| anomaly.ops.contains(&op.id)).collect()
}

/// What was being done to the cluster from the first of them to the last.
#[must_use]
pub fn meanwhile(marks: &[Mark], ops: &[&Op]) -> Vec<String> {
    let from = ops.iter().map(|op| op.invoked).min().unwrap_or_default();
    let to = ops.iter().filter_map(|op| op.returned).max().unwrap_or(from);
    let told = |fault: &FaultMark, when: &str| {
        let hit: Vec<_> = fault.hit.iter().map(|node| format!("n{node}")).collect();
        format!(
            "{when}, from {:.3} s to {:.3} s: {}, which hit {} ({}). {}",
            seconds(fault.from),
            seconds(fault.to),
            fault.what,
            hit.join(" "),
            fault.effect,
            fault.kind.what()
        )
    };
    let mut faults = marks.iter().filter_map(|mark| match mark {
        Mark::Fault(fault) => Some(fault),
        _ => None,
    });
    let during = |fault: &&FaultMark| fault.from <= to && fault.to >= from;
    let during: Vec<_> = faults.clone().filter(during).collect();
    // What led to it is often the healing of the fault before.
    let before = faults.rfind(|fault| fault.to < from);
    let before = before.filter(|_| during.is_empty());
    let before = before.map(|fault| {
        let ago = seconds(from) - seconds(fault.to);
        told(fault, &format!("The fault before ended {ago:.1} s earlier"))
    });
    before.into_iter().chain(during.into_iter().map(|fault| told(fault, "Meanwhile"))).collect()
}

/// What was at the offsets of acknowledged appends when all replicas were read back, a sentence a
/// replica that has something else there.
#[must_use]
pub fn in_the_end(history: &History, ops: &[&Op]) -> Vec<String> {
    let mut told = Vec::new();
    for op in ops {
        let (Call::Append(append), Answer::Appended { first_offset, next_offset, .. }) =
            (&op.call, &op.answer)
        else {
            continue;
        };
        let asked: Vec<_> = append.records.iter().map(|record| Some(*record)).collect();
        for replica in history.replicas.iter().filter(|replica| replica.log == append.log) {
            let there: Vec<_> = replica
                .batches
                .iter()
                .flat_map(|batch| (batch.first_offset.0..).zip(&batch.records))
                .filter(|(offset, _)| (first_offset.0..next_offset.0).contains(offset))
                .map(|(_, record)| *record)
                .collect();
            if there != asked {
                told.push(format!(
                    "In the end n{} had {} at offsets {first_offset} to {}",
                    replica.node,
                    records(&there),
                    next_offset.0.saturating_sub(1)
                ));
            }
        }
        told.extend(stored_again(history, append));
    }
    told
}

/// Where the records of an append were, if they were there more than once: a sentence for all replicas
/// that say the same.
fn stored_again(history: &History, append: &Append) -> Vec<String> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for replica in history.replicas.iter().filter(|replica| replica.log == append.log) {
        let stored = replica
            .batches
            .iter()
            .flat_map(|batch| (batch.first_offset.0..).zip(batch.records.iter().copied()));
        let mut places: BTreeMap<RecordId, Vec<u64>> = BTreeMap::new();
        for (offset, record) in stored {
            if let Some(record) = record.filter(|record| append.records.contains(record)) {
                places.entry(record).or_default().push(offset);
            }
        }
        for (record, offsets) in places.iter().filter(|(_, offsets)| offsets.len() > 1).take(SHOWN)
        {
            let offsets: Vec<_> = offsets.iter().map(ToString::to_string).collect();
            let what = format!(
                "record {record} {} times, at offsets {}",
                offsets.len(),
                offsets.join(", ")
            );
            told.entry(what).or_default().push(format!("n{}", replica.node));
        }
    }
    let sentence =
        |(what, nodes): (_, Vec<String>)| format!("In the end {} had {what}", nodes.join(", "));
    told.into_iter().map(sentence).collect()
}

fn records(all: &[Option<RecordId>]) -> String {
    let name = |record: &Option<RecordId>| {
        record.map_or("damaged bytes".to_owned(), |record| format!("record {record}"))
    };
    let mut names: Vec<_> = all.iter().take(SHOWN).map(name).collect();
    match all.len() {
        0 => return "nothing".to_owned(),
        more if more > SHOWN => names.push(format!("{} more", more - SHOWN)),
        _ => {}
    }
    names.join(", ")
}

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
        Call::Trim { log, before } => format!("trimmed {log:?} up to offset {before}"),
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

fn answered(op: &Op) -> String {
    match &op.answer {
        Answer::Appended { first_offset, next_offset, deduplicated, .. } => {
            let again = if *deduplicated { " (by an attempt before)" } else { "" };
            let last = next_offset.0.saturating_sub(1);
            format!("acknowledged, at offsets {first_offset} to {last}{again}")
        }
        Answer::Created { created: true, .. } => "created".to_owned(),
        Answer::Created { next_offset, .. } => {
            format!("it was there, and ends at offset {next_offset}")
        }
        Answer::Deleted { .. } => "deleted".to_owned(),
        Answer::Fenced { epoch, next_offset, .. } => {
            format!("epoch {epoch} from offset {next_offset} on")
        }
        Answer::Trimmed { start, .. } => format!("the log begins at offset {start}"),
        Answer::Read { next_offset, stamp, .. } => {
            let at = stamp.map(|stamp| format!(", as of log index {}", stamp.log_index));
            format!("the log ends at offset {next_offset}{}", at.unwrap_or_default())
        }
        Answer::Refused { kind, .. } => format!("refused, {kind}"),
        Answer::AppliedUnplaced { kind } => format!("done, but not where ({kind})"),
        Answer::Unknown { kind } => format!("unknown whether it was done ({kind})"),
    }
}

impl Charts<'_> {
    /// The picture: above, who led; below, a row for each client involved, and for some others.
    #[must_use]
    pub fn story(&self, history: &History, ops: &[&Op]) -> Option<String> {
        let from = seconds(ops.first()?.invoked);
        let to =
            ops.iter().map(|op| seconds(op.returned.unwrap_or(op.invoked))).fold(from, f64::max);
        // What led to it is often the fault before.
        let margin = ((to - from) * 0.15).max(0.05);
        let (from, to) = ((from - margin).max(0.0), to + margin);
        let log = ops.first()?.call.log();
        let near = near(history, log, ops);
        let mut clients: Vec<Process> = ops.iter().map(|op| op.process).collect();
        let others = near.iter().map(|op| op.process).collect::<Vec<_>>();
        let most = clients.len() + OTHERS;
        for process in others {
            if clients.len() < most && !clients.contains(&process) {
                clients.push(process);
            }
        }
        clients.dedup();
        let nodes = self.nodes();
        let rows = nodes.len() + clients.len();
        let mut plot = Plot::new(from, to, 42.0 + 24.0 * rows as f64, Scale::Rows(rows));
        plot.faults(&self.faults);
        self.leader_rows(&mut plot, &nodes);
        for (at, process) in clients.iter().enumerate() {
            plot.row_name(nodes.len() + at, &format!("client {process}"));
        }
        let row =
            |op: &Op| clients.iter().position(|p| *p == op.process).map(|at| nodes.len() + at);
        for op in near.iter().filter(|op| !ops.iter().any(|guilty| guilty.id == op.id)) {
            let (begin, end) = (seconds(op.invoked), op.returned.map_or(to, seconds));
            if let Some(row) = row(op)
                && begin <= to
                && end >= from
            {
                plot.bar(
                    &format!("{} aside", outcome(op)),
                    row,
                    begin.max(from),
                    end.min(to),
                    &line(op),
                );
            }
        }
        for (number, op) in ops.iter().enumerate() {
            if let Some(row) = row(op) {
                let end = op.returned.map_or(to, seconds);
                let class = format!("{} guilty", outcome(op));
                plot.bar(&class, row, seconds(op.invoked), end, &line(op));
                plot.label(row, end, &format!("{} {}", number + 1, answered(op)));
            }
        }
        Some(plot.finish())
    }
}

/// Operations on the log a little before and after each of those involved.
fn near<'a>(history: &'a History, log: &str, ops: &[&Op]) -> Vec<&'a Op> {
    let on_log: Vec<&Op> = history.ops.iter().filter(|op| op.call.log() == log).collect();
    let mut ids: Vec<OpId> = Vec::new();
    for guilty in ops {
        let at = on_log.partition_point(|op| (op.invoked, op.id) < (guilty.invoked, guilty.id));
        let range = at.saturating_sub(AROUND)..(at + AROUND + 1).min(on_log.len());
        ids.extend(on_log[range].iter().map(|op| op.id));
    }
    ids.sort_unstable();
    ids.dedup();
    on_log.into_iter().filter(|op| ids.binary_search(&op.id).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use quorate_jepsen_core::{
        check::{Kind, check},
        ids::{Moment, Node, Offset, RecordId},
        op::{Append, Batch, Claim, ReplicaLog},
    };

    use super::*;

    /// One append, acknowledged; then a read that does not show it.
    fn stale() -> History {
        let log = || "orders".to_owned();
        let op = |id, from, to, call, answer| Op {
            id: OpId(id),
            process: Process(id as u32),
            invoked: Moment(from),
            returned: Some(Moment(to)),
            call,
            answer,
        };
        let append = Append { log: log(), records: vec![RecordId(7)], ..Append::default() };
        let appended = Answer::Appended {
            first_offset: Offset(0),
            next_offset: Offset(1),
            deduplicated: false,
            stamp: None,
        };
        let read = Call::Read { log: log(), from: Offset(0), linearizable: true };
        let shown = Answer::Read { batches: Vec::new(), next_offset: Offset(0), stamp: None };
        let batch = Batch {
            first_offset: Offset(0),
            records: vec![Some(RecordId(7))],
            timestamp_ms: 1,
            crc32c: 0,
            writer_epoch: None,
            producer: None,
        };
        let replica = ReplicaLog {
            node: Node(1),
            log: log(),
            incarnation: None,
            start_offset: Offset(0),
            next_offset: Offset(1),
            batches: vec![batch],
        };
        History {
            ops: vec![
                op(1, 1_000_000, 2_000_000, Call::Append(append), appended),
                op(2, 3_000_000, 4_000_000, read, shown),
            ],
            claims: vec![Claim {
                op: OpId(2),
                node: Node(3),
                bound_ms: None,
                age_ms: None,
                at_least: None,
                served: None,
            }],
            replicas: vec![replica],
            expected_replicas: 1,
            ..History::default()
        }
    }

    #[test]
    fn a_counterexample_is_told_step_by_step() {
        let history = stale();
        let report = check(&history);
        let found = report.anomalies.iter().find(|found| found.kind == Kind::StaleRead).unwrap();
        let ops = involved(&history, found);
        assert_eq!(ops.iter().map(|op| op.id.0).collect::<Vec<_>>(), [1, 2]);
        let text = sentences(&history, &ops);
        for part in [
            "client 1 appended record 7 to &quot;orders&quot;",
            "acknowledged, at offsets 0 to 0",
            "by n3: the log ends at offset 0",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        let picture = Charts::new(&history, &[]).story(&history, &ops).unwrap();
        for part in ["client 1", "client 2", "1 acknowledged", "2 the log ends at offset 0"] {
            assert!(picture.contains(part), "{part:?} is not in {picture}");
        }
    }

    #[test]
    fn copies_are_told_with_their_places() {
        let mut history = stale();
        let mut copy = history.replicas[0].batches[0].clone();
        copy.first_offset = Offset(1);
        history.replicas[0].batches.push(copy);
        let mut other = history.replicas[0].clone();
        other.node = Node(2);
        history.replicas.push(other);
        let found = check(&history).anomalies;
        let found = found.iter().find(|found| found.kind == Kind::DuplicateRecord).unwrap();
        let told = in_the_end(&history, &involved(&history, found));
        assert_eq!(told, ["In the end n1, n2 had record 7 2 times, at offsets 0, 1"]);
    }

    #[test]
    fn what_is_far_apart_is_shown_with_a_gap() {
        let mut history = stale();
        let between = history.ops[0].clone();
        for number in 0..200 {
            let at = Moment(2_000_001 + number);
            let (id, records) = (OpId(10 + number), vec![RecordId(100 + number)]);
            let call =
                Call::Append(Append { log: "orders".to_owned(), records, ..Append::default() });
            let answer = Answer::Unknown { kind: "x".to_owned() };
            history.ops.push(Op { id, invoked: at, returned: None, call, answer, ..between });
        }
        history.ops.sort_by_key(|op| (op.invoked, op.id));
        let lines = crate::suite::results::around(&history, "orders", &[OpId(1), OpId(2)]);
        let marked = lines.iter().filter(|line| line.starts_with("->")).count();
        assert_eq!(marked, 2, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("... 160 operations")), "{lines:#?}");
    }
}
