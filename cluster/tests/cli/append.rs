//! An append that is cut off loses no line and repeats none.

use std::{path::Path, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::cluster::{Cluster, Guard, text};

const PRODUCER: &str = "0123456789abcdef0123456789abcdef";

/// Lines of all lengths and kinds, the last without a line feed.
fn lines(seed: u64, count: usize) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut bytes = Vec::new();
    for i in 0..count {
        let length = rng.random_range(0..120);
        let line = (0..length).map(|_| rng.random::<u8>()).map(|b| if b == b'\n' { 0 } else { b });
        bytes.extend(line);
        if i + 1 < count {
            bytes.push(b'\n');
        } else {
            bytes.extend(b"the end");
        }
    }
    bytes
}

/// Insists that the log is this; the bytes themselves would drown the message.
#[track_caller]
fn is(cluster: &Cluster, read: &[&str], want: &[u8], why: &str) {
    let got = cluster.ok_bytes(&[&["read", "l"], read].concat());
    let at = got.iter().zip(want).position(|(a, b)| a != b);
    let (len, wanted) = (got.len(), want.len());
    assert!(at.is_none() && len == wanted, "{why}: {len} bytes of {wanted}, different at {at:?}");
}

/// `quorate read` writes a line feed after the last record too.
fn with_line_feed(mut input: Vec<u8>) -> Vec<u8> {
    input.push(b'\n');
    input
}

fn append_args<'a>(file: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let file = file.to_str().expect("UTF-8");
    let fixed = ["append", "l", file, "--producer-id", PRODUCER, "--batch-records", "50"];
    [&fixed, more].concat()
}

/// The client is killed again and again at whatever point it is at, also with the leader; what it
/// then leaves is the file, byte for byte, on every replica.
#[test]
fn killed_clients_resume() {
    let mut cluster = Cluster::start();
    let input = lines(7, 20_000);
    let file = cluster.path("input");
    std::fs::write(&file, &input).unwrap();
    cluster.ok(&["log", "create", "l"]);
    // Killed when the log has grown to this. The rate leaves seconds to the end of the input.
    for (round, target) in [1, 2_000, 4_500, 7_000, 9_000].into_iter().enumerate() {
        let args = append_args(&file, &["--rate", "2000"]);
        let mut client = Guard(cluster.command(&args).spawn().expect("quorate runs"));
        cluster.wait("progress", |c| c.next_offset("l") >= target);
        if round == 2 {
            let leader = cluster.leader();
            cluster.kill_node(leader);
            cluster.wait("progress after the leader's end", |c| c.next_offset("l") > target + 500);
            cluster.start_node(leader);
        }
        assert!(client.0.try_wait().unwrap().is_none(), "it ended before it could be killed");
        client.0.kill().unwrap();
        client.0.wait().unwrap();
    }
    let there = cluster.next_offset("l");
    assert!(there < 20_000, "there must be something left to do");
    let resumed = cluster.quorate(&append_args(&file, &["--output", "json"]));
    assert!(resumed.status.success(), "{resumed:?}");
    let summary: serde_json::Value = serde_json::from_slice(&resumed.stdout).unwrap();
    assert_eq!(summary["records"], 20_000);
    // What was on its way when the last client was killed may have arrived since.
    assert!(summary["already_there"].as_u64().unwrap() >= there, "{summary}");
    assert_eq!(cluster.next_offset("l"), 20_000);
    is(&cluster, &[], &with_line_feed(input.clone()), "from the leader");
    cluster.wait("all nodes", |c| c.quorate(&["status"]).status.success());
    cluster.ok(&["verify", "--timeout", "60s"]);
    for node in 1..=3 {
        let address = cluster.address(node);
        let read = ["--node", &address, "--consistency", "eventual"];
        is(&cluster, &read, &with_line_feed(input.clone()), &format!("node {node}"));
    }
    let again = cluster.ok(&append_args(&file, &["--resume"]));
    assert_eq!(again, "nothing to append: all 20,000 records of this input are in the log\n");
    assert_eq!(cluster.next_offset("l"), 20_000);
}

/// Another input under the same producer id is refused before anything of it is appended.
#[test]
fn another_input_is_refused() {
    let cluster = Cluster::start();
    let (file, other) = (cluster.path("input"), cluster.path("other"));
    std::fs::write(&file, lines(1, 500)).unwrap();
    cluster.ok(&["log", "create", "l"]);
    cluster.ok(&append_args(&file, &[]));
    let unchanged = |why: &str| is(&cluster, &[], &with_line_feed(lines(1, 500)), why);
    // Shorter; as long, but different in its last batches; longer and different.
    for (name, bytes) in
        [("shorter", lines(1, 70)), ("different", lines(2, 500)), ("longer", lines(3, 900))]
    {
        std::fs::write(&other, bytes).unwrap();
        let said = cluster.fails(&append_args(&other, &[]), 1);
        assert!(said.contains("give the file and the settings of the first run"), "{said}");
        assert!(!said.contains("acknowledged"), "{said}");
        unchanged(name);
    }
    let batched_otherwise = ["append", "l", file.to_str().unwrap(), "--producer-id", PRODUCER];
    cluster.fails(&batched_otherwise, 1);
    unchanged("other batches");
    let nobody = ["--resume", "--producer-id", "ffffffffffffffffffffffffffffffff"];
    let args = [&["append", "l", file.to_str().unwrap()], &nobody[..]].concat();
    assert!(cluster.fails(&args, 1).contains("does not know producer"));
    unchanged("an unknown producer");
    // A file that has grown goes on where it ended, if its batches still are the same.
    let whole = lines(1, 500);
    let mut grown = with_line_feed(whole);
    grown.extend(b"one\ntwo");
    std::fs::write(&other, &grown).unwrap();
    let said = text(&cluster.quorate(&append_args(&other, &[])).stdout);
    assert!(said.starts_with("appended 2 records"), "{said}");
    is(&cluster, &[], &with_line_feed(grown), "grown");
}

/// A pipe is sent as it comes: what was written into it is in the log although it stays open.
#[test]
fn a_pipe_does_not_wait_for_full_batches() {
    use std::io::Write as _;
    let cluster = Cluster::start();
    cluster.ok(&["log", "create", "l"]);
    let mut command = cluster.command(&["append", "l"]);
    let mut client = Guard(command.stdin(std::process::Stdio::piped()).spawn().unwrap());
    let mut pipe = client.0.stdin.take().unwrap();
    for (i, line) in ["one\n", "two\nthree\n"].into_iter().enumerate() {
        pipe.write_all(line.as_bytes()).unwrap();
        cluster.wait("the lines so far", |c| c.next_offset("l") == 1 + 2 * i as u64);
    }
    pipe.write_all(b"four").unwrap();
    drop(pipe);
    assert!(client.0.wait().unwrap().success());
    is(&cluster, &[], b"one\ntwo\nthree\nfour\n", "all that was written");
}

/// Framings, keys and conditions, as the reader sees them.
#[test]
fn what_a_record_is() {
    let cluster = Cluster::start();
    let append = |args: &[&str], input: &[u8]| {
        let output = cluster.quorate_with(&[&["append", "l"], args].concat(), input);
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(append(&["--create"], b"a\r\n\nb").0, Some(0));
    assert_eq!(append(&["--format", "null"], b"c\nd\0\0e").0, Some(0));
    assert_eq!(append(&["--format", "len-prefixed"], b"\0\0\0\x02f\n\0\0\0\0").0, Some(0));
    assert_eq!(append(&["--format", "whole"], b"g\nh\n").0, Some(0));
    assert_eq!(append(&["--key-separator", "="], b"k=v\nnone\n").0, Some(0));
    let json = cluster.ok(&["read", "l", "--format", "json"]);
    let records: Vec<serde_json::Value> =
        json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let values: Vec<&str> = records.iter().map(|r| r["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["a\r", "", "b", "c\nd", "", "e", "f\n", "", "g\nh\n", "v", "none"]);
    assert_eq!((&records[9]["key"], &records[10]["key"]), (&"k".into(), &serde_json::Value::Null));

    let (code, said) = append(&["--format", "len-prefixed"], b"\0\0\0\x09short");
    assert_eq!(code, Some(1));
    assert!(said.contains("the input ends inside record 1: 9 bytes of 13"), "{said}");
    let (code, said) = append(&["--expected-offset", "3"], b"x\n");
    assert_eq!(code, Some(1));
    assert!(said.contains("the log's next offset is 11"), "{said}");
    assert_eq!(append(&["--expected-offset", "11"], b"x\n").0, Some(0));
    assert_eq!(cluster.next_offset("l"), 12);
    // Nothing in, nothing out.
    assert_eq!(append(&[], b"").0, Some(0));
    assert_eq!(cluster.next_offset("l"), 12);
}

/// `--rate` is kept on the whole.
#[test]
fn a_rate_is_kept() {
    let cluster = Cluster::start();
    let input = "x\n".repeat(300);
    let began = std::time::Instant::now();
    let args = ["append", "l", "--create", "--rate", "200", "--batch-records", "10"];
    let output = cluster.quorate_with(&args, input.as_bytes());
    assert!(output.status.success(), "{output:?}");
    // All but the last batch are waited for.
    assert!(began.elapsed() >= Duration::from_millis(290 * 1000 / 200), "{:?}", began.elapsed());
}
