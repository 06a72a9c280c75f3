//! Servers with a fault planted in them. A suite that finds nothing has to show that it would find
//! something: each of these must be found, by the right name, and the same run of the server as it
//! is shipped must be valid.
//!
//! The simulation has more of them, and finds them from many seeds; here are those for which it takes
//! real processes, disks and sockets, or that show a whole anomaly from the client's side.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use quorate_jepsen_core::check::{Kind as Anomaly, Verdict};
use serde::Serialize;

use super::{
    counterpart, doctor, drive,
    exit::BAD_ARGUMENTS,
    mutant_table as table,
    options::{Backend, Options, Workload},
    results,
};
use crate::{
    cluster::sibling_binary,
    nemesis::{
        fault::Kind,
        schedule::{Schedule, Window},
    },
    run::fresh_seed,
};

/// What `jepsen mutants` is asked.
#[derive(Debug, Args)]
pub struct Hunt {
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Names them, and ends.
    #[arg(long)]
    list: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// The first seed; a fresh one if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Where runs are stored.
    #[arg(long, env = "QUORATE_JEPSEN_STORE", default_value = "jepsen/store")]
    store: PathBuf,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs, on standard output alone.
    Json,
}

impl Hunt {
    /// Hunts all that were asked for; the exit code.
    ///
    /// # Errors
    /// A run of the server without faults broke.
    pub async fn run(&self) -> Result<u8> {
        let all = match named(&self.only) {
            Ok(all) => all,
            Err(why) => return Ok(impossible(&why)),
        };
        if self.list {
            all.iter().for_each(|mutant| mutant.describe());
            return Ok(0);
        }
        // Proxies on loopback: any machine has them, and times are known.
        let backend = Some(Backend::Process);
        let common = Options { store: self.store.clone(), backend, ..Options::default() };
        let needed: Vec<Kind> = all.iter().flat_map(|mutant| mutant.schedule().kinds()).collect();
        // A mutant that cannot be hunted here is not one that was found.
        let missing = doctor::missing(&common.store, &needed)?;
        if !missing.is_empty() {
            return Ok(impossible(&anyhow::anyhow!("{}", missing.join("; "))));
        }
        if let Err(why) = program() {
            return Ok(impossible(&why));
        }
        let seed = self.seed.map_or_else(fresh_seed, Ok)?;
        let mut hunted = Vec::new();
        for mutant in all {
            hunted.push(mutant.hunt(&common, seed).await?);
        }
        match self.output {
            Output::Table => print!("\n{}", report(&hunted)),
            Output::Json => println!("{}", serde_json::to_string_pretty(&hunted)?),
        }
        Ok(u8::from(!hunted.iter().all(Hunted::as_it_must)))
    }
}

fn impossible(why: &anyhow::Error) -> u8 {
    eprintln!("error: {why:#}");
    BAD_ARGUMENTS
}

/// A planted fault, and the run that must find it.
#[derive(Debug)]
pub struct Mutant {
    /// Its name in the server (`state-machine/src/planted/process.rs`).
    pub name: &'static str,
    /// What the server does wrong.
    pub what: &'static str,
    /// The properties it breaks, as `jepsen/README.md` numbers them.
    pub breaks: &'static str,
    /// What clients do.
    pub workload: Workload,
    /// How many clients.
    pub concurrency: u64,
    /// Operations a second, of all of them together.
    pub rate: u64,
    /// What is done to the cluster, not left to luck.
    pub windows: &'static [Window],
    /// Seconds.
    pub time_limit: u64,
    /// It must be found under one of these names.
    pub caught_as: &'static [Anomaly],
}

/// Which request meets which moment of a fault is a matter of luck; so many seeds are tried.
const TRIES: u64 = 5;

/// The server with planted faults.
pub const PROGRAM: &str = "quorate-node-planted";

/// The variable that tells it which.
pub const VARIABLE: &str = "QUORATE_PLANTED";

/// How a mutant fared.
#[derive(Clone, Debug, Serialize)]
pub struct Hunted {
    /// Its name.
    pub mutant: &'static str,
    /// The properties it breaks.
    pub breaks: &'static str,
    /// What it must be called.
    pub expected: Vec<&'static str>,
    /// What it was called, with how often; of the last run, if it survived.
    pub found: Vec<String>,
    /// Whether a right name is among them.
    pub caught: bool,
    /// From the first run to the verdict that caught it.
    pub seconds: u64,
    /// Runs until then.
    pub runs: u64,
    /// The seed of the last of them.
    pub seed: u64,
    /// Where it is stored.
    pub dir: String,
    /// The verdict on the same run of the server without faults; absent if the mutant survived.
    pub clean: Option<&'static str>,
}

impl Hunted {
    /// Caught, and nothing was found without it.
    #[must_use]
    pub fn as_it_must(&self) -> bool {
        self.caught && self.clean == Some(results::name(Verdict::Valid))
    }
}

/// The mutants of these names, in the order of the table; all, if none is named.
///
/// # Errors
/// There is no such mutant.
pub fn named(names: &[String]) -> Result<Vec<&'static Mutant>> {
    for name in names {
        known(name)?;
    }
    let wanted = |mutant: &&Mutant| names.is_empty() || names.iter().any(|n| n == mutant.name);
    Ok(table::ALL.iter().filter(wanted).collect())
}

/// The mutant of this name.
///
/// # Errors
/// There is none; the message names those there are.
pub fn known(name: &str) -> Result<&'static Mutant> {
    table::ALL.iter().find(|mutant| mutant.name == name).with_context(|| {
        let names: Vec<_> = table::ALL.iter().map(|mutant| mutant.name).collect();
        format!("no mutant is called {name:?}; there are: {}", names.join(", "))
    })
}

/// Where the server with planted faults is.
///
/// # Errors
/// It was not built; the message says how to.
pub fn program() -> Result<PathBuf> {
    sibling_binary(
        PROGRAM,
        "cargo build --release -p quorate-raft-node --features planted --bin quorate-node-planted",
    )
}

/// The mutant that is hunted by a run with these options, with the fault or without.
///
/// # Errors
/// The options are none that can be written down.
pub fn hunted(options: &Options) -> Result<Option<&'static Mutant>> {
    let these = serde_json::to_value(options)?;
    for mutant in table::ALL {
        for planted in [true, false] {
            if serde_json::to_value(mutant.options(options, planted))? == these {
                return Ok(Some(mutant));
            }
        }
    }
    Ok(None)
}

impl Mutant {
    fn describe(&self) {
        println!("{:<27} {}", self.name, self.what);
        let names = self.names().join(" or ");
        println!("{:<27}   breaks {}; must be found as {names}", "", self.breaks);
    }

    /// What it may be found as: an anomaly of the history, or what the nodes said about themselves.
    fn names(&self) -> Vec<&'static str> {
        let said = self.breaks.contains("P12").then_some(results::TWO_LEADERS);
        self.caught_as.iter().map(|kind| kind.name()).chain(said).collect()
    }

    /// What is done to the cluster.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule { windows: self.windows.to_vec() }
    }

    /// The options of its run, with the fault or without.
    #[must_use]
    pub fn options(&self, common: &Options, planted: bool) -> Options {
        Options {
            workload: self.workload,
            concurrency: self.concurrency,
            rate: self.rate,
            nemesis: "none".to_owned(),
            time_limit: self.time_limit,
            mutant: planted.then(|| self.name.to_owned()),
            name: Some(format!("mutant-{}{}", self.name, if planted { "" } else { "-absent" })),
            ..common.clone()
        }
    }

    /// Hunts it with a few seeds; then does the run that found it again, without it.
    ///
    /// # Errors
    /// The run without the fault broke. With it, that is one more thing that may happen.
    pub async fn hunt(&self, common: &Options, seed: u64) -> Result<Hunted> {
        let start = Instant::now();
        let mut hunted = Hunted {
            mutant: self.name,
            breaks: self.breaks,
            expected: self.names(),
            found: Vec::new(),
            caught: false,
            seconds: 0,
            runs: 0,
            seed,
            dir: String::new(),
            clean: None,
        };
        for seed in seed..seed + TRIES {
            (hunted.runs, hunted.seed) = (hunted.runs + 1, seed);
            eprintln!("\n{}: {} (breaks {})", self.name, self.what, self.breaks);
            let mut planted = None;
            match drive::run_as(&self.options(common, true), &self.schedule(), seed).await {
                Ok(run) => {
                    eprint!("\n{}", run.results);
                    hunted.dir = run.dir.display().to_string();
                    let kinds = run.results.report.kinds();
                    let found = kinds.iter().map(|(kind, count)| format!("{kind} x {count}"));
                    hunted.found = found.chain(run.results.failures.iter().cloned()).collect();
                    hunted.caught = hunted.found.iter().any(|found| {
                        found.split(' ').next().is_some_and(|name| hunted.expected.contains(&name))
                    });
                    planted = Some(run);
                }
                Err(why) => {
                    eprintln!("the run broke: {why:#}");
                    hunted.found = vec![format!("the run broke: {why:#}")];
                }
            }
            hunted.seconds = start.elapsed().as_secs();
            if let Some(planted) = planted.filter(|_| hunted.caught) {
                eprintln!("\n{}: the same without the fault", self.name);
                let without = self.options(common, false);
                let clean = drive::run_as(&without, &self.schedule(), seed).await?;
                eprint!("\n{}", clean.results);
                counterpart::join(&planted, &clean)?;
                hunted.clean = Some(results::name(clean.results.verdict()));
                break;
            }
        }
        Ok(hunted)
    }
}

/// The hunts as a table for people.
#[must_use]
pub fn report(all: &[Hunted]) -> String {
    let mut text = format!(
        "{:<27} {:<11} {:<28} {:>7} {:>4}  {:<8} {}\n",
        "mutant", "breaks", "caught by", "seconds", "runs", "without", "seed, run"
    );
    for hunted in all {
        let right = |found: &&String| {
            hunted.expected.iter().any(|name| found.split(' ').next() == Some(name))
        };
        // A failure goes on with what was seen; its name will do here.
        let name = |found: &String| match found.split_once(" of ") {
            Some((name, _)) => name.to_owned(),
            None => found.clone(),
        };
        let mut caught = hunted.found.iter().filter(right).map(name);
        text += &format!(
            "{:<27} {:<11} {:<28} {:>7} {:>4}  {:<8} {}, {}\n",
            hunted.mutant,
            hunted.breaks,
            caught.next().as_deref().unwrap_or("SURVIVED"),
            hunted.seconds,
            hunted.runs,
            hunted.clean.unwrap_or("-"),
            hunted.seed,
            hunted.dir
        );
        for more in caught {
            text += &format!("{:<27} {:<11} {more}\n", "", "");
        }
        if !hunted.caught {
            text += &format!("    must be found as {}\n", hunted.expected.join(" or "));
            let found = if hunted.found.is_empty() { "nothing" } else { &hunted.found.join("; ") };
            text += &format!("    was found: {found}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_it_was_caught_by_has_a_line() {
        let hunted = Hunted {
            mutant: "skip_vote_fsync",
            breaks: "P1, P3, P12",
            expected: vec!["two-leaders", "lost-append"],
            found: vec![
                "lost-append x 12".to_owned(),
                "offset-gap x 1".to_owned(),
                "two-leaders of term 7: n1, n2 led it".to_owned(),
            ],
            caught: true,
            seconds: 16,
            runs: 1,
            seed: 5,
            dir: "store/run".to_owned(),
            clean: Some("valid"),
        };
        let text = report(&[hunted]);
        let lines: Vec<&str> = text.lines().collect();
        let column = lines[0].find("caught by").expect("it has a head");
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1][column..].starts_with("lost-append x 12  "), "{text}");
        assert!(lines[1].ends_with("valid    5, store/run"), "{text}");
        assert_eq!(lines[2].trim_end(), format!("{:column$}two-leaders", ""), "{text}");
    }
}
