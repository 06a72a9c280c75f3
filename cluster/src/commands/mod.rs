//! One file (or folder) per command. [`run`] only routes.

pub mod bench;
pub mod config;

use clap::CommandFactory;

use crate::{
    args::{Cli, Command, ConfigCommand},
    exit::{Exit, Failure},
    output::Output,
};

/// Runs the command.
///
/// # Errors
/// The command's failure, for `main` to print.
pub fn run(cli: Cli, output: Output) -> Result<Exit, Failure> {
    match cli.command {
        Command::Config(args) => match args.command {
            ConfigCommand::Local(args) => config::local(&args, output)?,
        },
        Command::Completions { shell } => completions(shell, output)?,
        Command::Bench(args) => runtime()?.block_on(bench::run(&args, &cli.global, output))?,
        _ => return Err(Failure::refused("not built yet")),
    }
    Ok(Exit::Ok)
}

fn completions(shell: clap_complete::Shell, output: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "quorate", &mut script);
    output.bytes(&script)
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::refused(format!("threads cannot be started: {e}")))
}
