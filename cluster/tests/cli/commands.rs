//! Every command against a real cluster, through pipes, as scripts use it.

use crate::cluster::{Cluster, text};

#[test]
fn the_life_of_a_log() {
    let cluster = Cluster::start();
    let none = cluster.quorate(&["log", "list"]);
    assert!(none.status.success() && none.stdout.is_empty() && !none.stderr.is_empty(), "{none:?}");

    assert_eq!(cluster.ok(&["log", "create", "l"]), "created l (group 0)\n");
    let said = cluster.fails(&["log", "create", "l"], 1);
    assert!(said.contains("exists") && said.contains("--if-absent"), "{said}");
    assert_eq!(cluster.ok(&["log", "create", "l", "--if-absent"]), "there already: l (group 0)\n");

    let appended = cluster.quorate_with(&["append", "l"], b"a\nb\nc\nd\n");
    let appended = text(&appended.stdout);
    assert!(appended.starts_with("appended 4 records (8 B) to l in "), "{appended}");
    assert!(appended.ends_with("the last has offset 3\n"), "{appended}");

    assert_eq!(cluster.ok(&["read", "l"]), "a\nb\nc\nd\n");
    assert_eq!(cluster.ok(&["read", "l", "--last", "2"]), "c\nd\n");
    assert_eq!(cluster.ok(&["read", "l", "--from", "1", "--to", "3"]), "b\nc\n");
    assert_eq!(cluster.ok(&["read", "l", "--limit", "1"]), "a\n");
    assert_eq!(cluster.ok(&["read", "l", "--format", "raw"]), "abcd");
    assert_eq!(cluster.ok(&["read", "l", "--from", "4"]), "", "the end is no error");
    assert!(cluster.fails(&["read", "l", "--from", "5"], 1).contains("next offset is 4"));
    assert_eq!(cluster.ok(&["tail", "l", "--from", "2", "--limit", "2"]), "c\nd\n");
    let full = cluster.ok(&["read", "l", "--format", "full", "--last", "1"]);
    let fields: Vec<&str> = full.trim_end().split('\t').collect();
    assert_eq!((fields[0], &fields[2..]), ("3", &["-", "d"][..]), "{full}");
    let then = cluster.ok(&["read", "l", "--from-timestamp", fields[1]]);
    assert!(then.ends_with("d\n"), "{then}");
    let old = cluster.ok(&["read", "l", "--from-timestamp", "2100-01-01T00:00:00Z"]);
    assert_eq!(old, "", "nothing is that new");

    cluster.ok(&["log", "trim", "l", "--before", "2"]);
    let said = cluster.fails(&["read", "l", "--from", "1"], 1);
    assert!(said.contains("first readable offset is 2"), "{said}");
    assert_eq!(cluster.ok(&["read", "l"]), "c\nd\n");
    let described = cluster.json(&["log", "describe", "l"]);
    assert_eq!((&described["start_offset"], &described["next_offset"]), (&2.into(), &4.into()));
    let listed = cluster.json(&["log", "list"]);
    assert_eq!(listed["logs"][0]["name"], "l");

    let said = cluster.fails(&["log", "delete", "l"], 1);
    assert!(said.contains("--yes"), "no terminal, nobody to ask: {said}");
    cluster.ok(&["log", "delete", "l", "--yes"]);
    assert!(cluster.fails(&["read", "l"], 1).contains("no log is named \"l\""));
    assert!(cluster.fails(&["append", "l"], 1).contains("no log is named \"l\""));
}

#[test]
fn only_the_newest_writer_appends() {
    let cluster = Cluster::start();
    cluster.ok(&["log", "create", "l"]);
    let append = |epoch: Option<&str>| {
        let epoch = epoch.map_or(vec![], |e| vec!["--writer-epoch", e]);
        cluster.quorate_with(&[&["append", "l"], &epoch[..]].concat(), b"x\n").status.code()
    };
    assert_eq!(append(None), Some(0));
    assert_eq!(append(Some("1")), Some(1), "not granted yet");
    assert_eq!(cluster.json(&["fence", "l"])["writer_epoch"], 1);
    assert!(cluster.ok(&["fence", "l"]).starts_with("writer epoch 2"), "people read it too");
    assert_eq!((append(None), append(Some("1")), append(Some("2"))), (Some(1), Some(1), Some(0)));
    assert_eq!(cluster.next_offset("l"), 2);
}

#[test]
fn what_operators_ask() {
    let mut cluster = Cluster::start();
    cluster.quorate_with(&["append", "l", "--create"], b"a\nb\n");
    let status = cluster.ok(&["status"]);
    let rows: Vec<Vec<&str>> = status.lines().map(|l| l.split_whitespace().collect()).collect();
    let headings = ["NODE", "GROUP", "ROLE", "TERM", "LAST", "COMMIT", "APPLIED", "LAG"];
    assert_eq!(rows[0][..8], headings, "{status}");
    let nodes: Vec<&str> = rows[1..].iter().map(|r| r[0]).collect();
    assert_eq!(nodes, ["1", "2", "3"], "{status}");
    assert_eq!(rows[1..].iter().filter(|r| r[2] == "leader").count(), 1, "{status}");

    let deep = cluster.json(&["verify", "--deep"]);
    assert_eq!((&deep["identical"], &deep["read_back"]["records"]), (&true.into(), &2.into()));

    let follower = (1..=3).find(|n| *n != cluster.leader()).unwrap();
    let address = cluster.address(follower);
    let bounded = ["read", "l", "--node", &address, "--consistency", "bounded:10s", "--header"];
    let output = cluster.quorate(&bounded);
    assert_eq!(text(&output.stdout), "a\nb\n", "{output:?}");
    let header = text(&output.stderr);
    assert!(header.starts_with(&format!("node {follower} (follower")), "{header}");

    cluster.kill_node(follower);
    let output = cluster.quorate(&["status"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("Connection refused"), "{output:?}");
    assert!(text(&output.stdout).contains("1 of 3 nodes did not answer"), "{output:?}");
    let status = cluster.json(&["status"]);
    assert_eq!((&status["healthy"], status["nodes"].as_array().unwrap().len()), (&false.into(), 3));
    // Two replicas can be compared; that one is missing is said, and is no difference.
    let output = cluster.quorate(&["verify"]);
    assert!([Some(1), Some(0)].contains(&output.status.code()), "{output:?}");
}

#[test]
fn loads_are_measured() {
    let cluster = Cluster::start();
    let quick = ["--count", "50", "--clients", "4", "--warm-up", "0", "--size", "100"];
    for (name, more) in [
        ("append", &["--mode", "sdk"][..]),
        ("append", &["--mode", "unary", "--batch", "3"]),
        ("append", &["--mode", "stream", "--in-flight", "8", "--logs", "2"]),
        ("read", &["--records", "200", "--batch", "5", "--stored-batch", "7"]),
        ("read", &["--records", "200", "--consistency", "eventual"]),
        ("read", &["--records", "200", "--consistency", "bounded:5s"]),
    ] {
        let report = cluster.json(&[&["bench", name], &quick[..], more].concat());
        assert_eq!(report["requests"], 50, "{name} {more:?}: {report}");
        assert_eq!(report["failures"], 0, "{name} {more:?}: {report}");
        let batch = report["settings"]["batch"].as_u64().unwrap();
        assert_eq!(report["records"], 50 * batch, "{name} {more:?}: {report}");
    }
    let listed = cluster.json(&["log", "list"]);
    assert_eq!(listed["logs"].as_array().unwrap().len(), 0, "nothing stays behind");
}

/// Connections live through any number of short reads. A reader that leaves before the end of its
/// answer resets an HTTP/2 stream; a connection that sees too many of those is given up.
#[test]
fn many_short_reads() {
    let cluster = Cluster::start();
    let at = cluster.address(2);
    let load = ["--clients", "64", "--connections", "1", "--count", "20000", "--warm-up", "0"];
    let read = ["--records", "500", "--consistency", "eventual", "--node", &at];
    let report = cluster.json(&[&["bench", "read"], &load[..], &read].concat());
    assert_eq!((&report["requests"], &report["failures"]), (&20_000.into(), &0.into()), "{report}");
}

/// A comparison with nobody: what is written, and that nothing stays behind.
#[test]
fn a_comparison() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (out, data) = (dir.path().join("out"), dir.path().join("data"));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"));
    crate::cluster::without_settings(&mut command);
    command.args(["bench", "compare", "--rounds", "1", "--duration", "2s", "--warm-up", "0"]);
    command.args(["--only", "batches,replicas", "--output", "json", "--out"]).arg(&out);
    command.arg("--data").arg(&data).arg("--node").arg(crate::cluster::node_binary());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let written = std::fs::read_to_string(out.join("compare.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), document);
    assert_eq!(document["systems"].as_array().unwrap().len(), 1);
    let rows = document["rows"].as_array().unwrap();
    // Batches of two sizes, and replicas.
    assert_eq!(rows.len(), 3, "{rows:?}");
    for entry in rows.iter().flat_map(|row| row["entries"].as_array().unwrap()) {
        assert!(entry["trouble"].is_null(), "{entry}");
        assert!(entry["summary"]["records_per_s"]["median"].as_f64().unwrap() > 0.0, "{entry}");
        // Looked at while it ran.
        assert!(entry["runs"][0]["server_cpu_us_per_record"].is_number(), "{entry}");
    }
    let page = std::fs::read_to_string(out.join("compare.md")).unwrap();
    assert!(page.contains("| Quorate, 64 records a request |"), "{page}");
    assert!(std::fs::read_to_string(out.join("compare.svg")).unwrap().ends_with("</svg>\n"));
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "the servers' data is gone");
}

#[test]
fn what_needs_no_cluster() {
    let nowhere = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"));
        crate::cluster::without_settings(&mut command);
        command.args(args).env("QUORATE_ENDPOINTS", "127.0.0.1:1").output().unwrap()
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = nowhere(&["completions", shell]);
        assert!(script.status.success(), "{script:?}");
        assert!(text(&script.stdout).contains("producer-id"), "{shell}");
    }
    let help = nowhere(&["append", "--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("Resuming."), "{help:?}");
    let nothing = nowhere(&[]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stdout).contains("Exit codes:"), "{nothing:?}");
    assert_eq!(nowhere(&["log", "trim", "l"]).status.code(), Some(2));
}

/// The scripts that shells complete with are at least scripts.
#[test]
fn bash_takes_its_completions() {
    let command = "eval \"$(\"$0\" completions bash)\" && complete -p quorate";
    let output = std::process::Command::new("bash")
        .args(["-c", command, env!("CARGO_BIN_EXE_quorate")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("quorate"), "{output:?}");
}
