//! Everything that is known, one event a line: calls and answers of clients, faults (process
//! `:nemesis`), and what each replica served at the end (`:f :final-read`).

use std::{
    collections::HashMap,
    io::{self, Write},
};

use super::{Edn, Line, Type, end, error, event, free_process, lines};
use crate::{
    history::History,
    ids::{Incarnation, Offset, OpId, Stamp},
    op::{Answer, Batch, Call, Claim, Identity, Op, ReplicaLog},
};

/// Writes the history.
///
/// # Errors
/// Whatever the writer fails with.
pub fn write(history: &History, mut to: impl Write) -> io::Result<()> {
    let lines = lines(&history.ops);
    let mut told: HashMap<OpId, Told<'_>> = HashMap::new();
    for claim in &history.claims {
        told.entry(claim.op).or_default().claim = Some(claim);
    }
    for identity in &history.identities {
        told.entry(identity.op).or_default().identity = Some(identity);
    }
    let mut faults: Vec<_> = history.faults.iter().collect();
    faults.sort_by_key(|(at, _)| *at);
    let mut faults = faults.into_iter().peekable();
    let mut index = 0;
    let mut put = |entries: &dyn Fn(usize) -> Vec<(Edn, Edn)>| -> io::Result<()> {
        writeln!(to, "{}", Edn::Map(entries(index)))?;
        index += 1;
        Ok(())
    };
    let fault = |at, what: &str, index| {
        let mut entries = event(index, Type::Info, Edn::Keyword("nemesis"), "fault", at);
        entries.push((Edn::Keyword("value"), Edn::from(what)));
        entries
    };
    for line in &lines {
        while let Some((at, what)) = faults.next_if(|(at, _)| *at <= line.at) {
            put(&|index| fault(*at, what, index))?;
        }
        put(&|index| operation(line, told.get(&line.op.id).copied().unwrap_or_default(), index))?;
    }
    for (at, what) in faults {
        put(&|index| fault(*at, what, index))?;
    }
    let (free, at) = (free_process(&lines), end(history));
    for (number, replica) in history.replicas.iter().enumerate() {
        for kind in [Type::Invoke, Type::Ok] {
            put(&|index| {
                let process = Edn::number(free + number as u64);
                let mut entries = event(index, kind, process, "final-read", at);
                entries.push((Edn::Keyword("value"), final_read(replica, kind)));
                entries
            })?;
        }
    }
    Ok(())
}

/// What stands beside a call in the history.
#[derive(Clone, Copy, Default)]
struct Told<'a> {
    claim: Option<&'a Claim>,
    identity: Option<&'a Identity>,
}

fn operation(line: &Line<'_>, told: Told<'_>, index: usize) -> Vec<(Edn, Edn)> {
    let f = match &line.op.call {
        Call::Append(_) => "append",
        Call::Create { .. } => "create",
        Call::Delete { .. } => "delete",
        Call::Fence { .. } => "fence",
        Call::Trim { .. } => "trim",
        Call::Read { .. } => "read",
    };
    let mut entries = event(index, line.kind, Edn::number(line.process), f, line.at);
    entries.push((Edn::Keyword("value"), value(line.op, line.kind, told)));
    if line.kind != Type::Invoke {
        entries.extend(error(&line.op.answer).map(|why| (Edn::Keyword("error"), why)));
    }
    entries
}

fn offset(offset: Offset) -> Option<Edn> {
    Some(Edn::number(offset.0))
}

/// What was asked, and behind it, in an answer, what came.
fn value(op: &Op, kind: Type, told: Told<'_>) -> Edn {
    let mut entries = vec![("op", Some(Edn::number(op.id.0))), ("log", Some(op.call.log().into()))];
    match &op.call {
        Call::Append(append) => {
            let records = append.records.iter().map(|id| Edn::number(id.0)).collect();
            entries.extend([
                ("records", Some(Edn::Vector(records))),
                ("expected-offset", append.expected_offset.and_then(offset)),
                ("writer-epoch", append.writer_epoch.map(|epoch| Edn::number(epoch.0))),
                ("producer", append.producer.as_deref().map(Edn::from)),
            ]);
        }
        Call::Create { .. } | Call::Delete { .. } | Call::Fence { .. } => {}
        Call::Trim { before, .. } => entries.push(("before", offset(*before))),
        Call::Read { from, linearizable, .. } => entries
            .extend([("from", offset(*from)), ("linearizable", Some(Edn::Bool(*linearizable)))]),
    }
    let incarnation = |is: Option<Incarnation>| is.map(|is| Edn::number(is.0));
    if let Some(identity) = told.identity {
        entries.push(("for-incarnation", incarnation(identity.asked)));
    }
    if kind == Type::Invoke {
        return Edn::map(entries);
    }
    if let Some(identity) = told.identity {
        entries.push(("incarnation", incarnation(identity.answered)));
    }
    match &op.answer {
        Answer::Appended { first_offset, next_offset, deduplicated, stamp } => entries.extend([
            ("first-offset", offset(*first_offset)),
            ("next-offset", offset(*next_offset)),
            ("deduplicated", Some(Edn::Bool(*deduplicated))),
            ("stamp", stamp.as_ref().map(stamp_edn)),
        ]),
        Answer::Created { created, next_offset, stamp } => entries.extend([
            ("created", Some(Edn::Bool(*created))),
            ("next-offset", offset(*next_offset)),
            ("stamp", stamp.as_ref().map(stamp_edn)),
        ]),
        Answer::Deleted { stamp } => entries.push(("stamp", stamp.as_ref().map(stamp_edn))),
        Answer::Fenced { epoch, next_offset, stamp } => entries.extend([
            ("epoch", Some(Edn::number(epoch.0))),
            ("next-offset", offset(*next_offset)),
            ("stamp", stamp.as_ref().map(stamp_edn)),
        ]),
        Answer::Trimmed { start, stamp } => entries
            .extend([("start-offset", offset(*start)), ("stamp", stamp.as_ref().map(stamp_edn))]),
        Answer::Read { batches, next_offset, stamp } => entries.extend([
            ("batches", Some(Edn::Vector(batches.iter().map(batch).collect()))),
            ("next-offset", offset(*next_offset)),
            ("stamp", stamp.as_ref().map(stamp_edn)),
        ]),
        Answer::Refused { next_offset, stamp, .. } => entries.extend([
            ("next-offset", next_offset.and_then(offset)),
            ("stamp", stamp.as_ref().map(stamp_edn)),
        ]),
        Answer::AppliedUnplaced { .. } | Answer::Unknown { .. } => {}
    }
    if let Some(claim) = told.claim {
        entries.extend([
            ("node", Some(Edn::number(claim.node.0))),
            ("bound-ms", claim.bound_ms.map(Edn::number)),
            ("age-ms", claim.age_ms.map(Edn::number)),
            ("at-least", claim.at_least.and_then(offset)),
        ]);
    }
    Edn::map(entries)
}

fn stamp_edn(stamp: &Stamp) -> Edn {
    Edn::map([
        ("group", Some(Edn::number(u64::from(stamp.group)))),
        ("term", Some(Edn::number(stamp.term))),
        ("log-index", Some(Edn::number(stamp.log_index))),
        ("next-offset", offset(stamp.next_offset)),
        ("writer-epoch", Some(Edn::number(stamp.writer_epoch.0))),
    ])
}

fn batch(batch: &Batch) -> Edn {
    // nil: bytes that are no record of the test.
    let records = batch.records.iter().map(|id| id.map_or(Edn::Nil, |id| Edn::number(id.0)));
    let producer = batch
        .producer
        .as_ref()
        .map(|(id, sequence)| Edn::Vector(vec![Edn::from(id.as_str()), Edn::number(*sequence)]));
    Edn::map([
        ("first-offset", offset(batch.first_offset)),
        ("records", Some(Edn::Vector(records.collect()))),
        ("timestamp-ms", Some(Edn::number(batch.timestamp_ms))),
        ("crc32c", Some(Edn::number(u64::from(batch.crc32c)))),
        ("writer-epoch", batch.writer_epoch.map(|epoch| Edn::number(epoch.0))),
        ("producer", producer),
    ])
}

fn final_read(replica: &ReplicaLog, kind: Type) -> Edn {
    let mut entries = vec![
        ("node", Some(Edn::number(replica.node.0))),
        ("log", Some(replica.log.as_str().into())),
    ];
    if kind == Type::Ok {
        entries.extend([
            ("incarnation", replica.incarnation.map(|is| Edn::number(is.0))),
            ("start-offset", offset(replica.start_offset)),
            ("next-offset", offset(replica.next_offset)),
            ("batches", Some(Edn::Vector(replica.batches.iter().map(batch).collect()))),
        ]);
    }
    Edn::map(entries)
}
