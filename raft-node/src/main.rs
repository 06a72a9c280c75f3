//! `quorate-node`: one node of a cluster.

use std::{path::PathBuf, process};

use clap::Parser;
use quorate_raft_node::{
    config::{self, Loaded, Override, Sources},
    crash, node,
    observe::{exit::ExitCode, logging, panic},
};

/// One node of a Quorate cluster.
///
/// Every setting can be given in the file, over it in the environment (QUORATE_<SECTION>_<KEY>),
/// and over that with --set.
#[derive(Parser)]
#[command(name = "quorate-node", version, after_help = EXAMPLES)]
struct Args {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key over file and environment; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Check the configuration, and exit: 0 if it is good, 78 if not.
    #[arg(long)]
    check_config: bool,
    /// Print the configuration in effect, with who set what, and exit.
    #[arg(long)]
    print_config: bool,
    /// Print the names of all crash points (for fault tests), and exit.
    #[arg(long)]
    list_crash_points: bool,
}

const EXAMPLES: &str = "\
Examples:
  quorate-node --config node1.toml
  quorate-node --config node1.toml --check-config
  quorate-node --config node1.toml --set log_output.format=json --set log.retain_mb=1024
  QUORATE_LISTEN_CLIENT=0.0.0.0:7101 quorate-node --config node1.toml

Exit codes:
  0   stopped as asked (SIGTERM, SIGINT)
  70  internal failure, or stopped by a second signal
  74  the storage failed; check the disk before the next start
  78  configuration or identity on disk is wrong; a restart won't help";

/// Ends at once: what a step of the shutdown left behind on a thread is not waited for.
fn end(code: ExitCode) -> ! {
    process::exit(i32::from(code.code()))
}

fn load(args: &Args) -> Loaded {
    let refuse = |message: String| -> ! {
        eprintln!("{message}");
        end(ExitCode::Config)
    };
    let overrides = args.set.iter().map(|pair| match pair.split_once('=') {
        Some((key, value)) => {
            Override { flag: format!("--set {key}"), key: key.to_owned(), value: value.to_owned() }
        }
        None => refuse(format!("--set {pair}: needs SECTION.KEY=VALUE")),
    });
    let sources = Sources {
        file: args.config.clone(),
        environment: std::env::vars_os().collect(),
        overrides: overrides.collect(),
    };
    match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(error) => refuse(error.to_string()),
    }
}

fn main() {
    let args = Args::parse();
    if args.list_crash_points {
        crash::POINTS.iter().for_each(|point| println!("{point}"));
        return;
    }
    let loaded = load(&args);
    if args.print_config {
        print!("{}", loaded.render());
        return;
    }
    if args.check_config {
        println!("the configuration is good");
        return;
    }
    let config = loaded.config.clone();
    if let Err(error) = logging::start(config.log_output.format, &config.log_output.level) {
        eprintln!("{error}");
        end(ExitCode::Config);
    }
    panic::abort_on_panic();
    if let Err(error) = crash::arm_from_environment() {
        tracing::error!("{error}");
        end(ExitCode::Config);
    }
    loaded.warnings.iter().for_each(|warning| tracing::warn!("configuration: {warning}"));
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
            tracing::error!(exit_code = fatal.code.code(), "{fatal}");
            end(fatal.code);
        }
    }
}
