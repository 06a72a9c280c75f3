//! Nodes of Quorate on this machine, for a measurement that looks into them or ends them.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use quorate_client::{Client, Consistency};

use super::{
    plan::Plan,
    systems::{
        Program, Running,
        quorate::{self, Http, Shape},
    },
};
use crate::{
    args::{Here, Load},
    exit::Failure,
    local::{
        metrics::Metrics,
        process::{Process, Usage},
    },
};

/// For one request: what takes longer here is not served.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Where servers write; removed at the end.
pub struct Data(PathBuf);

impl Data {
    /// Makes a folder of this process below `parent`.
    ///
    /// # Errors
    /// It can't be made.
    pub fn make(parent: &Path, name: &str) -> Result<Self, Failure> {
        let dir = parent.join(format!("{name}-{}", std::process::id()));
        let failed = |e| Failure::refused(format!("{}: {e}", dir.display()));
        std::fs::create_dir_all(&dir).map_err(failed)?;
        Ok(Self(std::fs::canonicalize(&dir).map_err(failed)?))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        // What can't be removed is under a name that says what it is.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program that stands beside this one.
///
/// # Errors
/// It doesn't.
pub fn beside_this(name: &str) -> Result<PathBuf, Failure> {
    let exe = std::env::current_exe().map_err(|e| Failure::refused(e.to_string()))?;
    let path = exe.with_file_name(name);
    match path.exists() {
        true => Ok(path),
        false => Err(Failure::refused(format!("{} is not there", path.display()))
            .advise("cargo build --release -p quorate-raft-node, or name it")),
    }
}

/// Three nodes. They end with this, and then their data goes: fields are dropped in this order.
pub struct Cluster {
    running: Running,
    http: Http,
    path: PathBuf,
    cpus: Vec<usize>,
    data: Data,
}

impl Cluster {
    /// Starts it.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(here: &Here, name: &str) -> Result<Self, Failure> {
        let path = match &here.program {
            Some(path) => path.clone(),
            None => beside_this("quorate-node")?,
        };
        let data = Data::make(&here.data, name)?;
        let cpus = here.cpus.as_ref().map(|cpus| cpus.0.clone()).unwrap_or_default();
        let program = Program {
            name: "Quorate",
            path: &path,
            dir: data.path().to_owned(),
            cpus: cpus.clone(),
        };
        let shape = Shape { settings: here.settings.clone(), ..Shape::groups(1) };
        let (running, http) = quorate::start(&program, &shape).await?;
        Ok(Self { running, http, path, cpus, data })
    }

    /// Addresses for clients.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.running.endpoints
    }

    /// How many nodes there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.running.nodes.len()
    }

    /// A node's process.
    pub fn node(&mut self, node: usize) -> &mut Process {
        &mut self.running.nodes[node]
    }

    /// Starts a node that was ended.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_again(&mut self, node: usize) -> Result<(), Failure> {
        let (dir, cpus) = (self.data.path().to_owned(), self.cpus.clone());
        let program = Program { name: "Quorate", path: &self.path, dir, cpus };
        self.running.start_again(&program, node)
    }

    /// The failure, if a node has ended by itself.
    #[must_use]
    pub fn ended(&mut self) -> Option<Failure> {
        self.running.ended()
    }

    /// The SDK, against all nodes.
    ///
    /// # Errors
    /// An address that is none.
    pub fn client(&self) -> Result<Client, Failure> {
        let builder = Client::builder().endpoints(self.endpoints().iter().cloned());
        Ok(builder.request_timeout(REQUEST_TIMEOUT).build()?)
    }

    /// What a load needs to run against it.
    ///
    /// # Errors
    /// A load that makes no sense.
    pub fn plan(&self, load: &Load) -> Result<Plan, Failure> {
        Plan::against(self.endpoints().to_vec(), load, REQUEST_TIMEOUT)
    }

    /// Which node leads the log, from 0.
    ///
    /// # Errors
    /// None is known.
    pub async fn leader(&self, client: &Client, log: &str) -> Result<usize, Failure> {
        let (_, header) = client.describe_log(log, &Consistency::linearizable()).await?;
        let leader = header.leader.ok_or_else(|| Failure::refused("no leader is known"))?;
        let address = |e: &&String| leader.address == **e;
        let found = self.endpoints().iter().position(|e| address(&e));
        found.ok_or_else(|| Failure::refused(format!("{} is no node of ours", leader.address)))
    }

    /// A node's metrics.
    ///
    /// # Errors
    /// It doesn't answer.
    pub async fn metrics(&self, node: usize) -> Result<Metrics, Failure> {
        let failed = |e: io::Error| Failure::refused(format!("metrics of node {}: {e}", node + 1));
        Metrics::of(self.http.of(node)).await.map_err(failed)
    }

    /// The highest term, and how often nodes learned of another leader.
    ///
    /// # Errors
    /// A node doesn't answer.
    pub async fn elections(&self) -> Result<(u64, u64), Failure> {
        let (mut term, mut changes) = (0, 0);
        for node in 0..self.size() {
            let metrics = self.metrics(node).await?;
            term = term.max(metrics.get("quorate_raft_term{group=\"0\"}") as u64);
            changes += metrics.get("quorate_raft_leader_changes_total{group=\"0\"}") as u64;
        }
        Ok((term, changes))
    }

    /// What each node has used.
    ///
    /// # Errors
    /// One is gone.
    pub fn usage(&self) -> Result<Vec<Usage>, Failure> {
        let usage = self.running.nodes.iter().map(Process::usage).collect::<io::Result<_>>();
        usage.map_err(|e| Failure::refused(format!("a node is gone: {e}")))
    }

    /// Bytes that each node's threads gave the disk to write.
    ///
    /// # Errors
    /// One is gone.
    pub fn written_by_thread(&self) -> Result<Vec<BTreeMap<String, u64>>, Failure> {
        let nodes = self.running.nodes.iter();
        let written = nodes.map(Process::written_by_thread).collect::<io::Result<_>>();
        written.map_err(|e| Failure::refused(format!("a node is gone: {e}")))
    }

    /// Bytes on disk of all nodes.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn disk_bytes(&self) -> Result<u64, Failure> {
        disk_bytes(self.data.path()).map_err(|e| Failure::refused(format!("the data: {e}")))
    }
}

/// Allocated bytes below a folder whose files come and go meanwhile.
fn disk_bytes(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let bytes = match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => Ok(meta.blocks() * 512),
            Err(e) => Err(e),
        };
        match bytes {
            Ok(bytes) => sum += bytes,
            Err(e) if gone(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(sum)
}

/// The machine's load average over a minute, without which no figure of a shared one can be judged.
#[must_use]
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}
