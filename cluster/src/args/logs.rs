//! `quorate log ...`.

use clap::{Args, Subcommand};

use super::read::{Consistency, parse_consistency};

/// Create, list, describe, trim and delete logs.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Which of it.
    #[command(subcommand)]
    pub command: LogCommand,
}

/// `quorate log ...`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Create a log
    #[command(after_help = "Examples:\n  quorate log create orders\n  \
        quorate log create '{tenant-7}/orders' --if-absent\n\n\
        Logs whose names hold the same {tag} live in the same group and can be appended to atomically.")]
    Create {
        /// Its name: 1 to 255 of A-Z a-z 0-9 . _ - / : @ { }
        name: String,
        /// Be content with a log of that name that exists already
        #[arg(long)]
        if_absent: bool,
        /// How fresh an answer is to readers who don't say: linearizable, eventual, or bounded:TIME
        #[arg(long, value_name = "LEVEL", value_parser = parse_read_level)]
        read_level: Option<Consistency>,
    },
    /// Change how fresh an answer is to readers who don't say
    #[command(after_help = "Examples:\n  quorate log read-level feed bounded:2s\n  \
        quorate log read-level feed none\n\n\
        Each replica takes the change as it applies it. A read that names its own level is not\n\
        affected.")]
    ReadLevel {
        /// The log's name
        name: String,
        /// linearizable, eventual, bounded:TIME, or none (which is linearizable)
        #[arg(value_parser = parse_read_level)]
        level: Consistency,
    },
    /// List logs
    #[command(
        after_help = "Examples:\n  quorate log list\n  quorate log list orders/ --output json"
    )]
    List {
        /// Only names that start with this
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Show everything about one log
    #[command(after_help = "Example:\n  quorate log describe orders")]
    Describe {
        /// Its name
        name: String,
    },
    /// Make old records unreadable and free their space
    #[command(after_help = "Example:\n  quorate log trim orders --before 1000000\n\n\
        Offsets don't change: the first readable record is then 1000000.")]
    Trim {
        /// The log's name
        name: String,
        /// The first offset to keep; everything below it goes
        #[arg(long, value_name = "OFFSET")]
        before: u64,
    },
    /// Delete a log and all its records
    #[command(after_help = "Example:\n  quorate log delete orders --yes\n\n\
        A log created later under the same name is a new log: offsets start at 0, and producers,\n\
        writer epochs and positions of the old one are refused.")]
    Delete {
        /// Its name
        name: String,
        /// Don't ask (required where nobody can answer)
        #[arg(long)]
        yes: bool,
    },
}

/// A log has no level to look up: `none` takes its own away.
fn parse_read_level(text: &str) -> Result<Consistency, String> {
    match text {
        "none" => Ok(Consistency::OfLog),
        "log" => Err("write linearizable, eventual, bounded:TIME (bounded:500ms), or none".into()),
        level => parse_consistency(level),
    }
}
