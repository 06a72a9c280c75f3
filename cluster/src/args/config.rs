//! `quorate config ...`.

use std::path::PathBuf;

use clap::{Args, Subcommand, value_parser};

/// Write configuration files.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Which.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// `quorate config ...`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write the files of a cluster whose nodes all run on this machine
    #[command(after_help = "Example:\n  quorate config local --nodes 3 --dir .run\n\n\
        Writes DIR/node1.toml and so on. Node N listens on the loopback interface: clients on\n\
        base port + N - 1, peers 100 above that, HTTP 200 above that; its data goes to DIR/nodeN.\n\
        Start each with: quorate-node --config DIR/nodeN.toml")]
    Local(LocalArgs),
}

/// `quorate config local`.
#[derive(Clone, Debug, Args)]
pub struct LocalArgs {
    /// Nodes; an odd number tolerates the most failures for its size
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u16).range(1..=99))]
    pub nodes: u16,
    /// Where the files and the nodes' data go
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Raft groups; more of them are for more cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1024))]
    pub groups: u32,
    /// Port of the first node for clients
    #[arg(long, value_name = "PORT", default_value_t = 7101, value_parser = value_parser!(u16).range(1..=65_000))]
    pub base_port: u16,
    /// The cluster's id, a UUID; drawn at random when not given
    #[arg(long, value_name = "UUID")]
    pub cluster_id: Option<uuid::Uuid>,
    /// Overwrite files of another cluster that are there already
    #[arg(long)]
    pub force: bool,
}
