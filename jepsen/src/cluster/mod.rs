//! Nodes as processes, in a folder of their own.
//!
//! The folder lies under the build's target folder (a real file system: on tmpfs an fsync proves
//! nothing), holds a config, a data folder and a log a node, and the history. A run that ends with
//! [`Cluster::finish`] removes it; any other end keeps it and says where it is.

mod addresses;
mod binary;
mod clock;
mod config;
mod elsewhere;
mod hurt;
mod lives;
mod members;
mod ports;
mod process;
mod threads;
mod wait;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen_core::ids::Node;

use crate::{
    disk::{FaultyDisk, LoopDisk},
    endpoints::Endpoints,
    network::Network,
};
use addresses::Addresses;
pub use binary::server_binary;
pub(crate) use binary::sibling_binary;
pub use clock::Clock;
pub use config::{Between, Settings};
use process::Process;
pub use process::{KILLED, Memory};
pub use threads::FrozenThreads;
pub use wait::{Leader, PATIENCE, Unhealthy, until};

/// A cluster of processes. All that run are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    cluster_id: String,
    settings: Settings,
    binary: PathBuf,
    addresses: Addresses,
    processes: Vec<Process>,
    /// Who is counted on: those whose copies must be complete. See [`Cluster::nodes`].
    members: Vec<Node>,
    endpoints: Endpoints,
    network: Option<Network>,
    /// By node, or empty.
    faulty_disks: Vec<FaultyDisk>,
    loop_disks: Vec<LoopDisk>,
    clocks: Vec<Clock>,
    finished: bool,
    kept_quietly: bool,
    /// On hosts of the user's: removed, or set aside.
    data_is_away: bool,
}

static CLUSTERS: AtomicU64 = AtomicU64::new(0);

impl Cluster {
    /// Lays out a cluster; starts nothing yet. A proxied one needs a runtime around it.
    ///
    /// # Errors
    /// No binary, no free ports, no folder.
    pub fn new(name: &str, settings: Settings) -> Result<Self> {
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let dir = binary::work_dir()?.join(format!("{name}-{}-{number}", std::process::id()));
        Self::in_dir(dir, settings)
    }

    /// As [`Cluster::new`], in this folder.
    ///
    /// # Errors
    /// As there; or a setting needs what this machine lacks.
    pub fn in_dir(dir: PathBuf, settings: Settings) -> Result<Self> {
        let binary = settings.program.clone().map_or_else(server_binary, Ok)?;
        std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        ensure!(
            !is_tmpfs(&dir)?,
            "{} is on tmpfs, where an fsync proves nothing; set QUORATE_JEPSEN_DIR to a folder on \
             a disk",
            dir.display()
        );
        let room = settings.nodes + settings.newcomers;
        let addresses = Addresses::take(room, &settings.network)?;
        let nodes = || (1..=settings.nodes as u64).map(Node);
        let processes = nodes().map(|node| Process::new(node, &dir)).collect();
        let all: Vec<_> = (1..=room as u64).map(Node).collect();
        let url = |node: &Node| format!("http://{}", addresses.called_by_clients(*node));
        let endpoints = Endpoints::new(all.iter().map(url).collect(), settings.nodes);
        let cluster_id = uuid::Uuid::new_v4().to_string();
        let network = match &settings.network {
            Between::Nothing => None,
            Between::Proxies => Some(proxies(&addresses, &all)?),
            Between::Lab(lab) => Some(Network::in_lab(&all, lab.clone())?),
            Between::Fleet(fleet) => Some(Network::in_fleet(&all, fleet.clone())?),
        };
        let named = |node: Node| format!("node{node}");
        let loop_disks = match settings.power {
            true => nodes().map(|node| LoopDisk::new(&dir, &named(node))).collect::<Result<_>>()?,
            false => Vec::new(),
        };
        let clocks = match settings.clocks {
            true => nodes().map(|node| Clock::new(&dir, &named(node))).collect::<Result<_>>()?,
            false => Vec::new(),
        };
        let members = nodes().collect();
        let mut cluster = Self {
            dir,
            cluster_id,
            settings,
            binary,
            addresses,
            processes,
            members,
            endpoints,
            network,
            faulty_disks: Vec::new(),
            loop_disks,
            clocks,
            finished: false,
            kept_quietly: false,
            data_is_away: false,
        };
        if cluster.settings.faulty_disks {
            for node in cluster.nodes() {
                let disk = FaultyDisk::new(&cluster.dir, &named(node), &cluster.data_dir(node))?;
                cluster.faulty_disks.push(disk);
            }
        }
        for node in cluster.nodes() {
            cluster.write_config(node)?;
        }
        Ok(cluster)
    }

    /// A cluster whose nodes are all started and which has a leader.
    ///
    /// # Errors
    /// As [`Cluster::new`], or no leader came up in time.
    pub async fn start(name: &str, settings: Settings) -> Result<Self> {
        let mut cluster = Self::new(name, settings)?;
        for node in cluster.nodes() {
            cluster.start_node(node)?;
        }
        cluster.wait_leader().await?;
        Ok(cluster)
    }

    /// The folder of the run.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A node's data folder.
    #[must_use]
    pub fn data_dir(&self, node: Node) -> PathBuf {
        if let Between::Fleet(fleet) = &self.settings.network {
            return fleet.data_dir(node);
        }
        match self.loop_disks.get(node.0 as usize - 1) {
            Some(disk) => disk.path().join("data"),
            None => self.dir.join(format!("node{node}")),
        }
    }

    /// The folder of a node's Raft log.
    #[must_use]
    pub fn log_dir(&self, node: Node) -> PathBuf {
        self.data_dir(node).join("log")
    }

    /// Where a node's output goes, over all its lives.
    #[must_use]
    pub fn log_path(&self, node: Node) -> PathBuf {
        self.process(node).log_path().to_owned()
    }

    /// What a node has written in its present or last life.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn log_of_last_life(&self, node: Node) -> Result<String> {
        self.process(node).log_of_last_life()
    }

    /// A node's address for clients, as a URL, past any proxy: for the test's own questions.
    #[must_use]
    pub fn client_url(&self, node: Node) -> String {
        format!("http://{}", self.addresses.observed(node))
    }

    /// The network between the nodes.
    ///
    /// # Errors
    /// This cluster has none that can be cut.
    pub fn network(&self) -> Result<&Network> {
        self.network.as_ref().context("the cluster was started on a network that cannot be cut")
    }

    fn write_config(&self, node: Node) -> Result<()> {
        let cluster_id = &self.cluster_id;
        self.write_config_with(node, cluster_id, &self.data_dir(node))
    }

    /// Writes a node's config with another cluster id or data folder than it should have.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config_with(&self, node: Node, cluster_id: &str, data_dir: &Path) -> Result<()> {
        let text = config::render(&self.settings, &self.addresses, cluster_id, node, data_dir);
        let path = self.config_path(node);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Puts a node's right config back.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn restore_config(&self, node: Node) -> Result<()> {
        self.write_config(node)
    }

    fn config_path(&self, node: Node) -> PathBuf {
        self.dir.join(format!("node{node}.toml"))
    }

    /// The server's program.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Kills what runs and removes the nodes' data; logs and history stay.
    pub fn remove_data(&mut self) {
        self.processes.iter_mut().for_each(Process::end);
        let all = || (1..=self.processes.len() as u64).map(Node);
        let images: Vec<_> = all().map(|node| self.dir.join(format!("node{node}.img"))).collect();
        let data: Vec<_> = all().map(|node| self.dir.join(format!("node{node}"))).collect();
        self.loop_disks.clear();
        if let Between::Fleet(fleet) = &self.settings.network {
            match fleet.remove_data() {
                Ok(()) => self.data_is_away = true,
                Err(why) => eprintln!("data stays: {why:#}"),
            }
        }
        // What cannot be removed is in nobody's way.
        images.iter().for_each(|image| drop(std::fs::remove_file(image)));
        data.iter().for_each(|dir| drop(std::fs::remove_dir_all(dir)));
    }

    /// Ends the run: kills what runs and leaves the folder.
    pub fn keep(mut self) {
        self.kept_quietly = true;
    }

    /// Ends the run: kills what runs and removes the folder.
    pub fn finish(mut self) {
        self.finished = true;
    }

    fn process(&self, node: Node) -> &Process {
        &self.processes[node.0 as usize - 1]
    }

    fn process_mut(&mut self, node: Node) -> &mut Process {
        &mut self.processes[node.0 as usize - 1]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Their file systems can be unmounted only when they are gone.
        self.processes.iter_mut().for_each(Process::end);
        self.loop_disks.clear();
        self.keep_data_on_hosts();
        if self.finished && std::env::var_os("QUORATE_JEPSEN_KEEP").is_none() {
            // The next build removes what could not be removed now.
            let _ = std::fs::remove_dir_all(&self.dir);
        } else if !self.kept_quietly {
            eprintln!("kept: {}", self.dir.display());
        }
    }
}

fn proxies(addresses: &Addresses, nodes: &[Node]) -> Result<Network> {
    let both = |node: &Node| {
        [
            (*node, addresses.called_by_clients(*node), addresses.client(*node)),
            (*node, addresses.called_by_nodes(*node), addresses.peer(*node)),
        ]
    };
    Network::start(nodes, &nodes.iter().flat_map(both).collect::<Vec<_>>())
}

fn is_tmpfs(dir: &Path) -> Result<bool> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    // SAFETY: statfs writes into the zeroed struct of its own type; the path is NUL-terminated.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut stat) } != 0 {
        return Err(std::io::Error::last_os_error()).context("statfs");
    }
    Ok(i128::from(stat.f_type) == i128::from(libc::TMPFS_MAGIC))
}
