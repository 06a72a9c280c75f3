//! `quorate fence`, `quorate status` and `quorate verify`.

use std::time::Duration;

use clap::Args;

use crate::output::units;

/// Raise a log's writer epoch, so that older writers are refused.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  quorate fence orders\n  quorate fence orders --min-epoch 12\n\n\
    From the moment this is acknowledged, no append of a lower epoch, or without one, ever takes\n\
    effect. The new writer passes the epoch: quorate append orders --writer-epoch 12"
)]
pub struct FenceArgs {
    /// The log
    pub log: String,
    /// The new epoch is at least this, and always higher than any before
    #[arg(long, value_name = "EPOCH")]
    pub min_epoch: Option<u64>,
}

/// One line per node and group: role, term, progress, disk.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  quorate status\n  quorate status --watch\n  \
    quorate status --output json\n\n\
    LAST, COMMIT and APPLIED are log indexes of the group; LAG is how many entries this replica\n\
    still has to apply. Exit code 1 when a node does not answer or a group has no leader.")]
pub struct StatusArgs {
    /// Repeat until interrupted, every second or as given
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "1s")]
    #[arg(value_parser = units::parse_duration)]
    pub watch: Option<Duration>,
}

/// Check that all replicas hold the same, and name the first difference if not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  quorate verify\n  quorate verify --deep\n\n\
    Marks a place in each group's log and compares what every replica had computed there. Goes on\n\
    while the cluster works. With --deep every stored batch is read back from every replica's disk\n\
    and its checksum computed again. Exit code 4 when replicas differ.")]
pub struct VerifyArgs {
    /// Only this group
    #[arg(long, value_name = "GROUP")]
    pub group: Option<u32>,
    /// Read every batch back from every disk
    #[arg(long)]
    pub deep: bool,
}
