//! What an operator touches: the command `quorate`.
//!
//! Reading order: [`args`] (what may be typed), [`commands`] (one file per command, they only talk
//! to the SDK), [`input`] (bytes to batches, pure), [`output`] (tables, units, progress), [`exit`]
//! (how it ends), [`sdk`] (the SDK's errors as sentences). `args`, `input` and `output` know nothing of the network.
//!
//! Not here: anything a server does, and any knowledge of leaders and retries, which is the SDK's.
//! The exceptions are `commands::bench`, which also measures calls below the SDK and other
//! systems with the same load generator, and starts nodes to look into them and to end them.

pub mod args;
pub mod commands;
pub mod endpoints;
pub mod exit;
pub mod input;
pub mod local;
pub mod output;
pub mod sdk;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};

use crate::{args::Cli, exit::Exit, output::Output};

/// Parses the command line, does what it says, and tells how the process should end.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.len() <= 1 {
        // clap has an option for this, which QUORATE_ENDPOINTS in the environment would defeat.
        let _ = Cli::command().print_help();
        return Exit::Usage;
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way too, and go to stdout. There is nobody to
            // tell when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let output = Output::new(cli.global.output, cli.global.color);
    match commands::run(cli, output) {
        Ok(exit) => exit,
        Err(failure) => {
            output.fail(&failure);
            failure.exit
        }
    }
}
