//! Appends and linearizable reads as transactions over lists, as Elle's `list-append` checker takes
//! them: `{:f :txn, :value [[:append "orders/3" 17] [:r "orders/4" [18 19]]]}`.
//!
//! A read of ours begins somewhere in the middle of a log, while a read of Elle's shows a whole list.
//! So a log is cut into lists of [`WIDTH`] offsets each, and a read of ours is one of those lists that
//! it shows from their first offset on. In which list a record is follows from where it is at the end
//! (or, if it is nowhere, from what was acknowledged). If the log is linearizable, so are its pieces,
//! and each operation touches all its pieces at one moment: what Elle finds is really wrong. The
//! reverse does not hold: offsets, epochs, producers and bounded reads are nothing that Elle knows of.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use super::{Edn, Type, end, error, event, free_process, lines};
use crate::{
    check::FinalLog,
    history::History,
    ids::{Offset, RecordId},
    op::{Answer, Batch, Call, Op},
};

/// Offsets of one list. A read of the last 20 records, as the workloads make them, shows at least one
/// list from its begin.
pub const WIDTH: u64 = 10;

/// Writes the history.
///
/// # Errors
/// Whatever the writer fails with.
pub fn write(history: &History, mut to: impl Write) -> io::Result<()> {
    let finals = FinalLog::of(history);
    // Elle's lists lose nothing.
    let losing = |op: &&Op| matches!(op.call, Call::Trim { .. } | Call::Delete { .. });
    let cut: BTreeSet<&str> = history.ops.iter().filter(losing).map(|op| op.call.log()).collect();
    let whole = |log: &str| !cut.contains(log);
    let ops = history.ops.iter().filter(|op| whole(op.call.log()) && speaks_of_lists(op));
    let lines = lines(ops);
    let mut index = 0;
    for line in &lines {
        let mut entries = event(index, line.kind, Edn::number(line.process), "txn", line.at);
        let value = transaction(line.op, line.kind, finals.get(line.op.call.log()));
        entries.push((Edn::Keyword("value"), value));
        if line.kind != Type::Invoke {
            entries.extend(error(&line.op.answer).map(|why| (Edn::Keyword("error"), why)));
        }
        writeln!(to, "{}", Edn::Map(entries))?;
        index += 1;
    }
    let (free, at) = (free_process(&lines), end(history));
    for (number, replica) in history.replicas.iter().enumerate() {
        if !whole(&replica.log) {
            continue;
        }
        for kind in [Type::Invoke, Type::Ok] {
            let mut entries = event(index, kind, Edn::number(free + number as u64), "txn", at);
            let shown = (replica.start_offset, replica.batches.as_slice(), replica.next_offset);
            let value = read(&replica.log, shown, kind);
            entries.push((Edn::Keyword("value"), value));
            writeln!(to, "{}", Edn::Map(entries))?;
            index += 1;
        }
    }
    Ok(())
}

/// Reads of a bounded age may be old, and a fence touches no list.
fn speaks_of_lists(op: &Op) -> bool {
    match &op.call {
        Call::Append(_) => true,
        Call::Read { linearizable, .. } => *linearizable,
        Call::Create { .. } | Call::Delete { .. } | Call::Fence { .. } | Call::Trim { .. } => false,
    }
}

fn key(log: &str, list: u64) -> Edn {
    Edn::Text(format!("{log}/{list}"))
}

fn transaction(op: &Op, kind: Type, log: Option<&FinalLog>) -> Edn {
    let name = op.call.log();
    match (&op.call, &op.answer) {
        (Call::Append(append), answer) => {
            let acknowledged = match answer {
                Answer::Appended { first_offset, .. } => Some(*first_offset),
                _ => None,
            };
            let appends = append.records.iter().enumerate().map(|(at, id)| {
                let place = log.and_then(|log| log.offset_of(*id));
                let place = place.or_else(|| acknowledged.map(|first| first.plus(at)));
                let list = match place {
                    Some(offset) => key(name, offset.0 / WIDTH),
                    // Nowhere, and nobody was told otherwise: a list that nobody reads.
                    None => Edn::Text(format!("{name}/nowhere")),
                };
                Edn::Vector(vec![Edn::Keyword("append"), list, Edn::number(id.0)])
            });
            Edn::Vector(appends.collect())
        }
        (Call::Read { from, .. }, Answer::Read { batches, next_offset, .. }) => {
            read(name, (*from, batches, *next_offset), kind)
        }
        _ => Edn::Vector(Vec::new()),
    }
}

/// The lists that a read shows from their begin; the last one may be as yet empty.
fn read(log: &str, shown: (Offset, &[Batch], Offset), kind: Type) -> Edn {
    let (from, batches, next) = shown;
    let mut lists: BTreeMap<u64, Vec<Edn>> = BTreeMap::new();
    for list in from.0.div_ceil(WIDTH)..=next.0 / WIDTH {
        lists.insert(list, Vec::new());
    }
    for batch in batches {
        for (at, record) in batch.records.iter().enumerate() {
            let offset = batch.first_offset.plus(at);
            if let Some(list) = lists.get_mut(&(offset.0 / WIDTH)) {
                list.push(element(*record, offset));
            }
        }
    }
    let reads = lists.into_iter().map(|(list, elements)| {
        let elements = if kind == Type::Invoke { Edn::Nil } else { Edn::Vector(elements) };
        Edn::Vector(vec![Edn::Keyword("r"), key(log, list), elements])
    });
    Edn::Vector(reads.collect())
}

/// Damaged bytes are an element that nobody appended.
fn element(record: Option<RecordId>, offset: Offset) -> Edn {
    Edn::Number(record.map_or(-1 - i128::from(offset.0), |id| i128::from(id.0)))
}
