//! One file (or folder) per command. [`run`] only routes.

pub mod append;
pub mod bench;
pub mod config;
pub mod fence;
pub mod logs;
pub mod member;
mod nodes;
pub mod read;
pub mod status;
pub mod verify;

use std::time::Duration;

use clap::CommandFactory;

use crate::{
    args::{Cli, Command, ConfigCommand, Global},
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
        command => return online(command, &cli.global, output),
    }
    Ok(Exit::Ok)
}

/// Runs a command that talks to nodes, until it ends or is interrupted.
fn online(command: Command, global: &Global, output: Output) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let has_last_words = matches!(command, Command::Append(_));
    let ended = runtime.block_on(async {
        let mut work = std::pin::pin!(route(command, global, output));
        tokio::select! {
            // What is finished in the moment of the interruption is finished.
            biased;
            ended = &mut work => ended,
            // Append has last words, and so is the only one that listens: of two, either may be
            // first. Before it listens, the signal ends the program.
            interrupted = interrupt(), if !has_last_words => Err(interrupted),
        }
    });
    // A thread that waits for input would hold up the end for ever.
    runtime.shutdown_timeout(Duration::ZERO);
    ended
}

async fn route(command: Command, global: &Global, output: Output) -> Result<Exit, Failure> {
    match command {
        Command::Log(args) => logs::run(&args.command, global, output).await?,
        Command::Append(args) => append::run(&args, global, output).await?,
        Command::Read(args) => read::read(&args, global, output).await?,
        Command::Tail(args) => read::tail(&args, global, output).await?,
        Command::Fence(args) => fence::run(&args, global, output).await?,
        Command::Status(args) => return status::run(&args, global, output).await,
        Command::Verify(args) => return verify::run(&args, global, output).await,
        Command::Member(args) => member::run(&args.command, global, output).await?,
        Command::Bench(args) => bench::run(&args, global, output).await?,
        Command::Config(_) | Command::Completions { .. } => {
            unreachable!("these need no node and were done by run()")
        }
    }
    Ok(Exit::Ok)
}

/// Ends with Ctrl-C or SIGTERM.
async fn interrupt() -> Failure {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(int), Ok(term)) => (int, term),
        // Then the operating system's own way of ending a program stays in force.
        (Err(_), _) | (_, Err(_)) => return std::future::pending().await,
    };
    tokio::select! {
        _ = signals.0.recv() => {}
        _ = signals.1.recv() => {}
    }
    Failure::interrupted()
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
