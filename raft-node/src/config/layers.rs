//! Defaults, then the file, then the environment, then flags: the later one counts.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{
    Config, ConfigError, Problem, relations,
    schema::{self, KEYS, Key, Kind},
    values,
};

/// All of our variables start with this; what follows is SECTION_KEY.
pub const ENVIRONMENT_PREFIX: &str = "QUORATE_";

/// Who said a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// A file.
    File {
        /// Which.
        path: PathBuf,
        /// From 1; 0 for the file as a whole.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A flag that sets a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// As the user typed it, for messages: `--node-id`, `--set groups`.
    pub flag: String,
    /// `section.key`.
    pub key: String,
    /// As text.
    pub value: String,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Environment variables; those that are not ours are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags, in order.
    pub overrides: Vec<Override>,
}

/// A configuration that passed all checks.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration in force.
    pub config: Config,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<String>,
    pub(super) origins: Origins,
}

/// Who said each key that somebody said.
pub(super) type Origins = BTreeMap<&'static str, Origin>;

impl Loaded {
    /// Who said `key`.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

/// Reads and checks a configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::default();
    if let Some(path) = &sources.file {
        match fs::read_to_string(path) {
            Ok(text) => layers.file(path, &text),
            Err(e) => {
                let origin = Origin::File { path: path.clone(), line: 0 };
                let problem = Problem::at(origin, format!("cannot be read: {e}"));
                return Err(ConfigError { problems: vec![problem] });
            }
        }
    }
    for (name, value) in &sources.environment {
        layers.variable(name, value);
    }
    for flag in &sources.overrides {
        layers.flag(flag);
    }
    layers.finish(sources.file.as_deref())
}

/// What was said so far, checked key by key.
#[derive(Default)]
pub(super) struct Layers {
    said: BTreeMap<&'static str, (Value, Origin)>,
    problems: Vec<Problem>,
}

impl Layers {
    fn complain(&mut self, origin: Origin, message: impl Into<String>) {
        self.problems.push(Problem::at(origin, message));
    }

    /// Takes a whole file.
    pub(super) fn file(&mut self, path: &Path, text: &str) {
        let line = |offset: usize| Origin::File {
            path: path.to_owned(),
            line: 1 + text.bytes().take(offset).filter(|b| *b == b'\n').count(),
        };
        // Twice: once for the values, once for where they are.
        let parsed = text
            .parse::<Table>()
            .and_then(|table| toml::de::DeTable::parse(text).map(|places| (table, places)));
        let (table, places) = match parsed {
            Ok(parsed) => parsed,
            Err(e) => {
                let start = e.span().map_or(0, |span| span.start);
                self.complain(line(start), format!("not valid TOML: {}", e.message()));
                return;
            }
        };
        for (name, place) in places.get_ref() {
            let origin = line(name.span().start);
            let name: &str = name.get_ref();
            let Some(value) = table.get(name) else { continue };
            match (value, place.get_ref().as_table()) {
                (Value::Table(section), Some(places)) if schema::is_section(name) => {
                    for (key, _) in places {
                        let origin = line(key.span().start);
                        let key: &str = key.get_ref();
                        if let Some(value) = section.get(key) {
                            self.said(&format!("{name}.{key}"), value.clone(), origin, &[]);
                        }
                    }
                }
                _ => {
                    let entries = place.get_ref().as_array().map_or_else(Vec::new, |entries| {
                        entries.iter().map(|entry| line(entry.span().start)).collect()
                    });
                    self.said(name, value.clone(), origin, &entries);
                }
            }
        }
    }

    /// Takes an environment variable, if it is ours.
    pub(super) fn variable(&mut self, name: &std::ffi::OsStr, value: &std::ffi::OsStr) {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) else {
            return;
        };
        let origin = Origin::Environment(name.to_owned());
        let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
            if let Some(meant) = meant_variable(name) {
                self.complain(origin, format!("unknown variable; did you mean {meant}?"));
            }
            return;
        };
        match value.to_str() {
            // What a compose file makes of a variable that is not set.
            Some("") => {}
            Some(text) => self.text(key, text, origin),
            None => self.complain(origin, format!("{} is not UTF-8", key.path)),
        }
    }

    /// Takes a flag.
    pub(super) fn flag(&mut self, flag: &Override) {
        let origin = Origin::Flag(flag.flag.clone());
        match schema::find(&flag.key) {
            Some(key) => self.text(key, &flag.value, origin),
            None => self.complain(origin, unknown(&flag.key)),
        }
    }

    fn text(&mut self, key: &Key, text: &str, origin: Origin) {
        match values::from_text(key, text) {
            Ok(value) => self.said(key.path, value, origin, &[]),
            Err(why) => self.complain(origin, why),
        }
    }

    /// `entries`: where the entries of a list are.
    fn said(&mut self, path: &str, value: Value, origin: Origin, entries: &[Origin]) {
        let Some(key) = schema::find(path) else {
            let message = match value {
                Value::Table(_) => unknown(path).replacen("key", "section", 1),
                _ if schema::is_section(path) => {
                    format!("{path} is a section: write its keys under [{path}]")
                }
                _ => unknown(path),
            };
            return self.complain(origin, message);
        };
        let before = self.problems.len();
        if key.kind == Kind::Nodes {
            for (entry, why) in values::check_nodes(&value) {
                let at = entry.and_then(|i| entries.get(i)).unwrap_or(&origin);
                self.complain(at.clone(), why);
            }
        } else if let Err(why) = values::check(key.path, key.kind, &value) {
            self.complain(origin.clone(), why);
        }
        if self.problems.len() == before {
            self.said.insert(key.path, (value, origin));
        }
    }

    /// Checks that nothing is missing and that the keys fit together.
    pub(super) fn finish(mut self, file: Option<&Path>) -> Result<Loaded, ConfigError> {
        // A wrong value is not also a missing one.
        if self.problems.is_empty() {
            for key in KEYS.iter().filter(|key| key.required && !self.said.contains_key(key.path)) {
                self.problems.push(Problem::nowhere(missing(key, file)));
            }
        }
        if !self.problems.is_empty() {
            return Err(ConfigError { problems: self.problems });
        }
        let mut table = Table::new();
        let mut origins = Origins::new();
        for (path, (value, origin)) in self.said {
            origins.insert(path, origin);
            put(&mut table, path, value);
        }
        let config = Config::deserialize_checked(table)?;
        let (problems, warnings) = relations::check(&config, &origins);
        if problems.is_empty() {
            Ok(Loaded { config, warnings, origins })
        } else {
            Err(ConfigError { problems })
        }
    }
}

impl Config {
    fn deserialize_checked(table: Table) -> Result<Self, ConfigError> {
        // Every key passed the schema, which a test holds against this struct; so this is what
        // only serde can say.
        table.try_into().map_err(|e: toml::de::Error| ConfigError {
            problems: vec![Problem::nowhere(e.message().to_owned())],
        })
    }
}

fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((section, name)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            let section = section.as_table_mut().expect("invariant: no key is named as a section");
            section.insert(name.to_owned(), value);
        }
    }
}

fn missing(key: &Key, file: Option<&Path>) -> String {
    let (path, help, variable) = (key.path, key.help, key.variable());
    let place = match (file, key.section()) {
        (Some(file), Some(section)) => format!("in [{section}] of {}", file.display()),
        (Some(file), None) => format!("in {}", file.display()),
        (None, _) => "in a file (--config)".to_owned(),
    };
    format!("{path} is missing ({help}); set it {place}, or as {variable}")
}

fn unknown(path: &str) -> String {
    match schema::nearest(path) {
        // A key that landed in a section because it was written below its heading.
        Some(meant) if path.ends_with(&format!(".{meant}")) => format!(
            "unknown key {path}; {meant} belongs to no section: write it above the first [section]"
        ),
        Some(meant) => format!("unknown key {path}; did you mean {meant}?"),
        None => format!("unknown key {path}"),
    }
}

/// What an unknown variable of ours was meant to be. `None` if it is none of our business: other
/// programs have variables with our prefix too (orchestrators make them from names of services).
fn meant_variable(name: &str) -> Option<String> {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX)?;
    let in_a_section = KEYS.iter().filter_map(Key::section).any(|section| {
        let section = section.to_uppercase();
        rest.strip_prefix(&section).is_some_and(|key| key.starts_with('_'))
    });
    let all: Vec<(String, String)> =
        KEYS.iter().map(|key| (key.variable(), key.path.replace('.', "_"))).collect();
    let nearest = schema::nearest_of(rest, all.iter().map(|(_, plain)| plain.as_str()));
    let meant = nearest.and_then(|plain| all.iter().find(|(_, p)| p == plain)).map(|(v, _)| v);
    match (meant, in_a_section) {
        (Some(variable), true) => Some(variable.clone()),
        // Outside of sections only a slip of two letters is surely one.
        (Some(variable), false) if strsim::damerau_levenshtein(name, variable) <= 2 => {
            Some(variable.clone())
        }
        (None, true) => Some("one of the keys that --print-config shows".to_owned()),
        _ => None,
    }
}
