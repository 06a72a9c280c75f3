//! Lines to steps.

use std::ops::Range;

use quorate_state_machine::{
    batch::{RecordRef, encode},
    command::{AppendPart, Command},
    types::{Batch, Incarnation, LogName, Offset, ProducerId, ReadLevel, Sequence, WriterEpoch},
};

/// One line.
pub enum Step {
    /// Absolute or relative milliseconds.
    Time {
        sign: Option<char>,
        ms: u64,
    },
    Term(u64),
    Entry(Vec<Scripted>),
    Blank,
    Membership(String),
    Raw(Vec<u8>),
    For(Range<u64>, String),
    Query(Vec<String>),
    Set(Vec<String>),
}

/// A command, and what is done to its bytes in the entry.
pub struct Scripted {
    pub command: Command,
    pub damage: Damage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    None,
    /// The last byte is inverted: a wrong checksum, or a wrong option.
    LastByte,
    /// The kind is one that no build knows.
    Kind,
}

pub fn step(line: &str) -> Step {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words = || line.split_whitespace().map(str::to_owned).collect();
    match first {
        "time" => {
            let sign = rest.chars().next().filter(|c| "+-".contains(*c));
            Step::Time { sign, ms: duration(rest.trim_start_matches(['+', '-'])) }
        }
        "term" => Step::Term(number(rest)),
        "blank" => Step::Blank,
        "membership" => Step::Membership(rest.to_owned()),
        "raw" => Step::Raw(hex(rest)),
        "for" => {
            let (range, template) = rest.split_once(": ").expect("for A..B: COMMAND");
            Step::For(self::range(range), template.to_owned())
        }
        "logs" | "log" | "read" | "find" | "group" | "digest" | "marks" | "rows" | "term-of" => {
            Step::Query(words())
        }
        "set" => Step::Set(words()),
        _ => Step::Entry(line.split(" ; ").map(scripted).collect()),
    }
}

fn scripted(text: &str) -> Scripted {
    let (damage, text) = match text.split_once(' ') {
        Some(("damaged", rest)) => (Damage::LastByte, rest),
        Some(("future", rest)) => (Damage::Kind, rest),
        _ => (Damage::None, text),
    };
    Scripted { command: command(text), damage }
}

fn command(text: &str) -> Command {
    let words: Vec<&str> = text.split_whitespace().collect();
    let option = |key: &str| option(&words, key);
    let name = || name(words.get(1).unwrap_or_else(|| panic!("no name in {text:?}")));
    let inc = option("inc").map(incarnation);
    match words[0] {
        "create" => Command::CreateLog {
            name: name(),
            if_absent: words.contains(&"absent"),
            read_level: option("level").and_then(read_level),
        },
        "level" => Command::SetReadLevel {
            name: name(),
            read_level: read_level(words[2]),
            incarnation: inc,
        },
        "delete" => Command::DeleteLog { name: name(), incarnation: inc },
        "trim" => {
            Command::TrimLog { name: name(), before: Offset(number(words[2])), incarnation: inc }
        }
        "fence" => Command::Fence {
            name: name(),
            min_epoch: option("min").map(|n| WriterEpoch(number(n))),
            incarnation: inc,
        },
        "mark" => Command::MarkDigest,
        "append" => Command::Append(words[1..].split(|word| *word == "+").map(part).collect()),
        other => panic!("what is {other:?}?"),
    }
}

fn part(words: &[&str]) -> AppendPart {
    let option = |key: &str| option(words, key);
    let records: Vec<&str> = words[1..].iter().filter(|w| !w.contains('=')).copied().collect();
    let refs = records.iter().map(|r| RecordRef { value: r.as_bytes(), ..RecordRef::default() });
    let mut batch = Batch::validate(encode(refs), None).expect("a script appends valid batches");
    if let Some(count) = option("count") {
        batch.count = u32::try_from(number(count)).expect("a count of 32 bits");
    }
    AppendPart {
        log: name(words[0]),
        expected_offset: option("offset").map(|n| Offset(number(n))),
        writer_epoch: option("epoch").map(|n| WriterEpoch(number(n))),
        producer: option("from").map(|from| {
            let (id, sequence) = from.split_once(':').expect("from=PRODUCER:SEQUENCE");
            (producer(id), Sequence(number(sequence)))
        }),
        incarnation: option("inc").map(incarnation),
        batch,
    }
}

/// The value of `key=value`.
pub fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

pub fn name(text: &str) -> LogName {
    LogName::new(text).expect("a script uses valid names")
}

fn read_level(text: &str) -> Option<ReadLevel> {
    match text {
        "none" => None,
        "linearizable" => Some(ReadLevel::Linearizable),
        "eventual" => Some(ReadLevel::Eventual),
        ms => Some(ReadLevel::Bounded { max_staleness_ms: number(ms) }),
    }
}

/// The name, padded to 16 bytes.
pub fn producer(text: &str) -> ProducerId {
    let mut id = [b'.'; 16];
    id[..text.len()].copy_from_slice(text.as_bytes());
    ProducerId(id)
}

fn incarnation(text: &str) -> Incarnation {
    let (index, position) = text.split_once('.').expect("an incarnation is INDEX.POSITION");
    Incarnation(number(index) << 16 | number(position))
}

/// A number; `max` is the largest, and `max-N` one near it.
pub fn number(text: &str) -> u64 {
    match text.strip_prefix("max") {
        Some("") => u64::MAX,
        Some(less) => u64::MAX - number(less.strip_prefix('-').expect("max-N")),
        None => text.parse().unwrap_or_else(|_| panic!("{text:?} is no number")),
    }
}

pub fn range(text: &str) -> Range<u64> {
    let (from, to) = text.split_once("..").expect("a range is A..B");
    number(from)..number(to)
}

fn duration(text: &str) -> u64 {
    match text.strip_suffix('h') {
        Some(hours) => number(hours) * 3_600_000,
        None => number(text),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()
}
