//! Three nodes of each system, on this machine, each as its makers ship it except for what is
//! written down in [`Running::settings`].

pub mod etcd;
pub mod nats;
pub mod quorate;
pub mod redis;

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    exit::Failure,
    local::{
        ports,
        process::{Process, Usage},
    },
};

/// Replicas of everything; a majority is two.
pub const NODES: u16 = 3;

/// How long a cluster may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Which system, and in which settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// Ours.
    Quorate,
    /// Ours, with several groups.
    QuorateGroups,
    /// etcd.
    Etcd,
    /// NATS JetStream that syncs before it acknowledges.
    NatsAlways,
    /// NATS JetStream as it comes.
    NatsDefault,
    /// Redis streams with `WAIT`.
    Redis,
}

/// A cluster that takes requests. Its processes end when this is dropped.
pub struct Running {
    /// Which.
    pub id: Id,
    /// What to call it in tables.
    pub name: &'static str,
    /// What its program says it is.
    pub version: String,
    /// What was set, and that the rest was not.
    pub settings: &'static str,
    /// What its acknowledgement of a write means in these settings.
    pub acknowledges: &'static str,
    /// Addresses of all nodes.
    pub endpoints: Vec<String>,
    /// Addresses to send writes to: those where they need no forwarding.
    pub writers: Vec<String>,
    /// Its processes.
    pub nodes: Vec<Process>,
    /// What each of them was started with.
    pub arguments: Vec<Vec<String>>,
}

impl Running {
    /// What all its processes have used together.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn usage(&self) -> io::Result<Usage> {
        self.nodes.iter().try_fold(Usage::default(), |sum, node| Ok(sum + node.usage()?))
    }

    /// Starts one of its nodes again, in place of a process that has ended.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_again(&mut self, program: &Program<'_>, node: usize) -> Result<(), Failure> {
        self.nodes[node] = program.start(node as u16 + 1, &self.arguments[node])?;
        Ok(())
    }

    /// The failure, if one of its processes has ended.
    #[must_use]
    pub fn ended(&mut self) -> Option<Failure> {
        ended(self.name, &mut self.nodes)
    }
}

/// A program to start nodes of.
pub struct Program<'a> {
    /// What to call it.
    pub name: &'static str,
    /// Where it is.
    pub path: &'a Path,
    /// Where its nodes may write.
    pub dir: PathBuf,
    /// Processors of its nodes, if not all.
    pub cpus: Vec<usize>,
}

impl Program<'_> {
    /// Makes the folder.
    ///
    /// # Errors
    /// It can't be made.
    pub fn prepare(&self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.dir).map_err(|e| self.failed(&self.dir.display(), &e))
    }

    /// The first of so many free ports.
    ///
    /// # Errors
    /// There are none.
    pub fn ports(&self, count: u16) -> Result<u16, Failure> {
        ports::free(count).ok_or_else(|| Failure::refused("no free ports on 127.0.0.1"))
    }

    /// Its version, out of what it prints with this argument.
    ///
    /// # Errors
    /// It can't be run.
    pub fn version(&self, argument: &str) -> Result<String, Failure> {
        let output = Command::new(self.path).arg(argument).output();
        let output = output.map_err(|e| self.failed(&self.path.display(), &e))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(version(&text).unwrap_or("unknown").to_owned())
    }

    /// Starts one node.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(&self, number: u16, arguments: &[String]) -> Result<Process, Failure> {
        let failed = |e: io::Error| self.failed(&self.path.display(), &e);
        // A path that is relative is so to where we are, not to where the node will be.
        let path = match self.path.components().count() {
            1 => self.path.to_owned(),
            _ => std::path::absolute(self.path).map_err(failed)?,
        };
        let mut command = Command::new(path);
        command.args(arguments).current_dir(&self.dir);
        // Settings of the one who measures are not meant for what is measured.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["QUORATE_", "ETCD_", "NATS_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&*name);
            }
        }
        let log = self.dir.join(format!("node{number}.log"));
        Process::start_on(command, &log, &self.cpus).map_err(failed)
    }

    /// Starts all nodes.
    ///
    /// # Errors
    /// One can't be started.
    pub fn start_all(&self, arguments: &[Vec<String>]) -> Result<Vec<Process>, Failure> {
        (1..).zip(arguments).map(|(number, words)| self.start(number, words)).collect()
    }

    /// Writes a file for a node.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.dir.join(name);
        std::fs::write(&path, text).map_err(|e| self.failed(&path.display(), &e))?;
        Ok(path)
    }

    fn failed(&self, what: &dyn std::fmt::Display, error: &io::Error) -> Failure {
        Failure::refused(format!("{}: {what}: {error}", self.name))
    }

    /// Asks until the answer is there.
    ///
    /// # Errors
    /// The last refusal, when time is up or a node has ended.
    pub async fn ready<T, F>(
        &self,
        nodes: &mut [Process],
        mut ask: impl FnMut() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            let refusal = match tokio::time::timeout(PATIENCE / 4, ask()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(refusal)) => refusal,
                Err(_) => Failure::refused("no answer"),
            };
            if let Some(failure) = ended(self.name, nodes) {
                return Err(failure);
            }
            if Instant::now() > end {
                return Err(refusal.at(format!("{} is not ready", self.name)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The first word that is a version: `3.7.3`, `v2.15.2`, `v=7.0.15`.
fn version(text: &str) -> Option<&str> {
    let words = text.split_whitespace().map(|w| w.trim_start_matches('v').trim_start_matches('='));
    words.into_iter().find(|w| w.contains('.') && w.starts_with(|c: char| c.is_ascii_digit()))
}

fn ended(name: &str, nodes: &mut [Process]) -> Option<Failure> {
    nodes.iter_mut().find_map(|node| match node.exited() {
        Ok(None) => None,
        Ok(Some(status)) => {
            let words = node.last_words(3);
            Some(Failure::refused(format!("a node of {name} has ended, {status}: {words}")))
        }
        Err(error) => Some(Failure::refused(format!("a node of {name}: {error}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let table = [
            ("etcd Version: 3.7.3\nGit SHA: Not provided\nGo Version: go1.26.8\n", "3.7.3"),
            ("nats-server: v2.15.2\n", "2.15.2"),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64\n", "7.0.15"),
            ("quorate-node 0.1.0\n", "0.1.0"),
        ];
        for (text, want) in table {
            assert_eq!(version(text), Some(want));
        }
        assert_eq!(version("no idea"), None);
    }
}
