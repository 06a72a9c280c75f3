//! `quorate read` and `quorate tail`.

use std::time::Duration;

use clap::{Args, ValueEnum, value_parser};

use crate::output::units;

const READ_HELP: &str = "\
Examples:
  quorate read orders
  quorate read orders --last 10
  quorate read orders --from 100 --to 200 --format json
  quorate read orders --from-timestamp 2026-11-21T08:30:00Z --limit 5
  quorate read orders --node 127.0.0.1:7102 --consistency eventual | sha256sum

Without a start, reading starts at the first record that is still there. The answer ends with the
log's end as of the moment it was asked for; quorate tail goes on.";

const TAIL_HELP: &str = "\
Examples:
  quorate tail orders
  quorate tail orders --last 10
  quorate tail orders --from 0 --format json

Ends with Ctrl-C, after --limit records, or when its output is closed. Survives the loss of nodes:
it goes on at the next record, with none lost and none repeated.";

/// How a record is written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// The value and a line feed
    Value,
    /// The value alone, exactly
    Raw,
    /// Offset, time, key and value, separated by tabs
    Full,
    /// One JSON object a line
    Json,
}

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Everything acknowledged before the read was sent.
    Linearizable,
    /// Whatever the replica has applied.
    Eventual,
    /// Everything acknowledged more than this before the read was sent.
    Bounded(Duration),
    /// What the log says by itself.
    OfLog,
}

impl std::fmt::Display for Consistency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Linearizable => f.write_str("linearizable"),
            Self::Eventual => f.write_str("eventual"),
            Self::OfLog => f.write_str("log"),
            Self::Bounded(age) => write!(f, "bounded:{}ms", age.as_millis()),
        }
    }
}

/// Where to start.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
pub struct Start {
    /// Start at this offset
    #[arg(long, value_name = "OFFSET")]
    pub from: Option<u64>,
    /// Start at the first record of this time or later (milliseconds since 1970, or RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = units::parse_timestamp)]
    pub from_timestamp: Option<u64>,
    /// Start this many records before the end
    #[arg(long, value_name = "N")]
    pub last: Option<u64>,
}

/// Read records and end.
#[derive(Debug, Args)]
#[command(after_help = READ_HELP)]
pub struct ReadArgs {
    /// The log
    pub log: String,
    /// Where to start.
    #[command(flatten)]
    pub start: Start,
    /// End before this offset
    #[arg(long, value_name = "OFFSET")]
    pub to: Option<u64>,
    /// End after this many records
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// How fresh the answer must be: linearizable, eventual, bounded:TIME, or what the log says by
    /// itself (log; linearizable if it says nothing)
    #[arg(long, value_name = "LEVEL", default_value = "log", value_parser = parse_consistency)]
    pub consistency: Consistency,
    /// Read from this node only
    #[arg(long, value_name = "ADDRESS")]
    pub node: Option<String>,
    /// How a record is written; value, or json with --output json
    #[arg(long, value_enum)]
    pub format: Option<Show>,
    /// Say on stderr which node answered, and how fresh
    #[arg(long)]
    pub header: bool,
}

/// Read records and follow new ones.
#[derive(Debug, Args)]
#[command(after_help = TAIL_HELP)]
pub struct TailArgs {
    /// The log
    pub log: String,
    /// Where to start (without: at the end).
    #[command(flatten)]
    pub start: Start,
    /// End after this many records
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// How fresh what is shown must be proven, each second: linearizable, eventual, bounded:TIME, or
    /// what the log says by itself (log)
    #[arg(long, value_name = "LEVEL", default_value = "eventual", value_parser = parse_consistency)]
    pub consistency: Consistency,
    /// Read from this node only
    #[arg(long, value_name = "ADDRESS")]
    pub node: Option<String>,
    /// How a record is written; value, or json with --output json
    #[arg(long, value_enum)]
    pub format: Option<Show>,
}

/// The levels as people write them.
///
/// # Errors
/// None of them.
pub fn parse_consistency(text: &str) -> Result<Consistency, String> {
    match text.split_once(':') {
        None if text == "linearizable" => Ok(Consistency::Linearizable),
        None if text == "eventual" => Ok(Consistency::Eventual),
        None if text == "log" => Ok(Consistency::OfLog),
        Some(("bounded", age)) => Ok(Consistency::Bounded(units::parse_duration(age)?)),
        _ => Err("write linearizable, eventual, log, or bounded:TIME (bounded:500ms)".into()),
    }
}
