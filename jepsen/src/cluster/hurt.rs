//! What can be done to a node's disk, clocks and power.

use std::time::Duration;

use anyhow::{Context as _, Result};
use quorate_jepsen_core::ids::Node;

use super::{Clock, Cluster};
use crate::disk::FaultyDisk;

impl Cluster {
    /// A node's disk, to make it fail.
    ///
    /// # Errors
    /// This cluster's disks cannot be told to.
    pub fn disk(&self, node: Node) -> Result<&FaultyDisk> {
        let disk = self.faulty_disks.get(node.0 as usize - 1);
        disk.context("the cluster was started on disks that do not fail on command")
    }

    /// A node's clocks, to put them wrong.
    ///
    /// # Errors
    /// This cluster's clocks cannot be.
    pub fn clock(&mut self, node: Node) -> Result<&mut Clock> {
        let clock = self.clocks.get_mut(node.0 as usize - 1);
        clock.context("the cluster was started with clocks that are always right")
    }

    /// The process of a node.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self, node: Node) -> Result<u32> {
        self.process(node).pid()
    }

    /// Power loss of these nodes: their disks are cut off at once, then their processes die.
    ///
    /// # Errors
    /// This cluster's disks cannot lose power.
    pub async fn lose_power(&mut self, nodes: &[Node]) -> Result<()> {
        for node in nodes {
            let disk = self.loop_disks.get(node.0 as usize - 1);
            disk.context("the cluster was started on disks that cannot lose power")?.cut()?;
        }
        for node in nodes {
            // It may have noticed the dead disk and stopped by itself.
            if self.process_mut(*node).is_running() {
                self.process_mut(*node).signal(libc::SIGKILL)?;
            }
        }
        for node in nodes {
            self.wait_exit(*node, Duration::from_secs(10)).await?;
        }
        Ok(())
    }

    /// Power is back: file systems are recovered and mounted. Starts no process.
    ///
    /// # Errors
    /// A file system cannot be mounted again.
    pub fn restore_power(&mut self, nodes: &[Node]) -> Result<()> {
        nodes.iter().try_for_each(|node| self.loop_disks[node.0 as usize - 1].reboot())
    }
}
