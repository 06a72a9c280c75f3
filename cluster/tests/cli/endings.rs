//! How commands end that do not end well: exit code, one line that says what, one that says what
//! to do.

use std::{io::Read as _, os::unix::process::ExitStatusExt as _, process::Stdio};

use crate::cluster::{Cluster, Guard, text};

fn signal(child: &Guard, signal: i32) {
    let pid = i32::try_from(child.0.id()).expect("a pid");
    // SAFETY: kill has no effect on memory; the child is not waited for yet.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// Waits for the end; exit code and stderr.
fn end(mut child: Guard) -> (Option<i32>, String) {
    let status = child.0.wait().unwrap();
    let mut said = Vec::new();
    child.0.stderr.take().unwrap().read_to_end(&mut said).unwrap();
    assert_eq!(status.signal(), None, "it ends itself: {}", text(&said));
    (status.code(), text(&said))
}

#[test]
fn interrupted() {
    let cluster = Cluster::start();
    let file = cluster.path("input");
    std::fs::write(&file, "line\n".repeat(100_000)).unwrap();
    // A log each: what the one before had on its way may arrive when it has ended.
    for (log, number) in [("l", libc::SIGINT), ("m", libc::SIGTERM)] {
        cluster.ok(&["log", "create", log]);
        let file = file.to_str().unwrap();
        let args = ["append", log, file, "--rate", "1000", "--batch-records", "20"];
        let client = Guard(cluster.command(&args).spawn().unwrap());
        cluster.wait("progress", |c| c.next_offset(log) > 20);
        signal(&client, number);
        let (code, said) = end(client);
        assert_eq!(code, Some(130), "{said}");
        // How much of what is in the log was acknowledged by then is a matter of moments.
        assert!(said.contains("acknowledged: interrupted"), "{said}");
        assert!(said.contains("goes on without losing or repeating a record"), "{said}");
        let id = said.split("--producer-id ").nth(1).expect("it says how to go on");
        assert!(id.len() > 32 && id[..32].bytes().all(|b| b.is_ascii_hexdigit()), "{said}");
    }
    // One who follows a log ends it like this, and needs no words about it.
    let mut tail = cluster.command(&["tail", "l", "--last", "1"]);
    let mut tail = Guard(tail.spawn().unwrap());
    let mut line = [0; 5];
    tail.0.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    signal(&tail, libc::SIGINT);
    assert_eq!(end(tail), (Some(130), String::new()));
}

/// `quorate read l | head`.
#[test]
fn a_closed_pipe_is_no_failure() {
    let cluster = Cluster::start();
    let input = format!("{}\n", "x".repeat(1000)).repeat(2000);
    let appended = cluster.quorate_with(&["append", "l", "--create"], input.as_bytes());
    assert!(appended.status.success(), "{appended:?}");
    for args in [&["read", "l"][..], &["tail", "l", "--from", "0"]] {
        let mut client = Guard(cluster.command(args).spawn().unwrap());
        let mut some = [0; 100];
        client.0.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
        drop(client.0.stdout.take());
        assert_eq!(end(client), (Some(0), String::new()), "{args:?}");
    }
}

/// When the quorum is lost in the middle, what was on its way may have happened or not.
#[test]
fn effects_that_are_not_known() {
    let mut cluster = Cluster::start();
    let file = cluster.path("input");
    std::fs::write(&file, "line\n".repeat(100_000)).unwrap();
    cluster.ok(&["log", "create", "l"]);
    let leader = cluster.leader();
    let at = cluster.address(leader);
    let file = file.to_str().unwrap();
    let args = ["append", "l", file, "--rate", "1000", "--batch-records", "10", "--timeout", "2s"];
    let client = Guard(cluster.command(&args).spawn().unwrap());
    cluster.wait("progress", |c| c.next_offset("l") > 0);
    for node in (1..=3).filter(|n| *n != leader) {
        cluster.kill_node(node);
    }
    let (code, said) = end(client);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("acknowledged: "), "{said}");
    assert!(said.contains("goes on without losing or repeating a record"), "{said}");

    // Nothing can be promised now, and what was not even begun has no effect.
    let one = ["--timeout", "1s", "--endpoints", &at];
    let said = cluster.quorate_with(&[&["append", "l"], &one[..]].concat(), b"x\n");
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    cluster.fails(&[&["read", "l"], &one[..]].concat(), 1);
    // But a replica may still be asked for what it has.
    let eventual = [&["read", "l", "--consistency", "eventual", "--limit", "1"], &one[..]].concat();
    assert_eq!(cluster.ok(&eventual), "line\n");
}

#[test]
fn nobody_answers() {
    let cluster = Cluster::start();
    let nobody = ["--endpoints", "127.0.0.1:1", "--timeout", "500ms"];
    let args = |command: &[&'static str]| [command, &nobody].concat();
    let said = cluster.fails(&args(&["log", "list"]), 1);
    assert_eq!(said.lines().count(), 2, "what, and what to do: {said}");
    assert!(said.starts_with("error: 127.0.0.1:1: Connection refused\n  try: "), "{said}");
    let output = cluster.quorate(&args(&["log", "list", "--output", "json"]));
    let failure: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(failure["error"]["exit_code"], 1, "{failure}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let missing = cluster.fails(&["append", "l", "/no/such/file"], 1);
    assert!(missing.contains("/no/such/file cannot be read"), "{missing}");
}

/// Who follows a log is not troubled by the loss of the node it is served by.
#[test]
fn a_tail_survives_the_leader() {
    let mut cluster = Cluster::start();
    cluster.ok(&["log", "create", "l"]);
    let leader = cluster.leader();
    let at = cluster.path("tailed");
    let out = std::fs::File::create(&at).unwrap();
    // Asks the leader first.
    let order: Vec<String> = std::iter::once(leader)
        .chain((1..=3).filter(|n| *n != leader))
        .map(|n| cluster.address(n))
        .collect();
    let order = order.join(",");
    let mut tail = cluster.command(&["tail", "l", "--from", "0", "--endpoints", &order]);
    let tail = Guard(tail.stdout(Stdio::from(out)).spawn().unwrap());
    let append = |cluster: &Cluster, first: u32| {
        let input: String = (first..first + 100).map(|i| format!("{i}\n")).collect();
        let output = cluster.quorate_with(&["append", "l"], input.as_bytes());
        assert!(output.status.success(), "{output:?}");
    };
    let tailed = || std::fs::read_to_string(&at).unwrap();
    append(&cluster, 0);
    cluster.wait("the first half", |_| tailed().lines().count() == 100);
    cluster.kill_node(leader);
    append(&cluster, 100);
    cluster.wait("the second half", |_| tailed().lines().count() >= 200);
    let want: String = (0..200).map(|i| format!("{i}\n")).collect();
    assert_eq!(tailed(), want);
    drop(tail);
}
