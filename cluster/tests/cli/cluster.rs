//! Three real nodes and the real `quorate`, for one test.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use quorate_cluster::local::{ports, process::Process};

/// How long anything may take that should happen: tests share busy machines.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition: each is a process started.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Segments that are small beside what a test writes, so that a test costs little disk.
const SMALL: &str = "\n[log]\nsegment_mb = 16\ncache_mb = 16\n\n[state]\nmemtable_mb = 8\n";

/// Nodes that live as long as this, with their data under the build's folder for tests.
pub struct Cluster {
    dir: tempfile::TempDir,
    endpoints: String,
    nodes: Vec<Option<Process>>,
    base_port: u16,
}

impl Cluster {
    /// Three nodes, one of which leads.
    pub fn start() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        // `config local` puts the other two ports of a node 100 and 200 above; two more nodes may
        // come later.
        let base_port = ports::free(205).expect("free ports");
        let endpoints = format!("{base_port},{},{}", base_port + 1, base_port + 2);
        let mut cluster = Self { dir, endpoints, nodes: vec![None, None, None], base_port };
        let folder = cluster.dir.path().display().to_string();
        let port = base_port.to_string();
        cluster.ok(&["config", "local", "--dir", &folder, "--base-port", &port]);
        for node in 1..=3 {
            let path = cluster.config(node);
            let text = std::fs::read_to_string(&path).expect("config local wrote it") + SMALL;
            std::fs::write(&path, text).expect("a file");
            cluster.start_node(node);
        }
        let end = Instant::now() + PATIENCE;
        while !cluster.quorate(&["status"]).status.success() {
            let ended = cluster.nodes.iter_mut().flatten().any(|n| n.exited().unwrap().is_some());
            assert!(!ended && Instant::now() < end, "no whole cluster\n{}", cluster.logs());
            std::thread::sleep(LOOK_EVERY);
        }
        cluster
    }

    /// Configures one more node, in a folder of its own, whose list has all nodes so far and itself.
    pub fn prepare_node(&mut self, node: usize) {
        let first = std::fs::read_to_string(self.config(1)).expect("config local wrote it");
        let id = first.split("cluster_id = \"").nth(1).and_then(|rest| rest.split('"').next());
        let folder = self.path(&format!("more{node}"));
        let (nodes, port) = (node.to_string(), self.base_port.to_string());
        self.ok(&[
            "config",
            "local",
            "--nodes",
            &nodes,
            "--dir",
            folder.to_str().expect("UTF-8"),
            "--base-port",
            &port,
            "--cluster-id",
            id.expect("it is in the file"),
        ]);
        let text = std::fs::read_to_string(folder.join(format!("node{node}.toml")));
        let text = text.expect("config local wrote it") + SMALL;
        std::fs::write(self.config(node), text).expect("a file");
        self.nodes.resize_with(self.nodes.len().max(node), || None);
        self.endpoints += &format!(",{}", self.address(node));
    }

    fn config(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("node{node}.toml"))
    }

    /// A file's path in this cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A node's address for clients.
    pub fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.base_port + node as u16 - 1)
    }

    /// A node's address for its peers.
    pub fn peer_address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.base_port + node as u16 - 1 + 100)
    }

    /// Starts a node.
    pub fn start_node(&mut self, node: usize) {
        let mut command = Command::new(node_binary());
        command.arg("--config").arg(self.config(node));
        without_settings(&mut command);
        let log = self.path(&format!("node{node}.log"));
        self.nodes[node - 1] = Some(Process::start(command, &log).expect("a node starts"));
    }

    /// `kill -9`.
    pub fn kill_node(&mut self, node: usize) {
        let mut process = self.nodes[node - 1].take().expect("it runs");
        process.kill().expect("it can be killed");
    }

    /// The node that leads, once all that run agree on one.
    pub fn leader(&self) -> usize {
        let mut found = None;
        self.wait("a leader", |c| {
            let status: serde_json::Value = c.json(&["status"]);
            let nodes = status["nodes"].as_array().expect("a list").iter();
            let groups = nodes.filter_map(|n| n["groups"].get(0));
            let leaders: Vec<u64> = groups.filter_map(|g| g["leader_id"].as_u64()).collect();
            let running = c.nodes.iter().flatten().count();
            found = leaders.first().map(|l| *l as usize);
            let one = leaders.len() == running && leaders.iter().all(|l| *l == leaders[0]);
            one && found.is_some_and(|l| c.nodes[l - 1].is_some())
        });
        found.expect("waited for")
    }

    /// The command line, about to run against this cluster.
    pub fn command(&self, args: &[&str]) -> Command {
        program(&self.endpoints, args)
    }

    /// The node that leads, as the nodes say that answer.
    pub fn leader_of_all(&self) -> u64 {
        let mut found = None;
        self.wait("a leader", |c| {
            let document = c.json(&["member", "list"]);
            let rows = document["members"].as_array().into_iter().flatten();
            let mut leaders = rows.filter(|row| row["leader"] == true);
            found = leaders.next().and_then(|row| row["node"].as_u64());
            found.is_some()
        });
        found.expect("waited for")
    }

    /// A script, about to run against this cluster.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        without_settings(&mut command);
        command.args(["-euc", script]).env("QUORATE_ENDPOINTS", &self.endpoints);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `quorate` to its end.
    pub fn quorate(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("quorate runs")
    }

    /// Runs `quorate` with this on its stdin.
    pub fn quorate_with(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().expect("quorate runs");
        // It may well end before it has read all.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        child.wait_with_output().expect("it ends")
    }

    /// Runs `quorate`, which must succeed; its stdout.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        text(&self.ok_bytes(args))
    }

    /// As [`Cluster::ok`], for what is no text.
    #[track_caller]
    pub fn ok_bytes(&self, args: &[&str]) -> Vec<u8> {
        let output = self.quorate(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        output.stdout
    }

    /// Runs `quorate`, which must fail like this; its stderr.
    #[track_caller]
    pub fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.quorate(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        text(&output.stderr)
    }

    /// Runs `quorate --output json`; its document, whatever the exit code.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.quorate(&[args, &["--output", "json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    /// A log's next offset.
    #[track_caller]
    pub fn next_offset(&self, log: &str) -> u64 {
        self.json(&["log", "describe", log])["next_offset"].as_u64().expect("a number")
    }

    /// Waits until a condition holds.
    #[track_caller]
    pub fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}\n{}", self.logs());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn logs(&self) -> String {
        let nodes = self.nodes.iter().enumerate();
        let words = nodes.map(|(i, node)| match node {
            Some(process) => format!("node {}:\n{}\n", i + 1, process.last_words(10)),
            None => format!("node {} does not run\n", i + 1),
        });
        words.collect()
    }
}

/// The command line, about to run.
pub fn program(endpoints: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    without_settings(&mut command);
    command.args(args).env("QUORATE_ENDPOINTS", endpoints);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A child that must not outlive a test that fails.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It has ended already in a test that went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes that should be text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The server that was built next to the CLI.
pub fn node_binary() -> PathBuf {
    let path = bin_dir().join("quorate-node");
    let how = "build it with: cargo build --release -p quorate-raft-node";
    assert!(path.exists(), "{} does not exist; {how}", path.display());
    path
}

/// Where the programs are.
pub fn bin_dir() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_quorate")).parent().expect("a file is in a folder")
}

/// What the one who runs the tests has set for their own clusters is not meant for these.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(name);
        }
    }
}
