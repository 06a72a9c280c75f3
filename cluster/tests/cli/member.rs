//! `quorate member`: the nodes of a cluster change while it is written to.

use std::{
    io::Write as _,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::cluster::{self, Cluster, text};

/// Node ids with a vote, and those without.
fn members(cluster: &Cluster) -> (Vec<u64>, Vec<u64>) {
    let document = cluster.json(&["member", "list"]);
    let rows = document["members"].as_array().expect("a list");
    let with = |voter: bool| {
        let rows = rows.iter().filter(move |row| row["voter"] == voter);
        rows.map(|row| row["node"].as_u64().expect("a number")).collect()
    };
    (with(true), with(false))
}

/// The arguments that say where `node` is.
fn place(cluster: &Cluster, node: usize) -> [String; 4] {
    let (peer, client) = (cluster.peer_address(node), cluster.address(node));
    ["--peer".to_owned(), peer, "--client".to_owned(), client]
}

fn with_place<'a>(words: &[&'a str], place: &'a [String]) -> Vec<&'a str> {
    words.iter().copied().chain(place.iter().map(String::as_str)).collect()
}

#[test]
fn nodes_come_and_go_while_records_are_appended() {
    let mut cluster = Cluster::start();
    cluster.ok(&["log", "create", "l"]);
    cluster.quorate_with(&["append", "l"], "before\n".repeat(1000).as_bytes());
    cluster.prepare_node(4);
    cluster.prepare_node(5);

    // A node that does not run gets no vote, and the group goes on without it.
    let at4 = place(&cluster, 4);
    let words = with_place(&["member", "add", "4", "--patience", "300ms"], &at4);
    let said = cluster.fails(&words, 1);
    assert!(said.contains("node 4 has 0 of"), "{said}");
    assert_eq!(members(&cluster), (vec![1, 2, 3], vec![4]));

    let writer = Writer::start(&cluster, 4);
    cluster.start_node(4);
    cluster.ok(&with_place(&["member", "add", "4"], &at4));
    assert_eq!(members(&cluster), (vec![1, 2, 3, 4], vec![]));

    // The leader is taken out: its leadership moves first.
    let old = cluster.leader();
    cluster.ok(&["member", "remove", &old.to_string()]);
    assert!(!members(&cluster).0.contains(&(old as u64)));
    cluster.kill_node(old);

    // A dead node is replaced; of the two others alone one more may not go.
    let dead = members(&cluster).0.into_iter().find(|n| *n != cluster.leader_of_all()).unwrap();
    cluster.kill_node(dead as usize);
    let other =
        members(&cluster).0.into_iter().find(|n| ![dead, cluster.leader_of_all()].contains(n));
    let other = other.unwrap().to_string();
    cluster.wait("the dead node is noticed", |c| {
        let output = c.quorate(&["member", "remove", &other, "--timeout", "3s"]);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "one of two would be left, the other one dead");
        said.contains("are needed. Not up to date or silent:")
    });
    cluster.start_node(5);
    let at5 = place(&cluster, 5);
    let dead = dead.to_string();
    cluster.ok(&with_place(&["member", "replace", &dead, "5"], &at5));
    let (voters, learners) = members(&cluster);
    assert!(voters.contains(&5) && voters.len() == 3 && learners.is_empty(), "{voters:?}");

    // The newcomers carry the cluster: with one more down they are the majority.
    cluster.ok(&["member", "lead", "5"]);
    assert_eq!(cluster.leader_of_all(), 5);
    let last = voters.into_iter().find(|n| ![4, 5].contains(n)).unwrap();
    let written = writer.stop();
    cluster.kill_node(last as usize);
    let all = cluster.ok(&["read", "l", "--from", "1000"]);
    let expected: String = (0..written).map(|n| format!("{n}\n")).collect();
    assert!(all == expected, "{} records, {written} acknowledged", all.lines().count());
    cluster.start_node(last as usize);
    cluster.wait("all three are compared", |c| {
        let report = c.json(&["verify", "--deep"]);
        assert_eq!(report["differences"], serde_json::json!([]), "{report}");
        report["groups"][0]["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3)
    });
}

#[test]
fn blunders_change_nothing() {
    let cluster = Cluster::start();
    let free = place(&cluster, 4);
    let taken = place(&cluster, 2);
    for (words, why) in [
        (with_place(&["member", "add", "2"], &free), "node 2 is a member already, at"),
        (with_place(&["member", "add", "4"], &taken), "is a member at"),
        (vec!["member", "add", "4", "--peer", "here", "--client", "h:1"], "is not HOST:PORT"),
        (vec!["member", "lead", "7"], "node 7 is no voter"),
    ] {
        let said = cluster.fails(&words, 1);
        assert!(said.contains(why), "{words:?}: {said}");
    }
    cluster.fails(&with_place(&["member", "replace", "3", "3"], &free), 2);
    assert_eq!(members(&cluster), (vec![1, 2, 3], vec![]));
    // Who is gone already needs no removing.
    cluster.ok(&["member", "remove", "9"]);
    let table = cluster.ok(&["member", "list"]);
    assert_eq!(table.lines().filter(|line| line.contains("leader")).count(), 1, "{table}");
}

/// Appends one line after the other, each once, whatever happens to the nodes.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<usize>>,
}

impl Writer {
    fn start(cluster: &Cluster, nodes: usize) -> Self {
        let endpoints: Vec<String> = (1..=nodes).map(|n| cluster.address(n)).collect();
        let (endpoints, stop) = (endpoints.join(","), Arc::new(AtomicBool::new(false)));
        let told = stop.clone();
        let thread = thread::spawn(move || {
            let mut written = 0;
            while !told.load(Ordering::Relaxed) {
                let lines: String = (written..written + 50).map(|n| format!("{n}\n")).collect();
                let mut child = cluster::program(&endpoints, &["append", "l"])
                    .stdin(Stdio::piped())
                    .spawn()
                    .expect("quorate runs");
                child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("it reads");
                let output = child.wait_with_output().expect("it ends");
                assert!(output.status.success(), "{output:?}");
                written += 50;
            }
            written
        });
        Self { stop, thread: Some(thread) }
    }

    /// How many lines were acknowledged.
    fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("the writer")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A test that fails is not to leave it behind; it ends within one append.
        self.stop.store(true, Ordering::Relaxed);
    }
}
