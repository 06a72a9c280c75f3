//! Runs a script entry by entry, and then again in larger apply batches, which must not matter.

use std::collections::BTreeSet;

use quorate_state_machine::{
    apply::ApplyItem,
    dedupe::{Head, Remembered},
    entry::EntryBuilder,
    keys,
    memory::Memory,
    outcome::Outcome,
    types::{LogIndex, LogPoint, Offset, Term, TimestampMs, WriterEpoch},
    values::{GroupMeta, LogMeta},
    view::{View, Write, Writes},
};

use super::{
    parse::{self, Damage, Scripted, Step, number, option},
    show,
};

/// What happened, for running it again.
enum Event {
    Applied(ApplyItem, Vec<Outcome>),
    /// Rows were rewritten.
    Set(Writes),
}

#[derive(Default)]
pub struct Runner {
    memory: Memory,
    at: LogPoint,
    now: u64,
    events: Vec<Event>,
    /// Kinds of outcomes seen.
    pub seen: BTreeSet<String>,
}

impl Runner {
    /// Runs a script, and answers with what it should look like.
    pub fn run(&mut self, script: &str) -> String {
        let mut out = String::new();
        for line in script.lines().filter(|line| !line.starts_with("> ")) {
            out.push_str(line);
            out.push('\n');
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            for printed in self.step(parse::step(line)) {
                out.push_str("> ");
                out.push_str(&printed);
                out.push('\n');
            }
        }
        out
    }

    fn step(&mut self, step: Step) -> Vec<String> {
        match step {
            Step::Time { sign, ms } => {
                self.now = match sign {
                    Some('+') => self.now + ms,
                    Some(_) => self.now - ms,
                    None => ms,
                };
                Vec::new()
            }
            Step::Term(term) => {
                self.at.term = Term(term);
                Vec::new()
            }
            Step::Entry(commands) => {
                let payload = self.pack(&commands);
                self.apply(ApplyItem { payload: Some(payload.into()), ..ApplyItem::default() })
            }
            Step::Raw(payload) => {
                self.apply(ApplyItem { payload: Some(payload.into()), ..ApplyItem::default() })
            }
            Step::Blank => self.apply(ApplyItem::default()),
            Step::Membership(blob) => {
                self.apply(ApplyItem { membership: Some(blob.into()), ..ApplyItem::default() })
            }
            Step::For(range, template) => {
                let mut printed: Vec<_> = range
                    .map(|n| {
                        self.step(parse::step(&template.replace('$', &n.to_string()))).concat()
                    })
                    .collect();
                let count = printed.len();
                if count > 2 {
                    printed.splice(1..count - 1, [format!("... {} more", count - 2)]);
                }
                printed
            }
            Step::Query(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                show::query(&self.memory, &words)
            }
            Step::Set(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.set(&words);
                Vec::new()
            }
        }
    }

    fn pack(&self, commands: &[Scripted]) -> Vec<u8> {
        let mut builder = EntryBuilder::new();
        let mut damage = Vec::new();
        for scripted in commands {
            let start = builder.len();
            builder.push(&scripted.command);
            damage.push((scripted.damage, start + 4, builder.len() - 1));
        }
        let mut payload = builder.finish(TimestampMs(self.now)).to_vec();
        for (damage, kind, last) in damage {
            match damage {
                Damage::None => {}
                Damage::LastByte => payload[last] ^= 0xff,
                Damage::Kind => payload[kind] = 99,
            }
        }
        payload
    }

    fn apply(&mut self, mut item: ApplyItem) -> Vec<String> {
        self.at.index.0 += 1;
        if self.at.term.0 == 0 {
            self.at.term = Term(1);
        }
        item.at = self.at;
        let outcomes = self.memory.apply(std::slice::from_ref(&item)).expect("sound state");
        let outcomes = outcomes.into_iter().next().expect("one list per item");
        self.seen.extend(outcomes.iter().map(show::kind));
        let printed = outcomes.iter().map(show::outcome).collect();
        self.events.push(Event::Applied(item, outcomes));
        printed
    }

    /// Rewrites rows, for states that no script could reach by appending.
    fn set(&mut self, words: &[&str]) {
        let number_of = |key: &str| option(words, key).map(number);
        let mut writes = Writes::default();
        let mut put = |key, row: Vec<u8>| writes.0.push(Write::Put(key, row.into()));
        if words[1] == "group" {
            let row = self.memory.get(&keys::group()).unwrap();
            let mut group =
                row.map_or_else(GroupMeta::default, |row| GroupMeta::decode(&row).unwrap());
            group.logs = number_of("logs").unwrap_or(group.logs);
            group.epoch_floor = number_of("floor").unwrap_or(group.epoch_floor);
            if let Some(index) = number_of("index") {
                self.at.index = LogIndex(index);
                group.applied = Some(self.at);
            }
            put(keys::group(), group.encode());
        } else {
            let key = keys::log(words[1]);
            let mut log = LogMeta::decode(&self.memory.get(&key).unwrap().unwrap()).unwrap();
            log.next_offset = Offset(number_of("next").unwrap_or(log.next_offset.0));
            log.total_bytes = number_of("bytes").unwrap_or(log.total_bytes);
            log.producers = number_of("producers").unwrap_or(log.producers);
            log.writer_epoch = number_of("epoch").map(WriterEpoch).or(log.writer_epoch);
            if let Some(id) = option(words, "producer") {
                let key = keys::producer(log.incarnation, parse::producer(id));
                let mut head = Head::decode(&self.memory.get(&key).unwrap().unwrap()).unwrap();
                head.next = number_of("sequence").expect("sequence=N");
                let remembered = Remembered {
                    first_offset: Offset(0),
                    count: 1,
                    timestamp: TimestampMs(0),
                    crc32c: 0,
                };
                head.recent = vec![remembered; (head.next % 16) as usize];
                put(key, head.encode());
            }
            put(key, log.encode());
        }
        self.memory.write(writes.clone());
        self.events.push(Event::Set(writes));
    }

    /// Applies everything again in batches of `size` entries.
    pub fn check_in_batches_of(&self, size: usize) {
        let mut memory = Memory::new();
        let mut items = Vec::new();
        let mut expected = Vec::new();
        for event in &self.events {
            match event {
                Event::Applied(item, outcomes) => {
                    items.push(item.clone());
                    expected.push(outcomes.clone());
                }
                Event::Set(writes) => {
                    flush(&mut memory, &mut items, &mut expected);
                    memory.write(writes.clone());
                }
            }
            if items.len() == size {
                flush(&mut memory, &mut items, &mut expected);
            }
        }
        flush(&mut memory, &mut items, &mut expected);
        assert!(memory == self.memory, "batches of {size} entries leave other rows");
    }
}

fn flush(memory: &mut Memory, items: &mut Vec<ApplyItem>, expected: &mut Vec<Vec<Outcome>>) {
    if !items.is_empty() {
        let outcomes = memory.apply(&std::mem::take(items)).expect("sound state");
        assert_eq!(outcomes, std::mem::take(expected), "outcomes do not depend on apply batches");
    }
}
