//! Outcomes and state as lines.

use std::collections::BTreeMap;

use quorate_state_machine::{
    batch,
    memory::Memory,
    outcome::{Accepted, Appended, LogDescription, Outcome},
    read::{Reader, StoredBatch},
    types::{Incarnation, LogIndex, Offset, ProducerId, ReadLevel, TimestampMs},
};

use super::parse::{name, number, option, range};

/// The kind of an outcome: the name of the variant.
pub fn kind(outcome: &Outcome) -> String {
    let debug = match &outcome.result {
        Ok(accepted) => format!("{accepted:?}"),
        Err(refused) => format!("REFUSED {refused:?}"),
    };
    let kind: String = debug.chars().take_while(|c| c.is_alphanumeric() || *c == ' ').collect();
    kind.trim_end().to_owned()
}

pub fn outcome(outcome: &Outcome) -> String {
    let epoch = outcome.writer_epoch.map_or(String::new(), |e| format!(" epoch {e}"));
    let what = match &outcome.result {
        Ok(Accepted::Appended(parts)) => {
            let parts: Vec<_> = parts.iter().map(appended).collect();
            format!("Appended {}", parts.join(", "))
        }
        Ok(Accepted::Created(log, new)) => {
            format!("{} {}", if *new { "Created" } else { "Created before:" }, description(log))
        }
        Ok(Accepted::Deleted(i)) => format!("Deleted {}", incarnation(*i)),
        Ok(Accepted::Trimmed(i, start)) => format!("Trimmed {} to {start}", incarnation(*i)),
        Ok(Accepted::Fenced(i, epoch)) => format!("Fenced {} at {epoch}", incarnation(*i)),
        Ok(Accepted::ReadLevelSet(log)) => format!("ReadLevelSet {}", description(log)),
        Ok(Accepted::Marked(index)) => format!("Marked {index}"),
        Err(refused) => format!("{}: {refused}", kind(outcome)),
    };
    format!("{}.{} next {}{epoch}: {what}", outcome.at.term, outcome.at.index, outcome.next_offset)
}

fn appended(part: &Appended) -> String {
    let Appended { first_offset, next_offset, timestamp, deduplicated, incarnation: i } = part;
    let again = if *deduplicated { " again" } else { "" };
    format!("{first_offset}..{next_offset}{again} @{timestamp} to {}", incarnation(*i))
}

fn incarnation(incarnation: Incarnation) -> String {
    format!("{}.{}", incarnation.0 >> 16, incarnation.0 & 0xffff)
}

fn description(log: &LogDescription) -> String {
    let epoch = log.writer_epoch.map_or("-".to_owned(), |e| e.to_string());
    let level = match log.read_level {
        None => String::new(),
        Some(ReadLevel::Bounded { max_staleness_ms }) => format!(" level {max_staleness_ms} ms"),
        Some(level) => format!(" level {level:?}"),
    };
    format!(
        "{} {} {}..{} epoch {epoch} created @{} last @{} bytes {} producers {}{level}",
        log.name,
        incarnation(log.incarnation),
        log.start_offset,
        log.next_offset,
        log.created,
        log.last_timestamp,
        log.stored_bytes,
        log.producers
    )
}

fn producer(id: ProducerId) -> String {
    String::from_utf8_lossy(&id.0).trim_end_matches('.').to_owned()
}

fn stored(stored: &StoredBatch) -> String {
    let values: Vec<_> = batch::records(&stored.bytes)
        .map(|record| String::from_utf8_lossy(record.expect("checked").value).into_owned())
        .collect();
    let epoch = stored.writer_epoch.map_or(String::new(), |e| format!(" epoch {e}"));
    let from =
        stored.producer.map_or(String::new(), |(id, n)| format!(" from {}:{n}", producer(id)));
    let next = stored.first_offset.0 + u64::from(stored.count);
    format!(
        "{}..{next} @{}{epoch}{from}: {}",
        stored.first_offset,
        stored.timestamp,
        values.join(" ")
    )
}

pub fn query(memory: &Memory, words: &[&str]) -> Vec<String> {
    let reader = memory.reader().expect("sound state");
    let log = || reader.log(&name(words[1])).expect("sound state");
    match words[0] {
        "logs" => reader
            .list(
                option(words, "prefix").unwrap_or_default(),
                option(words, "after"),
                option(words, "limit").map_or(1000, |n| number(n) as usize),
            )
            .expect("sound state")
            .iter()
            .map(description)
            .collect(),
        "log" => vec![log().map_or("no such log".to_owned(), |log| description(&log))],
        "read" => {
            let log = log().expect("a script reads logs that exist");
            let wanted = range(words[2]);
            let bytes = option(words, "bytes").map_or(usize::MAX, |n| number(n) as usize);
            let (from, to) = (Offset(wanted.start), Offset(wanted.end));
            let batches = reader.batches(log.incarnation, from, to, bytes).expect("sound state");
            batches.iter().map(stored).collect()
        }
        "find" => {
            let log = log().expect("a script reads logs that exist");
            let found = reader.offset_for_timestamp(&log, TimestampMs(number(words[2])));
            vec![found.expect("sound state").map_or("none yet".to_owned(), |o| o.to_string())]
        }
        "group" => vec![format!(
            "applied {} logs {} time {}",
            reader.applied().map_or("-".to_owned(), |at| format!("{}.{}", at.term, at.index)),
            reader.log_count(),
            reader.log_time()
        )],
        "digest" => vec![reader.digest().to_string()],
        "marks" => marks(&reader),
        "rows" => vec![rows(memory)],
        "term-of" => {
            let term = reader.term_at(LogIndex(number(words[1]))).expect("sound state");
            vec![term.map_or("unknown".to_owned(), |t| t.to_string())]
        }
        other => panic!("what is {other:?}?"),
    }
}

fn marks(reader: &Reader<&Memory>) -> Vec<String> {
    let applied = reader.applied().map_or(0, |at| at.index.0);
    let mut out = Vec::new();
    for index in 0..=applied {
        if let Some(mark) = reader.digest_mark(LogIndex(index)).expect("sound state") {
            out.push(format!("at {index}: {}", mark.digest));
            out.extend(mark.logs.iter().map(|log| {
                let (inc, start, next) = (log.incarnation, log.start_offset, log.next_offset);
                format!("  {} {} {start}..{next} {}", log.name, incarnation(inc), log.digest)
            }));
        }
    }
    out
}

/// How many rows there are in each table.
fn rows(memory: &Memory) -> String {
    let mut tables = BTreeMap::<char, usize>::new();
    memory.rows().for_each(|(key, _)| *tables.entry(char::from(key[0])).or_default() += 1);
    let tables: Vec<_> = tables.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
    tables.join(", ")
}
