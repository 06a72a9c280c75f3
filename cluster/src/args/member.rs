//! `quorate member`.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::output::units;

/// List, add, remove and replace the nodes of the cluster; move leaderships.
#[derive(Debug, Args)]
pub struct MemberArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: MemberCommand,
}

/// What to do with members.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Show who is in each group, and where
    List(ListArgs),
    /// Take a new node in: it catches up first, and then gets a vote
    Add(AddArgs),
    /// Take a node out for good
    Remove(RemoveArgs),
    /// Put a new node in the place of one that was lost
    Replace(ReplaceArgs),
    /// Hand the leadership to a node
    Lead(LeadArgs),
}

/// Show who is in each group, and where.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  quorate member list\n  quorate member list --output json")]
pub struct ListArgs {}

/// A node to take in.
#[derive(Debug, Args)]
pub struct NewNode {
    /// Where the other nodes reach it
    #[arg(long, value_name = "HOST:PORT")]
    pub peer: String,
    /// Where clients reach it
    #[arg(long, value_name = "HOST:PORT")]
    pub client: String,
    /// How long it may take to catch up
    #[arg(long, value_name = "TIME", default_value = "1h")]
    #[arg(value_parser = units::parse_duration)]
    pub patience: Duration,
}

/// Take a new node in.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  quorate member add 4 --peer 10.0.0.4:7201 --client 10.0.0.4:7101\n\n\
    Start the node first: an empty data directory, an id that was never used, and a configuration\n\
    that lists the other nodes and itself. It gets everything as a learner, and a vote in each\n\
    group once it has caught up; appends go on meanwhile. Interrupted, it can be run again."
)]
pub struct AddArgs {
    /// The new node's id
    pub id: u64,
    /// Where it is
    #[command(flatten)]
    pub node: NewNode,
    /// Leave it a learner: it serves reads, and has no vote
    #[arg(long)]
    pub learner: bool,
}

/// Take a node out for good.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate member remove 3\n\n\
    Leaderships are moved away first. Refused when the nodes that are left would not be a majority\n\
    that is up and up to date. Stop the node afterwards; its id is never used again.")]
pub struct RemoveArgs {
    /// The node's id
    pub id: u64,
}

/// Put a new node in the place of one that was lost.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate member replace 3 4 --peer 10.0.0.4:7201 --client \
    10.0.0.4:7101\n\n\
    As `member add` of the new and `member remove` of the old node, in one change: there is never\n\
    a voter more. The old node may be up or lost.")]
pub struct ReplaceArgs {
    /// The node that goes
    pub old: u64,
    /// The node that comes, with an id that was never used
    pub new: u64,
    /// Where the new one is
    #[command(flatten)]
    pub node: NewNode,
}

/// Hand the leadership to a node.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  quorate member lead 2\n  quorate member lead 2 --group 0")]
pub struct LeadArgs {
    /// The node's id, a voter
    pub id: u64,
    /// Only of this group
    #[arg(long, value_name = "GROUP")]
    pub group: Option<u32>,
}
