//! What can be asked, and how it is asked again.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use quorate_sim::{
    mutants::{self, Mutant},
    run::Plan,
    schedule::Theme,
};

/// Whole clusters in one thread, from one seed: the real openraft, apply, proposer, read path and
/// services, on a simulated network, disk and clock.
#[derive(Parser)]
#[command(name = "sim", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
/// What the program does.
pub enum Command {
    /// Runs many seeds; shrinks the first that fails.
    Run {
        /// How many.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first; by the clock if not given.
        #[arg(long)]
        from: Option<u64>,
        /// Go on after a failure.
        #[arg(long)]
        keep_going: bool,
        #[command(flatten)]
        shape: Shape,
    },
    /// Runs one seed again.
    Replay {
        /// The seed.
        seed: u64,
        /// Print what happens, line by line.
        #[arg(long)]
        trace: bool,
        /// Only these faults of the seed's schedule, by place.
        #[arg(long, value_delimiter = ',')]
        keep: Option<Vec<usize>>,
        /// Write the history there, as JSON lines.
        #[arg(long)]
        history: Option<PathBuf>,
        /// Find fewer faults that break the same.
        #[arg(long)]
        shrink: bool,
        /// Print the trace's number of lines and hash, and nothing else.
        #[arg(long)]
        digest: bool,
        #[command(flatten)]
        shape: Shape,
    },
    /// Runs seeds in two processes each, and compares their traces.
    Meta {
        /// How many.
        #[arg(long, default_value_t = 5)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[command(flatten)]
        shape: Shape,
    },
    /// Plants one fault after the other in the code under test, and sees each caught.
    Mutants {
        /// Only this one.
        #[arg(long)]
        only: Option<String>,
        /// Seeds to catch each in.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[command(flatten)]
        shape: Shape,
    },
}

#[derive(Args, Clone)]
pub struct Shape {
    /// Nodes; drawn from the seed if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: Option<u64>,
    /// Groups; drawn from the seed if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub groups: Option<u32>,
    /// Simulated milliseconds during which faults come.
    #[arg(long, default_value_t = 6000)]
    pub fault_ms: u64,
    /// Kinds of faults: mixed, power, partition, vote, time, network, snapshot, flips, members;
    /// drawn from the seed if not given.
    #[arg(long)]
    pub theme: Option<String>,
    /// Whether logs are deleted and created again; drawn from the seed if not given.
    #[arg(long)]
    pub recreated: Option<bool>,
    /// A fault to plant in the code under test.
    #[arg(long)]
    pub mutant: Option<String>,
    /// Runs at a time; one per core if not given.
    #[arg(long)]
    pub jobs: Option<usize>,
}

impl Shape {
    /// The plan of a run with a seed that is still to be named.
    ///
    /// # Errors
    /// A theme or a mutant of that name is not known.
    pub fn plan(&self) -> anyhow::Result<Plan> {
        let mutant = match &self.mutant {
            Some(name) => Some(named(name)?.name),
            None => None,
        };
        let theme = match &self.theme {
            Some(name) => {
                let named = Theme::ALL.iter().find(|(known, _)| known == name);
                Some(named.with_context(|| format!("no theme is named {name:?}"))?.1)
            }
            None => None,
        };
        Ok(Plan {
            seed: 0,
            theme,
            fault_ticks: self.fault_ms,
            nodes: self.nodes,
            groups: self.groups,
            recreated: self.recreated,
            schedule: None,
            mutant,
            trace: false,
        })
    }

    /// Runs at a time.
    pub fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.unwrap_or_else(cores)
    }

    /// As arguments, to run something again.
    pub fn arguments(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                all.extend([format!("--{name}"), value]);
            }
        };
        add("nodes", self.nodes.map(|n| n.to_string()));
        add("groups", self.groups.map(|n| n.to_string()));
        add("fault-ms", Some(self.fault_ms.to_string()).filter(|_| self.fault_ms != 6000));
        add("theme", self.theme.clone());
        add("recreated", self.recreated.map(|is| is.to_string()));
        add("mutant", self.mutant.clone());
        all
    }
}

/// The mutant of that name.
///
/// # Errors
/// There is none; the message names all.
pub fn named(name: &str) -> anyhow::Result<&'static Mutant> {
    Mutant::named(name).ok_or_else(|| {
        let all: Vec<_> = mutants::ALL.iter().map(|mutant| mutant.name).collect();
        anyhow::anyhow!("no mutant is named {name:?}; there are: {}", all.join(", "))
    })
}
