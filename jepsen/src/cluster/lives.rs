//! The nodes' processes: started, signalled, killed, waited for.

use std::{process::ExitStatus, time::Duration};

use anyhow::{Result, bail};
use quorate_jepsen_core::ids::Node;

use super::{Between, Clock, Cluster, Memory, clock, process::Host};
use crate::disk::FaultyDisk;

impl Cluster {
    /// The nodes whose process runs.
    #[must_use]
    pub fn running(&mut self) -> Vec<Node> {
        let nodes = self.nodes();
        nodes.into_iter().filter(|node| self.process_mut(*node).is_running()).collect()
    }

    /// Starts a node.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start_node(&mut self, node: Node) -> Result<()> {
        self.start_node_with(node, &[])
    }

    /// Starts a node with variables in its environment.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start_node_with(&mut self, node: Node, env: &[(String, String)]) -> Result<()> {
        let (binary, config) = (self.binary.clone(), self.config_path(node));
        let at = node.0 as usize - 1;
        let disk = self.faulty_disks.get(at).map(FaultyDisk::environment).transpose()?;
        let clock = self.clocks.get(at).map(Clock::environment);
        let env = clock::joined(
            [self.settings.environment.clone(), env.to_vec()].into_iter().chain(disk).chain(clock),
        );
        let host = Host::of(&self.settings.network, &binary)?;
        self.process_mut(node).start(&binary, &config, &env, host)?;
        if let Some(network) = &self.network {
            network.set_pid(node, self.process(node).pid()?);
        }
        Ok(())
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&mut self, nodes: &[Node]) -> Result<()> {
        match &self.settings.network {
            // All of them before any of them is waited for.
            Between::Fleet(fleet) => fleet.signal(nodes, libc::SIGKILL)?,
            _ => {
                for node in nodes {
                    self.process_mut(*node).signal(libc::SIGKILL)?;
                }
            }
        }
        for node in nodes {
            self.wait_exit(*node, Duration::from_secs(10)).await?;
        }
        Ok(())
    }

    /// Sends any signal, and does not wait for what it does.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&mut self, node: Node, signal: i32) -> Result<()> {
        self.process_mut(node).signal(signal)
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// It does not run.
    pub fn terminate(&mut self, node: Node) -> Result<()> {
        self.process_mut(node).signal(libc::SIGTERM)
    }

    /// Waits for a process to end. An end that is waited for is expected: [`Cluster::exited`] and
    /// the waits for a healthy cluster do not hold it against the node.
    ///
    /// # Errors
    /// It runs on.
    pub async fn wait_exit(&mut self, node: Node, within: Duration) -> Result<ExitStatus> {
        let log = self.log_path(node);
        match tokio::time::timeout(within, self.process_mut(node).wait()).await {
            Ok(status) => status,
            Err(_) => bail!("node {node} still runs after {within:?}; its log: {}", log.display()),
        }
    }

    /// The exit status of a node whose process ended without being waited for.
    #[must_use]
    pub fn exited(&mut self, node: Node) -> Option<ExitStatus> {
        self.process_mut(node).exited()
    }

    /// Whether a node is stopped (SIGSTOP).
    ///
    /// # Errors
    /// It does not run.
    pub fn is_stopped(&self, node: Node) -> Result<bool> {
        match &self.settings.network {
            Between::Fleet(fleet) => Ok(fleet.state(node)?.contains("(stopped)")),
            _ => self.process(node).is_stopped(),
        }
    }

    /// Resident memory of a running node.
    ///
    /// # Errors
    /// It does not run.
    pub fn memory(&self, node: Node) -> Result<Memory> {
        self.process(node).memory()
    }
}
