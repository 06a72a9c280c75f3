//! `quorate-node`: one node of a cluster.

use std::{env, io::Write, process};

use quorate_raft_node::{
    cli::{self, Action},
    config::Config,
    crash, node,
    observe::{exit::ExitCode, logging, panic},
};

/// Ends at once: what a step of the shutdown left behind on a thread is not waited for.
fn end(code: ExitCode) -> ! {
    process::exit(i32::from(code.code()))
}

fn main() {
    match cli::decide(env::args_os(), env::vars_os()) {
        Action::Run { config, warnings } => run(*config, &warnings),
        Action::Exit(exit) => {
            // A closed pipe is the reader's choice.
            let _ = std::io::stdout().write_all(exit.stdout.as_bytes());
            let _ = std::io::stderr().write_all(exit.stderr.as_bytes());
            end(exit.code)
        }
    }
}

fn run(config: Config, warnings: &[String]) -> ! {
    if let Err(error) = logging::start(config.log_output.format, &config.log_output.level) {
        eprintln!("{error}");
        end(ExitCode::Config);
    }
    panic::abort_on_panic();
    warnings.iter().for_each(|warning| tracing::warn!("configuration: {warning}"));
    if let Err(error) = crash::arm_from_environment() {
        tracing::error!("{error}");
        end(ExitCode::Config);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "can't start the runtime");
            end(ExitCode::Software);
        }
    };
    match runtime.block_on(node::run(config)) {
        Ok(()) => end(ExitCode::Ok),
        Err(fatal) => {
            logging::last_word();
            tracing::error!(exit_code = fatal.code.code(), "{fatal}");
            end(fatal.code);
        }
    }
}
