//! What is exported is what Jepsen's tools expect: one map a line, numbered, in the order of time,
//! a process does one thing at a time and is silent once an operation of it was left open.
mod common;

use std::collections::{HashMap, HashSet};

use quorate_jepsen_core::{
    edn::{elle, plain},
    history::History,
    ids::{Moment, OpId, Process},
    op::{Answer, Op},
};

/// The value of a key that is a number or a keyword.
fn get<'a>(line: &'a str, key: &str) -> &'a str {
    let at = line.find(key).unwrap_or_else(|| panic!("no {key} in {line}")) + key.len() + 1;
    line[at..].split([',', '}']).next().unwrap()
}

fn text(history: &History, write: fn(&History, &mut Vec<u8>)) -> String {
    let mut bytes = Vec::new();
    write(history, &mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn plainly(history: &History, to: &mut Vec<u8>) {
    plain::write(history, to).unwrap();
}

fn for_elle(history: &History, to: &mut Vec<u8>) {
    elle::write(history, to).unwrap();
}

fn well_formed(text: &str) {
    let (mut busy, mut dead): (HashMap<String, bool>, HashSet<String>) = Default::default();
    let mut time = 0;
    for (number, line) in text.lines().enumerate() {
        assert!(line.starts_with("{:index ") && line.ends_with('}'), "{line}");
        assert_eq!(get(line, ":index").parse(), Ok(number), "{line}");
        let at: u64 = get(line, ":time").parse().unwrap();
        assert!(at >= time, "{line}");
        time = at;
        let (process, kind) = (get(line, ":process").to_owned(), get(line, ":type"));
        if process == ":nemesis" {
            continue;
        }
        assert!(!dead.contains(&process), "{line}");
        let was_busy = busy.insert(process.clone(), kind == ":invoke").unwrap_or(false);
        assert_eq!(was_busy, kind != ":invoke", "{line}");
        if kind == ":info" {
            dead.insert(process);
        }
    }
    assert!(busy.values().all(|busy| !busy), "every operation ends");
}

#[test]
fn processes_do_one_thing_at_a_time_and_die_with_an_open_operation() {
    for seed in 0..20 {
        let mut history = common::good(seed, 300);
        history.faults.push((Moment(5), "a \"fault\"".to_owned()));
        let plain = text(&history, plainly);
        well_formed(&plain);
        well_formed(&text(&history, for_elle));
        let events = 2 * history.ops.len() + 1 + 2 * history.replicas.len();
        assert_eq!(plain.lines().count(), events);
    }
}

#[test]
fn an_answer_and_the_next_call_at_one_moment_are_in_this_order() {
    let mut history = common::good(1, 2);
    let first = history.ops[0].clone();
    let answered = Op { returned: Some(Moment(7)), invoked: Moment(3), ..first.clone() };
    let next = Op { id: OpId(99), invoked: Moment(7), returned: Some(Moment(7)), ..first };
    history.ops = vec![answered, next];
    let text_of_both = text(&history, plainly);
    well_formed(&text_of_both);
    let names: HashSet<_> = text_of_both.lines().take(4).map(|l| get(l, ":process")).collect();
    assert_eq!(names.len(), 1, "it was free again: {text_of_both}");
    history.ops[0].answer = Answer::Unknown { kind: "x".into() };
    history.ops[1].process = Process(history.ops[0].process.0);
    well_formed(&text(&history, plainly));
}

/// Every list that a transaction reads is, in the end, that list's begin; every append is found in
/// the list it names. So a good history stays one.
#[test]
fn lists_of_a_good_history_only_grow() {
    let mut reads_of_lists = 0;
    for seed in 0..20 {
        let text = text(&common::good(seed, 400), for_elle);
        let mut lists: HashMap<String, Vec<String>> = HashMap::new();
        let reads = |line: &str| -> Vec<(String, Vec<String>)> {
            let parts = line.split("[:r \"").skip(1).map(|part| {
                let (key, rest) = part.split_once('"').unwrap();
                let inner = rest.trim_start_matches(' ').trim_start_matches('[');
                let inner = inner.split(']').next().unwrap();
                (key.to_owned(), inner.split_whitespace().map(str::to_owned).collect())
            });
            parts.collect()
        };
        let last = text.lines().last().unwrap();
        lists.extend(reads(last));
        for line in text.lines().filter(|line| line.contains(":type :ok")) {
            for (key, seen) in reads(line) {
                assert!(lists[&key].starts_with(&seen), "{key}: {seen:?}");
                reads_of_lists += 1;
            }
            for part in line.split("[:append \"").skip(1) {
                let (key, rest) = part.split_once("\" ").unwrap();
                let element = rest.split(']').next().unwrap().to_owned();
                assert!(lists[key].contains(&element), "{element} in {key}");
            }
        }
    }
    assert!(reads_of_lists > 1000, "{reads_of_lists} lists were read");
}
