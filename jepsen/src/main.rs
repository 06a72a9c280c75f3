//! `jepsen`: fault tests of Quorate on real processes.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use quorate_jepsen::{
    nemesis::{fault::Kind, schedule::Schedule},
    network::Lab,
    run::fresh_seed,
    suite::{
        backend::{self, Needs},
        doctor, drive,
        exit::{BAD_ARGUMENTS, BROKEN, code, worse},
        hosts::HostOptions,
        mutants::{self, Hunt},
        nightly::Long,
        options::{Backend, Options, Workload},
        results,
        scenarios::{self, Scenario},
        serve,
        summary::Summary,
    },
};

/// Fault tests of Quorate on real processes.
///
/// Exit codes: 0 valid, 1 invalid, 2 unknown (not a pass), 254 bad arguments, 255 the test itself
/// broke.
#[derive(Debug, Parser)]
#[command(name = "jepsen", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One run: start a cluster, load it, hurt it, and judge what its clients saw.
    #[command(after_help = "Example:\n  jepsen/run.sh test --workload append --nemesis \
                            partition,kill,pause,reply-loss --time-limit 25")]
    Test(Options),
    /// Every workload with the faults given, one run each; or a part of a long profile.
    TestAll {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        long: Long,
    },
    /// Four short runs, as continuous integration does them; about two minutes.
    Ci(Ci),
    /// The named runs, one after the other: all, or these; half a minute each.
    Scenarios {
        /// Names (`jepsen list`).
        names: Vec<String>,
        #[command(flatten)]
        runs: Ci,
    },
    /// Servers with planted faults: each must be found, and by the right name.
    Mutants(Hunt),
    /// Judge a stored run again.
    Analyze {
        /// Its folder; the latest one if absent.
        run: Option<PathBuf>,
        /// Where runs are stored.
        #[arg(long, env = "QUORATE_JEPSEN_STORE", default_value = "jepsen/store")]
        store: PathBuf,
    },
    /// A web page of the stored runs, for this machine only.
    Serve {
        /// The port, on 127.0.0.1; 0 for any.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// Where runs are stored.
        #[arg(long, env = "QUORATE_JEPSEN_STORE", default_value = "jepsen/store")]
        store: PathBuf,
    },
    /// Try out which faults this machine can do.
    Doctor {
        /// Where to try; a folder on the disk that runs will use.
        #[arg(long, env = "QUORATE_JEPSEN_STORE", default_value = "jepsen/store")]
        store: PathBuf,
        /// Of which backend; hosts are tried only for ssh, and only they.
        #[arg(long, value_enum)]
        backend: Option<Backend>,
        #[command(flatten)]
        hosts: HostOptions,
    },
    /// Workloads, faults, and stored runs.
    List {
        /// Where runs are stored.
        #[arg(long, env = "QUORATE_JEPSEN_STORE", default_value = "jepsen/store")]
        store: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Ci {
    /// The first seed; a fresh one if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// How nodes are connected; netns if this machine can.
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Where runs are stored.
    #[arg(long, env = "QUORATE_JEPSEN_STORE", default_value = "jepsen/store")]
    store: PathBuf,
    /// The hosts of the netns backend, once they are there.
    #[arg(skip)]
    lab: Option<Arc<Lab>>,
}

fn main() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is the reader's choice.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { BAD_ARGUMENTS } else { 0 });
        }
    };
    if let Err(why) = prepare(&mut cli.command) {
        eprintln!("error: {why:#}");
        return ExitCode::from(BAD_ARGUMENTS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.context("starting the runtime").and_then(|runtime| match cli.command {
        Command::Test(options) => runtime.block_on(test(&options)),
        Command::TestAll { options, long } if long.is_asked() => {
            runtime.block_on(long.run(&options))
        }
        Command::TestAll { options, .. } => runtime.block_on(test_all(&options)),
        Command::Ci(options) => runtime.block_on(ci(&options)),
        Command::Scenarios { names, runs } => runtime.block_on(scenarios(&names, &runs)),
        Command::Mutants(hunt) => runtime.block_on(hunt.run()),
        Command::Analyze { run, store } => analyze(&run.unwrap_or_else(|| store.join("latest"))),
        Command::Serve { port, store } => runtime.block_on(serve::serve(&store, port)).map(|()| 0),
        Command::Doctor { store, backend, hosts } => doctor(&store, backend, hosts),
        Command::List { store } => list(&store),
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::from(BROKEN)
        }
    }
}

/// Sees to it that all that was asked for can be done.
fn prepare(command: &mut Command) -> Result<()> {
    if !matches!(command, Command::Analyze { .. } | Command::Serve { .. } | Command::List { .. }) {
        backend::own_mounts()?;
    }
    match command {
        Command::TestAll { options, long } if long.is_asked() => {
            let kinds = long.kinds();
            let missing = doctor::missing(&options.store, &kinds)?;
            anyhow::ensure!(
                missing.is_empty(),
                "this machine cannot do that: {} (see --without)",
                missing.join("; ")
            );
            can(options, &Schedule::default(), &kinds)?;
            backend::settle(options, Needs::of(&Schedule::default(), &kinds))
        }
        Command::Test(options) | Command::TestAll { options, .. } => {
            possible(options)?;
            let schedule = drive::schedule(options, 0)?;
            let asked = options.kinds().map_err(anyhow::Error::msg)?;
            backend::settle(options, Needs::of(&schedule, &asked))
        }
        Command::Ci(ci) => ci.settle(),
        Command::Scenarios { names, runs } => {
            if names.is_empty() {
                names.extend(scenarios::ALL.iter().map(|scenario| scenario.name.to_owned()));
            }
            for name in names.iter() {
                possible(&Scenario::named(name)?.options(&runs.options()))?;
            }
            runs.settle()
        }
        _ => Ok(()),
    }
}

/// Whether the backend has these faults at all.
fn can(options: &Options, schedule: &Schedule, kinds: &[Kind]) -> Result<()> {
    let Some(backend) = backend::chosen(options)? else { return Ok(()) };
    let refused = backend.refuses(schedule, kinds);
    let has = || Kind::ALL.iter().filter(|kind| backend.lacks(**kind).is_none());
    let has = || has().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
    anyhow::ensure!(
        refused.is_empty(),
        "--backend {} does not do: {}; it does: {}",
        backend.name(),
        refused.join(", "),
        has()
    );
    Ok(())
}

/// A fault that was asked for and cannot be done is an error, never skipped.
fn possible(options: &Options) -> Result<()> {
    if let Some(name) = &options.mutant {
        mutants::known(name)?;
        mutants::program()?;
    }
    let schedule = drive::schedule(options, 0)?;
    let asked = options.kinds().map_err(anyhow::Error::msg)?;
    can(options, &schedule, &asked)?;
    let kinds = schedule.kinds();
    let missing = doctor::missing(&options.store, &[kinds, asked].concat())?;
    anyhow::ensure!(missing.is_empty(), "this machine cannot do that: {}", missing.join("; "));
    Ok(())
}

async fn test(options: &Options) -> Result<u8> {
    let first = options.seed.map_or_else(fresh_seed, Ok)?;
    let mut worst = 0;
    for number in 0..options.test_count {
        let finished = drive::run(options, first.wrapping_add(number)).await?;
        print!("\n{}", finished.results);
        println!("{}", finished.dir.display());
        worst = worse(worst, code(finished.results.verdict()));
    }
    Ok(worst)
}

/// Runs one after the other, then their verdicts in a table.
async fn series(all: Vec<Options>, first: u64) -> Result<u8> {
    let (mut table, mut worst) = (String::new(), 0);
    for options in all {
        for number in 0..options.test_count {
            let finished = drive::run(&options, first.wrapping_add(number)).await?;
            print!("\n{}", finished.results);
            let verdict = finished.results.verdict();
            worst = worse(worst, code(verdict));
            table += &format!(
                "{:<8} {:<40} {}\n",
                results::name(verdict),
                options.name().map_err(anyhow::Error::msg)?,
                finished.dir.display()
            );
        }
    }
    print!("\n{table}");
    Ok(worst)
}

async fn test_all(options: &Options) -> Result<u8> {
    let workloads = <Workload as clap::ValueEnum>::value_variants();
    let all = workloads.iter().map(|w| Options { workload: *w, ..options.clone() }).collect();
    series(all, options.seed.map_or_else(fresh_seed, Ok)?).await
}

impl Ci {
    fn settle(&mut self) -> Result<()> {
        anyhow::ensure!(
            self.backend != Some(Backend::Ssh),
            "on hosts of your own: test --scenario NAME --hosts ..."
        );
        let mut common = self.options();
        backend::settle(&mut common, Needs { slow_links: true, newcomers: 0 })?;
        (self.backend, self.lab) = (common.backend, common.lab);
        Ok(())
    }

    /// What all runs have in common.
    fn options(&self) -> Options {
        Options {
            store: self.store.clone(),
            backend: self.backend,
            lab: self.lab.clone(),
            nemesis_interval: 4.0,
            ..Options::default()
        }
    }
}

async fn scenarios(names: &[String], runs: &Ci) -> Result<u8> {
    let common = runs.options();
    let all = names.iter().map(|name| Ok(Scenario::named(name)?.options(&common)));
    series(all.collect::<Result<_>>()?, runs.seed.map_or_else(fresh_seed, Ok)?).await
}

async fn ci(ci: &Ci) -> Result<u8> {
    let common = ci.options();
    let run = |workload, nemesis: &str, time_limit| Options {
        workload,
        nemesis: nemesis.to_owned(),
        time_limit,
        ..common.clone()
    };
    let powerless = doctor::missing(&common.store, &[Kind::PowerAll])?;
    let crash = match powerless.as_slice() {
        [] => "power-all",
        why => {
            println!("NO POWER LOSS HERE, kill -9 of all instead: {}", why.join("; "));
            "kill-all"
        }
    };
    let all = vec![
        run(Workload::Append, "partition,kill,pause,reply-loss", 25),
        run(Workload::FollowerRead, "delay,pause", 20),
        Scenario::named("aside")?.options(&common),
        run(Workload::Idempotent, crash, 16),
    ];
    series(all, ci.seed.map_or_else(fresh_seed, Ok)?).await
}

fn analyze(run: &std::path::Path) -> Result<u8> {
    let (_, results) = drive::analyze(run)?;
    print!("{results}");
    Ok(code(results.verdict()))
}

fn doctor(store: &std::path::Path, backend: Option<Backend>, hosts: HostOptions) -> Result<u8> {
    let options = Options { backend, hosts, store: store.to_owned(), ..Options::default() };
    if backend::chosen(&options)? == Some(Backend::Ssh) {
        return of_hosts(options);
    }
    let mut all = true;
    for probe in doctor::probe(store)? {
        let faults: Vec<_> = probe.for_faults.iter().map(|kind| kind.name()).collect();
        let needed = if faults.is_empty() { "every run".to_owned() } else { faults.join(", ") };
        let backend = if probe.backend.is_some() { " (--backend netns)" } else { "" };
        let (works, what) = match &probe.outcome {
            Ok(what) => ("yes", what.clone()),
            Err(why) => ("NO", format!("{why:#}")),
        };
        all &= probe.outcome.is_ok();
        println!("{works:<4} {:<24} {what}\n     for {needed}{backend}", probe.name);
    }
    Ok(if all { 0 } else { BAD_ARGUMENTS })
}

/// Hosts are tried as a run uses them; each step needs the one before.
fn of_hosts(mut options: Options) -> Result<u8> {
    let say = |works: &str, name: &str, what: &str| println!("{works:<4} {name:<24} {what}");
    if let Err(why) = backend::settle(&mut options, Needs::default()) {
        say("NO", "hosts", &format!("{why:#}"));
        return Ok(BAD_ARGUMENTS);
    }
    let fleet = options.fleet.take().context("hosts were settled")?;
    for (host, what) in fleet.described() {
        say("yes", &host, &what);
    }
    let (worked, outcome) = doctor::hosts(&options.store, &fleet);
    for (name, what) in worked {
        say("yes", name, &what);
    }
    match outcome {
        Ok(()) => Ok(0),
        Err(why) => {
            say("NO", "faults on hosts", &format!("{why:#}"));
            Ok(BAD_ARGUMENTS)
        }
    }
}

fn list(stored: &std::path::Path) -> Result<u8> {
    println!("Workloads");
    for workload in <Workload as clap::ValueEnum>::value_variants() {
        let value = clap::ValueEnum::to_possible_value(workload).context("none is hidden")?;
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        println!("  {:<16} {help}", value.get_name());
    }
    println!("\nFaults");
    for kind in Kind::ALL {
        let ssh = if Backend::Ssh.lacks(*kind).is_none() { "" } else { " [not by ssh]" };
        println!("  {:<16} {}{ssh}", kind.name(), kind.what());
    }
    println!("\nBackends");
    for backend in <Backend as clap::ValueEnum>::value_variants() {
        let value = clap::ValueEnum::to_possible_value(backend).context("none is hidden")?;
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        println!("  {:<16} {help}", value.get_name());
    }
    println!("\nScenarios");
    for scenario in scenarios::ALL {
        println!("  {:<18} {}", scenario.name, scenario.what);
    }
    println!("\nStored runs in {}", stored.display());
    for run in Summary::all(stored)?.iter().rev() {
        println!("  {:<8} {}", run.verdict, run.dir.display());
    }
    Ok(0)
}
