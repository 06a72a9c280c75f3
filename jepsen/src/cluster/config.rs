//! What a node is told in its config file.

use std::{fmt::Write as _, path::Path};

use quorate_jepsen_core::ids::Node;

use super::ports::PortBlock;

/// What may differ between clusters.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many nodes.
    pub nodes: usize,
    /// Raft groups.
    pub groups: u32,
    /// Whether all that is said to a node goes through a network that can be cut.
    pub proxied: bool,
    /// Whether every node's disk can be told to fail: see [`crate::disk::FaultyDisk`].
    pub faulty_disks: bool,
    /// Whether every node's disk can lose power: see [`crate::disk::LoopDisk`].
    pub power: bool,
    /// Further sections, as TOML: `[log]`, `[state]`, `[limits]`, `[raft]`.
    pub sections: String,
}

impl Default for Settings {
    fn default() -> Self {
        // Small segments and tables: rolling, recycling and flushing happen in a short run.
        let sections = "[log]\nsegment_mb = 16\ncache_mb = 16\n\n[state]\nmemtable_mb = 8\n\
                        block_cache_mb = 16\n";
        Self {
            nodes: 3,
            groups: 1,
            proxied: false,
            faulty_disks: false,
            power: false,
            sections: sections.to_owned(),
        }
    }
}

pub(super) fn render(
    settings: &Settings,
    ports: &PortBlock,
    cluster_id: &str,
    node: Node,
    data_dir: &Path,
) -> String {
    let called = |id: Node| match settings.proxied {
        true => (ports.client_proxy(id), ports.peer_proxy(id)),
        false => (ports.client(id), ports.peer(id)),
    };
    let (client, peer) = called(node);
    let mut text = format!(
        "cluster_id = \"{cluster_id}\"\nnode_id = {node}\ndata_dir = {:?}\ngroups = {}\n\n[listen]\n\
         client = \"{}\"\npeer = \"{}\"\nhttp = \"{}\"\nadvertise_client = \"{client}\"\n\
         advertise_peer = \"{peer}\"\n\n",
        data_dir.display().to_string(),
        settings.groups,
        ports.client(node),
        ports.peer(node),
        ports.http(node),
    );
    for id in (1..=settings.nodes as u64).map(Node) {
        let (client, peer) = called(id);
        writeln!(text, "[[nodes]]\nid = {id}\npeer = \"{peer}\"\nclient = \"{client}\"\n")
            .expect("a String takes everything");
    }
    text + &settings.sections
}
