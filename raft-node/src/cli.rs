//! The command line of `quorate-node`: from arguments and environment to what the process does.
//! Prints nothing and ends nothing itself, so that all of it is tested.

use std::{ffi::OsString, path::PathBuf};

use clap::{Parser, error::ErrorKind};

use crate::{
    config::{self, Config, Loaded, Override, Sources},
    crash,
    observe::exit::ExitCode,
};

/// Names the file when `--config` is not given.
pub const CONFIG_VARIABLE: &str = "QUORATE_CONFIG";

const AFTER_HELP: &str = "\
Every setting can be given in the file, over it in the environment as QUORATE_<SECTION>_<KEY>, and
over that by flags. --print-config shows all of them, and who set which.

Examples:
  quorate-node --config node1.toml
  quorate-node --config node1.toml --check-config
  quorate-node --config node1.toml --set log.retain_mb=1024 --log-format json
  QUORATE_LOG_RETAIN_MB=1024 quorate-node --config node1.toml

Exit codes:
  0   stopped as asked (SIGTERM, SIGINT)
  70  internal failure, or stopped by a second signal
  74  the storage failed; check the disk before the next start
  78  flags, configuration or identity on disk are wrong; a restart won't help";

/// One node of a Quorate cluster
#[derive(Debug, Parser)]
#[command(name = "quorate-node", version, after_help = AFTER_HELP)]
struct Args {
    /// Configuration file (TOML) [env: QUORATE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key; may be repeated, the last one counts
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Same as --set node_id=ID
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// Same as --set data_dir=DIR
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Same as --set log_output.format=FORMAT
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Same as --set log_output.level=LEVEL
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Check the configuration and exit: 0 if it is good, 78 if not
    #[arg(long)]
    check_config: bool,
    /// Print the configuration in force, with who set what, and exit
    #[arg(long)]
    print_config: bool,
    /// Print the names of the crash points of fault tests and exit
    #[arg(long)]
    list_crash_points: bool,
}

/// What the process does.
#[derive(Debug)]
pub enum Action {
    /// Start logging as the configuration says, log the warnings, and run.
    Run {
        /// Checked.
        config: Box<Config>,
        /// What is allowed but probably not meant; log them once logging works.
        warnings: Vec<String>,
    },
    /// Print, and end.
    Exit(Exit),
}

/// How the process ends without having run a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its code.
    pub code: ExitCode,
    /// What was asked for; whole lines.
    pub stdout: String,
    /// What is wrong; whole lines.
    pub stderr: String,
}

impl Exit {
    fn asked(stdout: impl Into<String>) -> Action {
        let (stdout, stderr) = (stdout.into(), String::new());
        Action::Exit(Self { code: ExitCode::Ok, stdout, stderr })
    }

    fn wrong(stderr: impl Into<String>) -> Action {
        let (stdout, stderr) = (String::new(), stderr.into());
        Action::Exit(Self { code: ExitCode::Config, stdout, stderr })
    }
}

/// Decides from the process's arguments (its name first) and environment. Reads the file.
#[must_use]
pub fn decide(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Action {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Exit::asked(e.render().to_string());
        }
        Err(e) => return Exit::wrong(e.render().to_string()),
    };
    if args.list_crash_points {
        return Exit::asked(
            crash::POINTS.iter().map(|point| format!("{point}\n")).collect::<String>(),
        );
    }
    let sources = match sources(&args, environment.into_iter().collect()) {
        Ok(sources) => sources,
        Err(why) => return Exit::wrong(format!("{why}\n")),
    };
    match config::load(&sources) {
        Err(e) => Exit::wrong(format!("{e}\n")),
        Ok(loaded) if args.print_config || args.check_config => Action::Exit(show(&args, &loaded)),
        Ok(Loaded { config, warnings, .. }) => Action::Run { config: Box::new(config), warnings },
    }
}

fn sources(args: &Args, environment: Vec<(OsString, OsString)>) -> Result<Sources, String> {
    let named = environment.iter().find(|(name, _)| name == CONFIG_VARIABLE);
    let named = named.map(|(_, file)| PathBuf::from(file)).filter(|f| !f.as_os_str().is_empty());
    let mut overrides = Vec::new();
    for pair in &args.set {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("--set {pair}: takes SECTION.KEY=VALUE"))?;
        let key = key.trim().to_owned();
        overrides.push(Override { flag: format!("--set {key}"), key, value: value.to_owned() });
    }
    // After --set: a flag of its own is the more deliberate of the two.
    let own = [
        ("--node-id", "node_id", &args.node_id),
        ("--data-dir", "data_dir", &args.data_dir),
        ("--log-format", "log_output.format", &args.log_format),
        ("--log-level", "log_output.level", &args.log_level),
    ];
    for (flag, key, value) in own {
        if let Some(value) = value {
            let (flag, key) = (flag.to_owned(), key.to_owned());
            overrides.push(Override { flag, key, value: value.clone() });
        }
    }
    Ok(Sources { file: args.config.clone().or(named), environment, overrides })
}

fn show(args: &Args, loaded: &Loaded) -> Exit {
    let stderr = loaded.warnings.iter().map(|w| format!("warning: {w}\n")).collect();
    let stdout = if args.print_config {
        loaded.render()
    } else {
        format!("node {} of {}: good\n", loaded.config.node_id, loaded.config.cluster_id)
    };
    Exit { code: ExitCode::Ok, stdout, stderr }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FILE: &str = r#"
cluster_id = "4c5d9f0e-6f3a-4e0e-9a51-1d2f0b3c7a10"
node_id = 1
data_dir = "data/1"
listen = { client = "127.0.0.1:7101", peer = "127.0.0.1:7201", http = "127.0.0.1:7301" }
nodes = [{ id = 1, peer = "127.0.0.1:7201", client = "127.0.0.1:7101" }]
"#;

    fn run_with(args: &[&str], environment: &[(&str, &str)]) -> Action {
        let arguments = std::iter::once("quorate-node").chain(args.iter().copied());
        decide(
            arguments.map(OsString::from),
            environment.iter().map(|(n, v)| (OsString::from(n), OsString::from(v))),
        )
    }

    fn exit(args: &[&str], environment: &[(&str, &str)]) -> Exit {
        match run_with(args, environment) {
            Action::Exit(exit) => exit,
            Action::Run { .. } => panic!("{args:?} runs"),
        }
    }

    fn config_file() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n.toml");
        fs::write(&path, FILE).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    #[test]
    fn flags_reach_the_configuration_and_the_last_one_counts() {
        let (_dir, file) = config_file();
        let args = [
            "--config",
            &file,
            "--set",
            "log_output.level=warn",
            "--log-level",
            "debug",
            "--set",
            "groups=2",
            "--set",
            "groups=3",
            "--data-dir",
            "x=y",
            "--log-format",
            "json",
        ];
        let Action::Run { config, warnings } = run_with(&args, &[("QUORATE_GROUPS", "9")]) else {
            panic!("a good configuration runs")
        };
        assert_eq!((config.groups, config.log_output.level.as_str()), (3, "debug"));
        assert_eq!(config.data_dir, PathBuf::from("x=y"));
        assert_eq!(config.log_output.format, config::LogFormat::Json);
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn the_file_may_be_named_by_the_environment() {
        let (_dir, file) = config_file();
        assert!(matches!(run_with(&[], &[(CONFIG_VARIABLE, &file)]), Action::Run { .. }));
        let no = [(CONFIG_VARIABLE, "/nowhere.toml")];
        assert!(matches!(run_with(&["--config", &file], &no), Action::Run { .. }));
        assert!(exit(&[], &no).stderr.starts_with("/nowhere.toml: cannot be read"));
    }

    #[test]
    fn a_check_says_good_or_what_is_wrong() {
        let (_dir, file) = config_file();
        let good = exit(&["--config", &file, "--check-config"], &[]);
        assert_eq!(good.code, ExitCode::Ok);
        assert_eq!(good.stdout, "node 1 of 4c5d9f0e-6f3a-4e0e-9a51-1d2f0b3c7a10: good\n");
        let doubtful = ["--config", &file, "--check-config", "--set", "log.retain_mb=20"];
        assert!(exit(&doubtful, &[]).stderr.starts_with("warning: log.retain_mb = 20 "));
        let bad = exit(&["--config", &file, "--check-config", "--node-id", "0"], &[]);
        assert_eq!(bad.code, ExitCode::Config);
        assert_eq!(
            bad.stderr,
            "--node-id: node_id = 0: takes a whole number from 1 to 4294967295\n"
        );
    }

    #[test]
    fn what_is_printed_is_a_file_that_gives_the_same() {
        let (dir, file) = config_file();
        let args = ["--config", &file, "--print-config"];
        let printed = exit(&args, &[("QUORATE_LOG_CACHE_MB", "12")]);
        assert_eq!(printed.code, ExitCode::Ok);
        let again = dir.path().join("again.toml");
        fs::write(&again, printed.stdout).unwrap();
        let Action::Run { config, .. } = run_with(&["--config", again.to_str().unwrap()], &[])
        else {
            panic!("a printed configuration is good")
        };
        assert_eq!((config.node_id, config.log.cache_mb), (1, 12));
    }

    #[test]
    fn crash_points_need_no_configuration() {
        let exit = exit(&["--list-crash-points"], &[]);
        assert_eq!(exit.stdout.lines().collect::<Vec<_>>(), crash::POINTS);
    }

    #[test]
    fn mistakes_on_the_command_line_are_configuration_mistakes() {
        for (args, part) in [
            (&["--confg", "x"][..], "a similar argument exists: '--config'"),
            (&["--set", "groups"], "--set groups: takes SECTION.KEY=VALUE\n"),
            (&["--set", "group=1"], "--set group: unknown key group; did you mean groups?\n"),
            (&[], "cluster_id is missing"),
        ] {
            let exit = exit(args, &[]);
            assert_eq!(exit.code, ExitCode::Config, "{args:?}");
            assert!(exit.stderr.contains(part), "{args:?}: {}", exit.stderr);
        }
    }

    #[test]
    fn help_names_every_exit_code() {
        let help = exit(&["--help"], &[]);
        assert_eq!(help.code, ExitCode::Ok);
        for code in ExitCode::ALL {
            assert!(help.stdout.contains(&format!("\n  {:<3} ", code.code())), "{code:?}");
        }
    }
}
