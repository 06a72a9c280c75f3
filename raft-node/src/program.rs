//! What `quorate-node` does from the command line to its exit code.

use std::{env, io::Write, process};

use crate::{
    cli::{self, Action},
    config::Config,
    crash, node,
    observe::{exit::ExitCode, logging, panic},
    runtime::Edge,
};
use tokio::runtime::Runtime;

/// Ends at once: what a step of the shutdown left behind on a thread is not waited for.
fn end(code: ExitCode) -> ! {
    process::exit(i32::from(code.code()))
}

/// The whole program.
pub fn main() -> ! {
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
    // Consensus, the peers and apply share one thread: an append takes many short steps there, and
    // a step that stays on its thread is a push to a queue, not a wake-up of another.
    let (consensus, edge) = (threads("raft", 1), threads("edge", config.edge_threads()));
    let node = consensus.spawn(node::run(config, Edge::new(edge.handle().clone())));
    match consensus.block_on(node).expect("a panic aborts, and nobody cancels it") {
        Ok(()) => end(ExitCode::Ok),
        Err(fatal) => {
            logging::last_word();
            tracing::error!(exit_code = fatal.code.code(), "{fatal}");
            end(fatal.code);
        }
    }
}

fn threads(name: &str, count: usize) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    match builder.worker_threads(count).thread_name(name).enable_all().build() {
        Ok(threads) => threads,
        Err(error) => {
            tracing::error!(%error, "can't start the {name} threads");
            end(ExitCode::Software);
        }
    }
}
