//! The command line of the simulation.

mod again;
mod args;
mod hunt;
mod seeds;
mod told;

use std::process::ExitCode;

use clap::Parser as _;
use quorate_jepsen_core::check::Verdict;
use quorate_sim::run;

use args::{Cli, Command};

/// Exit codes, as users of such suites know them.
const BAD_ARGUMENTS: u8 = 254;
const CRASHED: u8 = 255;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { BAD_ARGUMENTS } else { 0 };
            // Help that can't be printed can't be helped.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    // The nodes' own logs are many; who wants them asks as usual.
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .without_time()
            .with_writer(std::io::stderr)
            .init();
    }
    run::note_panics();
    match execute(cli.command) {
        Ok(Verdict::Valid) => ExitCode::SUCCESS,
        Ok(Verdict::Invalid) => ExitCode::from(1),
        Ok(Verdict::Unknown) => ExitCode::from(2),
        Err(error) => {
            eprintln!("sim: {error:#}");
            let bad = error.downcast_ref::<std::io::Error>().is_none();
            ExitCode::from(if bad { BAD_ARGUMENTS } else { CRASHED })
        }
    }
}

fn execute(command: Command) -> anyhow::Result<Verdict> {
    match command {
        Command::Run { seeds, from, keep_going, shape } => {
            seeds::run_seeds(seeds, from, keep_going, &shape)
        }
        Command::Replay { seed, trace, keep, history, shrink, digest, shape } => {
            again::replay(seed, trace, keep, history, (shrink, digest), &shape)
        }
        Command::Meta { seeds, from, shape } => again::meta(seeds, from, &shape),
        Command::Mutants { only, seeds, from, shape } => {
            hunt::hunt(only.as_deref(), seeds, from, &shape)
        }
    }
}
