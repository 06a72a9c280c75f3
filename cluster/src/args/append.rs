//! `quorate append`.

use std::path::PathBuf;

use clap::{Args, value_parser};

use crate::{input::split::Framing, output::units};

const HELP: &str = "\
Examples:
  quorate append orders orders.txt --create
  journalctl -f | quorate append journal
  quorate append orders orders.txt --producer-id 3f0c9a52d1b84e6fa9c07b1d25e86f43
  printf 'eu=1\\nus=2\\n' | quorate append totals --key-separator =

Resuming. The lines of a file are put into batches by content alone, and every batch carries the
producer id and its number. When a run was cut off (even by kill -9), run the same command with the
producer id that it printed: what the log has already is skipped, the rest is appended, and no line
is lost or repeated. The file, --format, --batch-bytes, --batch-records and --key-separator must be
those of the first run; the newest batches of it are compared, and if they differ nothing is
appended. A log remembers a producer for a day after its last append (docs/guarantees.md).

Input from a pipe is sent as it comes, without waiting for full batches, and can't be resumed;
give it a --producer-id to have it batched by content too.";

/// Append the lines of a file or of stdin to a log.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct AppendArgs {
    /// The log
    pub log: String,
    /// What to append; - is stdin
    #[arg(default_value = "-")]
    pub file: PathBuf,
    /// Create the log if there is none of that name
    #[arg(long)]
    pub create: bool,
    /// How records are told apart in the input
    #[arg(long, value_enum, default_value_t)]
    pub format: Framing,
    /// What stands before the first of these in a record is its key
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub key_separator: Option<String>,
    /// Resume, or make resumable: 32 hex digits, unique to this input (see below)
    #[arg(long, value_name = "HEX", value_parser = parse_producer_id)]
    pub producer_id: Option<[u8; 16]>,
    /// Insist that the log knows this producer: fail instead of starting from the first line
    #[arg(long, requires = "producer_id")]
    pub resume: bool,
    /// Append only if the log's next offset is this; the whole input must fit in one batch
    #[arg(long, value_name = "OFFSET", conflicts_with_all = ["producer_id", "rate"])]
    pub expected_offset: Option<u64>,
    /// Append as the writer with this epoch (see quorate fence)
    #[arg(long, value_name = "EPOCH")]
    pub writer_epoch: Option<u64>,
    /// A batch ends before it has more bytes than this
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_batch_bytes)]
    pub batch_bytes: usize,
    /// A batch ends with this many records
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = value_parser!(u32).range(1..=65_536))]
    pub batch_records: u32,
    /// At most this many records a second
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
}

fn parse_producer_id(text: &str) -> Result<[u8; 16], String> {
    units::unhex(&text.replace('-', ""))
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "a producer id is 32 hex digits".to_owned())
}

fn parse_batch_bytes(text: &str) -> Result<usize, String> {
    let n = units::parse_bytes(text)?;
    // Above 1 MiB a batch no longer shares a Raft entry with others, so larger ones only cost
    // latency.
    if n > 1 << 20 {
        return Err("a batch has at most 1MiB".into());
    }
    usize::try_from(n).map_err(|_| "too large for this machine".into())
}
