//! Log lines, to stderr: a node writes no log files; whoever runs it decides where lines go.
//!
//! What is logged is said by `log_output.level`, or by the environment variable `QUORATE_LOG`
//! instead: a level for everything (`info`), single modules (`quorate_raft_node::peer=debug`), or
//! both, separated by commas. The libraries below us speak at `warn` and above unless they are
//! named: openraft alone writes several lines for each entry at `debug`.

use std::{
    env,
    io::{self, IsTerminal, Write},
    str::FromStr,
    sync::{Mutex, PoisonError},
    thread::{self, ThreadId},
};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

/// Says what is logged, over the configuration.
pub const ENVIRONMENT: &str = "QUORATE_LOG";

/// Libraries that are capped unless they are named. openraft's heartbeats and replication warn at
/// every attempt to reach a peer that is down, many times a second; `crate::peer` says it once.
const CAPPED: [(&str, LevelFilter); 8] = [
    ("openraft", LevelFilter::WARN),
    ("openraft::core::heartbeat", LevelFilter::ERROR),
    ("openraft::replication", LevelFilter::ERROR),
    ("h2", LevelFilter::WARN),
    ("hyper", LevelFilter::WARN),
    ("hyper_util", LevelFilter::WARN),
    ("tonic", LevelFilter::WARN),
    ("tower", LevelFilter::WARN),
];

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("'{other}' is not a log format; text or json")),
        }
    }
}

/// Why logging can't start. A mistake in the configuration or the environment.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}: {why}")]
pub struct LoggingError {
    /// Where the mistake is: the setting or the environment variable.
    source_name: &'static str,
    why: String,
}

/// Starts logging for this process. `level` is the setting `log_output.level`.
///
/// # Errors
/// `level` or [`ENVIRONMENT`] is not understood, or logging was started before.
pub fn start(format: Format, level: &str) -> Result<(), LoggingError> {
    let from_environment = env::var_os(ENVIRONMENT).map(|v| v.to_string_lossy().into_owned());
    let filter = match &from_environment {
        Some(spec) if !spec.is_empty() => named(ENVIRONMENT, spec)?,
        _ => named("log_output.level", level)?,
    };
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines)
        // Reporting a failed write to stderr would write to stderr, and that would panic: a
        // closed pipe must not take the node down.
        .log_internal_errors(false);
    let started = match format {
        Format::Text => lines.with_ansi(colours()).try_init(),
        Format::Json => lines.json().flatten_event(true).with_span_list(false).try_init(),
    };
    started.map_err(|e| LoggingError { source_name: "logging", why: e.to_string() })
}

/// Who may still log; `None`: everybody.
static LAST_SPEAKER: Mutex<Option<ThreadId>> = Mutex::new(None);

/// From now on only this thread logs: when the process ends with an error, its last line says why,
/// whatever other threads notice of the end meanwhile.
pub fn last_word() {
    *LAST_SPEAKER.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current().id());
}

/// stderr, until somebody else has the last word.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Held while writing: a line that was begun before the last word must not end behind it.
        let speaker = LAST_SPEAKER.lock().unwrap_or_else(PoisonError::into_inner);
        if speaker.is_some_and(|speaker| speaker != thread::current().id()) {
            return Ok(bytes.len());
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Checks a level setting without starting anything.
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn check(spec: &str) -> Result<(), String> {
    filter(spec).map(|_| ())
}

fn colours() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

fn named(source_name: &'static str, spec: &str) -> Result<EnvFilter, LoggingError> {
    filter(spec).map_err(|why| LoggingError { source_name, why })
}

fn filter(spec: &str) -> Result<EnvFilter, String> {
    let directives = capped(spec)?;
    EnvFilter::builder().parse(&directives).map_err(|e| format!("'{spec}': {e}"))
}

/// `spec` with the caps in front: where both name the same module, the later one counts.
fn capped(spec: &str) -> Result<String, String> {
    let mut everything = None;
    // The parser knows no spaces.
    let parts: Vec<&str> = spec.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    for part in &parts {
        if part.contains(['=', '[']) {
            continue;
        }
        // The parser would take an unknown word for a module and log all of it, and nothing else.
        let level = LevelFilter::from_str(part).map_err(|_| {
            format!(
                "'{part}' is not a level; off, error, warn, info, debug, trace, or module=level"
            )
        })?;
        everything = Some(level);
    }
    let Some(everything) = everything else {
        return Err(format!("'{spec}' has no level for everything else, such as info,{spec}"));
    };
    let mut directives = String::new();
    for (module, cap) in CAPPED.iter().filter(|(_, cap)| everything > *cap) {
        let library = module.split(':').next().unwrap_or(module);
        // Who names a library wants to see all of it.
        let named = |part: &&str| part.strip_prefix(library).is_some_and(|p| p.starts_with('='));
        if library == *module || !parts.iter().any(named) {
            directives += &format!("{module}={cap},");
        }
    }
    Ok(directives + &parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_capped_unless_named_or_quieter_anyway() {
        let repeated = "openraft::core::heartbeat=error,openraft::replication=error,";
        let others = "h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,";
        assert_eq!(capped("info"), Ok(format!("openraft=warn,{repeated}{others}info")));
        assert_eq!(capped("warn"), Ok(format!("{repeated}warn")));
        let all_of_it = "debug,openraft=debug";
        assert_eq!(capped(all_of_it), Ok(format!("openraft=warn,{others}{all_of_it}")));
        let one = "info,openraft::replication=warn";
        assert_eq!(capped(one), Ok(format!("openraft=warn,{repeated}{others}{one}")));
        for quiet in ["error", "off", "ERROR,quorate_raft_node=info"] {
            assert_eq!(capped(quiet), Ok(quiet.to_owned()), "a cap never makes anything louder");
        }
    }

    #[test]
    fn the_filter_means_it() {
        let shown = |spec: &str| filter(spec).unwrap().to_string();
        let has = |spec: &str, directive: &str| shown(spec).split(',').any(|d| d == directive);
        assert!(has("info", "openraft=warn"), "{}", shown("info"));
        assert!(has("info,openraft=debug", "openraft=debug"), "{}", shown("info,openraft=debug"));
        assert!(!has("info,openraft=debug", "openraft=warn"), "replaced, not doubled");
        assert!(has("info", "info"));
    }

    #[test]
    fn mistakes_are_named() {
        let why = |spec: &str| check(spec).unwrap_err();
        assert!(why("inof").starts_with("'inof' is not a level; off, error"), "{}", why("inof"));
        assert!(why("info,peer").starts_with("'peer' is not a level"));
        assert!(why("info,openraft=loud").contains("openraft=loud"));
        assert!(why("").contains("no level for everything else"));
        assert!(why("openraft=debug").contains("such as info,openraft=debug"));
        assert!(check("info, quorate_raft_node::peer=trace").is_ok());
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!(
            "yaml".parse::<Format>().unwrap_err(),
            "'yaml' is not a log format; text or json"
        );
    }
}
