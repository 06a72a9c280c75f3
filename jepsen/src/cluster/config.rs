//! What a node is told in its config file.

use std::{fmt::Write as _, path::Path, sync::Arc};

use quorate_jepsen_core::ids::Node;

use super::addresses::Addresses;
use crate::{hosts::Fleet, network::Lab};

/// What is between a node and whoever calls it.
#[derive(Clone, Debug, Default)]
pub enum Between {
    /// Nothing: they are called on loopback.
    #[default]
    Nothing,
    /// A network of proxies that can be cut.
    Proxies,
    /// A network of hosts that can be cut. The program must have entered it.
    Lab(Arc<Lab>),
    /// Hosts of the user's, whose links can be cut.
    Fleet(Arc<Fleet>),
}

/// What may differ between clusters.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many nodes.
    pub nodes: usize,
    /// How many more may join while it runs, each under an id of its own.
    pub newcomers: usize,
    /// Raft groups.
    pub groups: u32,
    /// Through what all goes that is said to a node.
    pub network: Between,
    /// Whether every node's disk can be told to fail: see [`crate::disk::FaultyDisk`].
    pub faulty_disks: bool,
    /// Whether every node's disk can lose power: see [`crate::disk::LoopDisk`].
    pub power: bool,
    /// Whether every node's clocks can be put wrong: see [`crate::cluster::Clock`].
    pub clocks: bool,
    /// Another program than the server: see [`crate::suite::mutants`].
    pub program: Option<std::path::PathBuf>,
    /// Variables in every node's environment.
    pub environment: Vec<(String, String)>,
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
            newcomers: 0,
            groups: 1,
            network: Between::Nothing,
            faulty_disks: false,
            power: false,
            clocks: false,
            program: None,
            environment: Vec::new(),
            sections: sections.to_owned(),
        }
    }
}

pub(super) fn render(
    settings: &Settings,
    addresses: &Addresses,
    cluster_id: &str,
    node: Node,
    data_dir: &Path,
) -> String {
    let called = |id: Node| (addresses.called_by_clients(id), addresses.called_by_nodes(id));
    let (client, peer) = called(node);
    let mut text = format!(
        "cluster_id = \"{cluster_id}\"\nnode_id = {node}\ndata_dir = {:?}\ngroups = {}\n\n[listen]\n\
         client = \"{}\"\npeer = \"{}\"\nhttp = \"{}\"\nadvertise_client = \"{client}\"\n\
         advertise_peer = \"{peer}\"\n\n",
        data_dir.display().to_string(),
        settings.groups,
        addresses.client(node),
        addresses.peer(node),
        addresses.http(node),
    );
    // The first members; and a node is in its own list, also when it joins a running cluster.
    let first = (1..=settings.nodes as u64).map(Node);
    for id in first.chain(Some(node).filter(|node| node.0 > settings.nodes as u64)) {
        let (client, peer) = called(id);
        writeln!(text, "[[nodes]]\nid = {id}\npeer = \"{peer}\"\nclient = \"{client}\"\n")
            .expect("a String takes everything");
    }
    text + &settings.sections
}
