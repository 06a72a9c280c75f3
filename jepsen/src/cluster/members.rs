//! Who is in the cluster, while that changes. What is here is what an operator does outside of the
//! cluster: install a node, start it, tell clients of it, take it away. The change itself is asked of
//! the nodes: see [`crate::nemesis`].

use anyhow::{Result, ensure};
use quorate_jepsen_core::ids::Node;

use super::{Clock, Cluster, Process};
use crate::{
    disk::{FaultyDisk, LoopDisk},
    endpoints::Endpoints,
};

impl Cluster {
    /// The members: who must run when all is well, and hold everything.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.members.clone()
    }

    /// The addresses that clients know.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Where nodes call a node, and where clients do: HOST:PORT.
    #[must_use]
    pub fn places(&self, node: Node) -> (String, String) {
        let (peer, client) =
            (self.addresses.called_by_nodes(node), self.addresses.called_by_clients(node));
        (peer.to_string(), client.to_string())
    }

    /// Installs and starts a node with an empty disk, under an id that was never used. It is no
    /// member yet.
    ///
    /// # Errors
    /// The cluster was laid out for fewer nodes, or it cannot be started.
    pub fn start_newcomer(&mut self) -> Result<Node> {
        let room = self.settings.nodes + self.settings.newcomers;
        let node = Node(self.processes.len() as u64 + 1);
        ensure!(node.0 as usize <= room, "the cluster was laid out for {room} nodes");
        let name = format!("node{node}");
        // What is kept by node is in the order of their ids.
        self.processes.push(Process::new(node, &self.dir));
        if self.settings.power {
            self.loop_disks.push(LoopDisk::new(&self.dir, &name)?);
        }
        if self.settings.clocks {
            self.clocks.push(Clock::new(&self.dir, &name)?);
        }
        if self.settings.faulty_disks {
            let disk = FaultyDisk::new(&self.dir, &name, &self.data_dir(node))?;
            self.faulty_disks.push(disk);
        }
        self.write_config(node)?;
        self.start_node(node)?;
        Ok(node)
    }

    /// A node is a member from now on, and clients are told of it.
    pub fn joined(&mut self, node: Node) {
        if !self.members.contains(&node) {
            self.members.push(node);
            self.members.sort_unstable();
        }
        self.endpoints.add(node);
    }

    /// A node is no member any more. It may run on, and clients go on calling it until
    /// [`Cluster::discard`].
    pub fn left(&mut self, node: Node) {
        self.members.retain(|member| *member != node);
    }

    /// Kills a node that is no member if it runs, and tells clients that it is gone. Its disk never
    /// comes back.
    ///
    /// # Errors
    /// It cannot be killed.
    ///
    /// # Panics
    /// It is a member.
    pub async fn discard(&mut self, node: Node) -> Result<()> {
        assert!(!self.members.contains(&node), "n{node} is still counted on");
        self.endpoints.remove(node);
        if self.process_mut(node).is_running() {
            self.kill(&[node]).await?;
        }
        Ok(())
    }
}
