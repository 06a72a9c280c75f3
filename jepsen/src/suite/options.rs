//! What a run is to be, from the command line; stored with it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::hosts::HostOptions;
use crate::{hosts::Fleet, nemesis::fault::Kind, network::Lab, workload::Mix};

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Plain appends, one attempt each, and linearizable reads.
    Append,
    /// Producers that send a batch again until it is acknowledged.
    Idempotent,
    /// Appends that go through only at the offset their writer expects.
    ExpectedOffset,
    /// Writers that take a log from each other by raising its epoch.
    Fencing,
    /// Plain appends, and reads of a bounded age from any node.
    FollowerRead,
    /// Clients that write and read at any node and demand to see what they have seen.
    Session,
    /// Appends and trims of one log.
    Trim,
    /// Appends to a log that is deleted and created again.
    CreateDelete,
    /// All of them together.
    Mixed,
}

impl Workload {
    /// Clients of each kind.
    #[must_use]
    pub fn mix(self, concurrency: usize, rate: u64) -> Mix {
        let readers = (concurrency / 6).max(1);
        let writers = concurrency.saturating_sub(readers).max(1);
        let none = Mix {
            producers: 0,
            plain: 0,
            fenced: 0,
            readers,
            followers: 0,
            sessions: 0,
            trimmers: 0,
            outlivers: 0,
            ..Mix::default()
        };
        let pause = Duration::from_micros(concurrency as u64 * 1_000_000 / rate.max(1));
        let mix = match self {
            Self::Append => Mix { plain: writers, expect_one_in: 0, ..none },
            Self::Idempotent => Mix { producers: writers, ..none },
            Self::ExpectedOffset => Mix { plain: writers, expect_one_in: 1, ..none },
            Self::Fencing => Mix { fenced: writers, ..none },
            Self::FollowerRead => {
                let followers = writers.div_ceil(2);
                Mix { plain: writers - followers + 1, expect_one_in: 0, followers, ..none }
            }
            Self::Trim => Mix { trimmers: writers, ..none },
            Self::CreateDelete => Mix { outlivers: writers, ..none },
            Self::Session => Mix { sessions: writers, ..none },
            Self::Mixed => {
                let fenced = (writers / 5).max(2);
                let (followers, sessions) = (1, (writers / 6).max(1));
                let rest = writers.saturating_sub(fenced + followers + sessions).max(2);
                let producers = rest.div_ceil(2);
                let plain = rest - producers;
                Mix {
                    producers,
                    plain,
                    fenced,
                    followers,
                    sessions,
                    trimmers: 1,
                    outlivers: 1,
                    ..none
                }
            }
        };
        Mix { pause, ..mix }
    }
}

/// How nodes are isolated from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// A host for each node: network namespaces, joined by a router. Needs root.
    Netns,
    /// Processes on loopback, with a proxy for each directed link. No root.
    Process,
    /// Hosts of your own, over ssh: see --hosts. Root there.
    Ssh,
}

/// Options of a run.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Options {
    /// What clients do.
    #[arg(long, value_enum, default_value = "mixed")]
    pub workload: Workload,
    /// Faults, separated by commas; "none" for none (`jepsen list` names them).
    #[arg(long, default_value = "partition,kill,pause")]
    pub nemesis: String,
    /// How nodes are connected; netns if this machine can.
    #[arg(long, value_enum)]
    pub backend: Option<Backend>,
    /// The hosts of the netns backend, once they are there.
    #[arg(skip)]
    #[serde(skip)]
    pub lab: Option<Arc<Lab>>,
    /// Hosts for the ssh backend.
    #[command(flatten)]
    #[serde(default)]
    pub hosts: HostOptions,
    /// These, once they are reached.
    #[arg(skip)]
    #[serde(skip)]
    pub fleet: Option<Arc<Fleet>>,
    /// Nodes of the cluster; with --hosts it is one a host.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=6))]
    pub nodes: u64,
    /// Seconds of load and faults.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..))]
    pub time_limit: u64,
    /// Operations a second, of all clients together, at most.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// Clients.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(3..=512))]
    pub concurrency: u64,
    /// Seconds from the begin of one fault to that of the next, on average.
    #[arg(long, default_value_t = 5.0)]
    pub nemesis_interval: f64,
    /// Seconds after which service must have resumed when a fault is healed.
    #[arg(long, default_value_t = 30)]
    pub recovery_limit: u64,
    /// Draws faults and clients' choices; a fresh one if absent.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Faults from a file (schedule.json of a stored run) instead of drawn ones.
    #[arg(long)]
    pub schedule: Option<PathBuf>,
    /// What a named run does (`jepsen list`) instead of drawn faults.
    #[arg(long, conflicts_with = "schedule")]
    #[serde(default)]
    pub scenario: Option<String>,
    /// Runs, each with the next seed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub test_count: u64,
    /// Where runs are stored.
    #[arg(long, env = "QUORATE_JEPSEN_STORE", default_value = "jepsen/store")]
    pub store: PathBuf,
    /// Runs a server with this planted fault (`jepsen mutants --list` names them).
    #[arg(long)]
    pub mutant: Option<String>,
    /// The name under which runs are stored; by default what is done in them.
    #[arg(long, value_parser = plain_name)]
    pub name: Option<String>,
    /// Keeps the nodes' data of a valid run, too.
    #[arg(long)]
    pub keep_data: bool,
}

/// A name that is one folder's, and no other.
fn plain_name(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) || name == "latest" {
        return Err("takes letters, digits, '-', '_', '+' and, inside, '.'".to_owned());
    }
    Ok(name.to_owned())
}

impl Default for Options {
    /// What the command line gives when nothing is said.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Nothing {
            #[command(flatten)]
            options: Options,
        }
        <Nothing as clap::Parser>::parse_from(["jepsen"]).options
    }
}

impl Options {
    /// The kinds of faults asked for; none, if what is done is fixed.
    ///
    /// # Errors
    /// A sentence that names the one there is not.
    pub fn kinds(&self) -> Result<Vec<Kind>, String> {
        if self.scenario.is_some() || self.schedule.is_some() {
            return Ok(Vec::new());
        }
        let names = self.nemesis.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut kinds = names
            .filter(|name| *name != "none")
            .map(str::parse)
            .collect::<Result<Vec<Kind>, String>>()?;
        kinds.sort_unstable();
        kinds.dedup();
        Ok(kinds)
    }

    /// The name under which runs like this are stored.
    ///
    /// # Errors
    /// As [`Options::kinds`].
    pub fn name(&self) -> Result<String, String> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let kinds: Vec<_> = self.kinds()?.iter().map(|kind| kind.name()).collect();
        let workload = self.workload.to_possible_value().expect("no workload is hidden");
        let faults = match &self.schedule {
            _ if self.scenario.is_some() => self.scenario.clone().unwrap_or_default(),
            Some(_) => "schedule".to_owned(),
            None if kinds.is_empty() => "none".to_owned(),
            None if kinds.len() > 4 => format!("{}-faults", kinds.len()),
            None => kinds.join("+"),
        };
        let mutant = self.mutant.as_ref().map(|name| format!("mutant-{name}-"));
        Ok(format!("{}{}-{faults}", mutant.unwrap_or_default(), workload.get_name()))
    }
}
