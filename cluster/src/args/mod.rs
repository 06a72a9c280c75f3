//! The command line: what may be typed, and what `--help` says about it. No behaviour here.

mod append;
mod bench;
mod config;
mod here;
mod logs;
mod member;
mod operate;
mod read;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use self::{
    append::AppendArgs,
    bench::{AppendMode, BenchArgs, BenchCommand, CompareArgs, Keys, Load, ReadMode},
    config::{ConfigArgs, ConfigCommand, LocalArgs},
    here::{
        CostArgs, Cpus, FailoverArgs, FanoutArgs, Here, Killed, LevelsArgs, OverloadArgs,
        RestartArgs, SoakArgs,
    },
    logs::{LogArgs, LogCommand},
    member::{AddArgs, LeadArgs, ListArgs, MemberArgs, MemberCommand, RemoveArgs, ReplaceArgs},
    operate::{FenceArgs, StatusArgs, VerifyArgs},
    read::{Consistency, ReadArgs, Show, Start, TailArgs},
};
use crate::{
    endpoints::{self, Endpoints},
    output::{Color, Format, units},
};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    refused or failed; the failed step changed nothing
  2    the command line makes no sense
  3    it may have taken effect, or may still (the message says what to do)
  4    replicas were compared and differ
  130  interrupted

Examples:
  quorate log create orders
  seq 1 1000 | quorate append orders
  quorate read orders --last 3
  quorate status

Start a cluster of three on this machine with cluster/quickstart.sh.";

/// Quorate: named logs of records, kept identical on a quorum of nodes.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, after_help = EXIT_CODES, infer_subcommands = false)]
#[command(subcommand_required = true, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Nodes to ask: a comma list of http://HOST:PORT, HOST:PORT, or PORT on the host before it
    #[arg(long, global = true, env = "QUORATE_ENDPOINTS", default_value = endpoints::DEFAULT)]
    #[arg(value_name = "LIST", help_heading = "Global options")]
    pub endpoints: Endpoints,
    /// Form of the answer: table for people, json for programs
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    #[arg(hide_possible_values = true, value_name = "FORM")]
    pub output: Format,
    /// How long to keep trying before giving up on one request, retries included [default: 10s;
    /// append: 2m]
    #[arg(long = "timeout", global = true, env = "QUORATE_TIMEOUT")]
    #[arg(value_parser = units::parse_duration, value_name = "TIME")]
    #[arg(help_heading = "Global options")]
    pub given_timeout: Option<Duration>,
    /// When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    #[arg(hide_possible_values = true, value_name = "WHEN")]
    pub color: Color,
}

impl Global {
    /// How long one request may take, retries included.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.given_timeout.unwrap_or(Duration::from_secs(10))
    }

    /// How long an append may stay unacknowledged. Longer: giving up in the middle of an input is
    /// worse than waiting, and elections on a busy machine take their time.
    #[must_use]
    pub fn append_timeout(&self) -> Duration {
        self.given_timeout.unwrap_or(Duration::from_secs(120))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create, list, describe, trim and delete logs
    Log(LogArgs),
    /// Append the lines of a file or of stdin to a log
    Append(AppendArgs),
    /// Read records and end
    Read(ReadArgs),
    /// Read records and follow new ones
    Tail(TailArgs),
    /// Raise a log's writer epoch, so that older writers are refused
    Fence(FenceArgs),
    /// One line per node and group: role, term, progress, disk
    Status(StatusArgs),
    /// Check that all replicas hold the same, and name the first difference if not
    Verify(VerifyArgs),
    /// List, add, remove and replace the nodes of the cluster; move leaderships
    Member(MemberArgs),
    /// Measure throughput and latency
    Bench(BenchArgs),
    /// Write configuration files
    Config(ConfigArgs),
    /// Print shell completions
    #[command(after_help = "Example:\n  quorate completions bash > /etc/bash_completion.d/quorate")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_finds_no_contradiction() {
        Cli::command().debug_assert();
    }

    /// Every command that does something shows how it is used.
    #[test]
    fn every_command_has_an_example() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("quorate "), "{path} has no example in its help");
            }
            command.get_subcommands().for_each(|c| walk(c, &path));
        }
        Cli::command().get_subcommands().for_each(|c| walk(c, "quorate"));
    }

    /// The examples are not prose: each must parse.
    #[test]
    fn every_example_parses() {
        fn examples(command: &clap::Command, found: &mut Vec<String>) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.lines().filter(|l| l.starts_with("  ") && l.contains("quorate "));
            found.extend(lines.map(str::to_owned));
            command.get_subcommands().for_each(|c| examples(c, found));
        }
        let mut found = Vec::new();
        examples(&Cli::command(), &mut found);
        assert!(found.len() > 20, "{found:#?}");
        for line in found {
            let from = line.find("quorate ").expect("filtered above");
            let command =
                line[from..].split([';', '|', '>', '<', '&', '#']).next().unwrap_or_default();
            let words = command.split_whitespace().map(|w| w.trim_matches('\''));
            if let Err(e) = Cli::try_parse_from(words) {
                panic!("{line:?} does not parse: {e}");
            }
        }
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "quorate read l --from 1 --last 2",
            "quorate read l --from-timestamp 1 --last 2",
            "quorate append l --producer-id xyz",
            "quorate append l --producer-id 00112233445566778899aabbccddeeff --expected-offset 3",
            "quorate append l --batch-records 0",
            "quorate append l --rate 0",
            "quorate log trim l",
            "quorate read l --consistency bounded",
            "quorate --endpoints nonsense status",
            "quorate bench append --clients 0",
            "quorate config local --nodes 0 --dir d",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn globals_stand_anywhere() {
        let cli = parse("quorate status --endpoints 7301 --output json --timeout 2s").unwrap();
        assert_eq!(cli.global.endpoints.0, ["http://127.0.0.1:7301"]);
        assert_eq!(cli.global.timeout(), Duration::from_secs(2));
        assert_eq!(cli.global.output, Format::Json);
    }
}
