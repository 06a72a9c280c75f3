//! Three real nodes as processes, on free loopback ports.

use std::{
    fs::File,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use quorate_proto::{
    admin::v1::{GroupStatus, StatusRequest, admin_service_client::AdminServiceClient},
    v1::{ErrorDetail, Role, log_service_client::LogServiceClient},
};
use tempfile::TempDir;
use tonic::{Request, Status, transport::Channel};

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    dir: TempDir,
    ports: Vec<[u16; 3]>,
    /// Where the others are told to find each node's port for peers.
    told_peers: Vec<u16>,
    children: Vec<Option<Child>>,
}

/// Ports that nobody listens on, below those that the system gives to outgoing connections: a node
/// that is started, or started again, must find its own still free.
fn free_ports(n: usize) -> Vec<u16> {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin in different places.
    let start = (std::process::id() * 97 % u32::from(COUNT)) as u16;
    let mut ports = Vec::with_capacity(n);
    for _ in 0..COUNT {
        if ports.len() == n {
            return ports;
        }
        // Never one twice, so that the tests of this program leave each other alone.
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    panic!("no {n} free ports from {FIRST} on");
}

impl Cluster {
    fn prepare(nodes: usize) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let ports: Vec<[u16; 3]> =
            free_ports(nodes * 3).chunks(3).map(|c| [c[0], c[1], c[2]]).collect();
        let told_peers = ports.iter().map(|[_, peer, _]| *peer).collect();
        Self { dir, children: (0..nodes).map(|_| None).collect(), ports, told_peers }
    }

    pub async fn start(nodes: usize, extra: &str) -> Self {
        let mut this = Self::prepare(nodes);
        this.run_all(extra).await;
        this
    }

    /// What nodes send to each other goes through proxies, one before each node, which `proxy`
    /// starts: from the port that the others are told to the one that the node listens on.
    pub async fn start_behind<P>(
        nodes: usize,
        extra: &str,
        proxy: impl AsyncFn(u16, u16) -> P,
    ) -> (Self, Vec<P>) {
        let mut this = Self::prepare(nodes);
        this.told_peers = free_ports(nodes);
        let mut proxies = Vec::new();
        for (told, [_, peer, _]) in this.told_peers.iter().zip(&this.ports) {
            proxies.push(proxy(*told, *peer).await);
        }
        this.run_all(extra).await;
        (this, proxies)
    }

    async fn run_all(&mut self, extra: &str) {
        for n in 0..self.ports.len() {
            self.write_config(n, extra);
            self.run(n);
        }
        self.leader().await;
    }

    fn config(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("n{}.toml", n + 1))
    }

    fn write_config(&self, n: usize, extra: &str) {
        let [client, peer, http] = self.ports[n];
        let data = self.data_dir(n);
        // Dozens of nodes share the machine: a pause of one is no reason for another leader.
        let patient = "[raft]\nheartbeat_ms = 100\nelection_min_ms = 500\nelection_max_ms = 1000";
        let raft = if extra.contains("[raft]") { "" } else { patient };
        // Top-level keys come first, then sections.
        let mut text = format!(
            "cluster_id = \"4c5d9f0e-6f3a-4e0e-9a51-1d2f0b3c7a10\"\nnode_id = {}\n\
             data_dir = {data:?}\n{extra}\n{raft}\n[listen]\nclient = \"127.0.0.1:{client}\"\n\
             peer = \"127.0.0.1:{peer}\"\nhttp = \"127.0.0.1:{http}\"\n\
             advertise_peer = \"127.0.0.1:{}\"\n",
            n + 1,
            self.told_peers[n]
        );
        for ((id, [client, ..]), peer) in (1..).zip(&self.ports).zip(&self.told_peers) {
            text += &format!(
                "[[nodes]]\nid = {id}\npeer = \"127.0.0.1:{peer}\"\nclient = \"127.0.0.1:{client}\"\n"
            );
        }
        std::fs::write(self.config(n), text).expect("writing the configuration");
    }

    pub fn run(&mut self, n: usize) {
        let log = self.dir.path().join(format!("n{}.log", n + 1));
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let child = Command::new(env!("CARGO_BIN_EXE_quorate-node"))
            .arg("--config")
            .arg(self.config(n))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the node's binary was built for this test");
        self.children[n] = Some(child);
    }

    pub fn kill(&mut self, n: usize) {
        let mut child = self.children[n].take().expect("the node runs");
        child.kill().expect("killing our own child");
        child.wait().expect("reaping our own child");
    }

    fn signal(&self, n: usize, signal: i32) {
        let id = self.children[n].as_ref().expect("the node runs").id();
        let id = libc::pid_t::try_from(id).expect("a process id");
        // SAFETY: no memory is touched; the child is ours and not reaped yet.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0, "signalling our own child");
    }

    /// Ends a node in order.
    pub async fn stop(&mut self, n: usize) {
        self.signal(n, libc::SIGTERM);
        let (code, last) = self.ended(n).await;
        assert_eq!(code, Some(0), "{last}");
    }

    /// The process stops where it is; its sockets stay open.
    pub fn pause(&self, n: usize) {
        self.signal(n, libc::SIGSTOP);
        // The call only leaves the signal there: on a busy machine threads go on, and answer, until
        // one of them is scheduled and takes it.
        let tasks =
            format!("/proc/{}/task", self.children[n].as_ref().expect("the node runs").id());
        let stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.expect("a task").path().join("stat"));
            // A thread that has ended meanwhile does nothing any more.
            stat.is_err() || stat.is_ok_and(|stat| stat.contains(") T "))
        };
        while !std::fs::read_dir(&tasks).expect("the node runs").all(stopped) {
            std::thread::yield_now();
        }
    }

    /// And goes on.
    pub fn resume(&self, n: usize) {
        self.signal(n, libc::SIGCONT);
    }

    /// Status code and body of a GET at a node's HTTP address.
    pub async fn get(&self, n: usize, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.ports[n][2]))
            .await
            .expect("the node listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let (_, body) = answer.split_once("\r\n\r\n").expect("headers end");
        (status, body.to_owned())
    }

    /// A number of a node's metrics page; 0 while it has no such line.
    pub async fn metric(&self, n: usize, series: &str) -> f64 {
        let (status, page) = self.get(n, "/metrics").await;
        assert_eq!(status, 200);
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// A node's data directory.
    pub fn data_dir(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("n{}", n + 1))
    }

    /// Waits until a node has ended by itself. Answers with its exit code and its last log line.
    pub async fn ended(&mut self, n: usize) -> (Option<i32>, String) {
        let started = Instant::now();
        let child = self.children[n].as_mut().expect("the node was started");
        let status = loop {
            match child.try_wait().expect("asking for our own child") {
                Some(status) => break status,
                None => quorate_raft_node::runtime::sleep(Duration::from_millis(20)).await,
            }
            assert!(started.elapsed() < PATIENCE, "node {} does not end", n + 1);
        };
        self.children[n] = None;
        let log = self.dir.path().join(format!("n{}.log", n + 1));
        let log = std::fs::read_to_string(log).expect("its log");
        (status.code(), log.lines().last().unwrap_or_default().to_owned())
    }

    /// A node's group 0, as it says; `None` while it does not answer.
    pub async fn status(&self, n: usize) -> Option<GroupStatus> {
        let status = self.admin(n).status(StatusRequest {}).await.ok()?;
        status.into_inner().groups.into_iter().next()
    }

    /// Waits until a node's group 0 is as wanted.
    pub async fn wait_for(&self, n: usize, what: &str, wanted: impl Fn(&GroupStatus) -> bool) {
        let started = Instant::now();
        while !self.status(n).await.as_ref().is_some_and(&wanted) {
            assert!(started.elapsed() < PATIENCE, "in vain: node {} {what}", n + 1);
            quorate_raft_node::runtime::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn url(&self, n: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[n][0])
    }

    fn channel(&self, n: usize) -> Channel {
        Channel::from_shared(self.url(n)).expect("a URL").connect_lazy()
    }

    /// To the listener that serves this RPC.
    pub fn channel_for(&self, n: usize, path: &str) -> Channel {
        let [client, peer, _] = self.ports[n];
        let port = if path.starts_with("/quorate.raft.") { peer } else { client };
        let url = format!("http://127.0.0.1:{port}");
        Channel::from_shared(url).expect("a URL").connect_lazy()
    }

    /// Resident memory of a node.
    pub fn memory_kb(&self, n: usize) -> u64 {
        let id = self.children[n].as_ref().expect("the node runs").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("every process has it");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number of kB")
    }

    /// Has it not ended by itself?
    pub fn is_running(&self, n: usize) -> bool {
        let id = self.children[n].as_ref().expect("the node was started").id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // A zombie is a node that died.
        !stat.is_empty() && !stat.contains(") Z ")
    }

    pub fn logs(&self, n: usize) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel(n)).max_decoding_message_size(64 << 20)
    }

    pub fn admin(&self, n: usize) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel(n))
    }

    /// How far a node has applied.
    pub async fn applied(&self, n: usize) -> u64 {
        self.status(n).await.expect("the node answers").applied_index
    }

    /// Up to where a node's Raft log is gone.
    pub async fn purged(&self, n: usize) -> u64 {
        self.status(n).await.expect("the node answers").purged_index
    }

    /// Number (from 0) of the node that leads every group.
    pub async fn leader(&self) -> usize {
        let started = Instant::now();
        loop {
            for n in (0..self.children.len()).filter(|n| self.children[*n].is_some()) {
                // One that is stopped takes connections and answers nothing.
                let mut request = Request::new(StatusRequest {});
                request.set_timeout(Duration::from_secs(1));
                if let Ok(status) = self.admin(n).status(request).await {
                    let groups = status.into_inner().groups;
                    if !groups.is_empty() && groups.iter().all(|g| g.role() == Role::Leader) {
                        return n;
                    }
                }
            }
            assert!(started.elapsed() < PATIENCE, "no leader; see {}", self.show_logs());
            quorate_raft_node::runtime::sleep(Duration::from_millis(20)).await;
        }
    }

    fn show_logs(&self) -> String {
        (1..=self.children.len())
            .filter_map(|n| std::fs::read_to_string(self.dir.path().join(format!("n{n}.log"))).ok())
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.show_logs());
        }
    }
}

/// What a refusal says about itself.
pub fn detail(status: &Status) -> ErrorDetail {
    use prost::Message;
    let packed = tonic_types::pb::Status::decode(status.details()).expect("google.rpc.Status");
    let any = packed.details.first().unwrap_or_else(|| panic!("no detail in {status:?}"));
    assert_eq!(any.type_url, "type.googleapis.com/quorate.v1.ErrorDetail");
    ErrorDetail::decode(&*any.value).expect("an ErrorDetail")
}
