//! The configuration in force, as a file that would give the same one.

use std::fmt::{self, Write as _};

use toml::{Table, Value};

use super::{
    Loaded,
    schema::{KEYS, Kind, NODE_KEYS},
};

/// Where the comments start.
const COMMENT_COLUMN: usize = 56;

impl Loaded {
    /// The configuration as TOML, each key with a comment that says who set it. Reading it again
    /// gives the same configuration.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        self.write(&mut text).expect("invariant: a String takes everything");
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let table = Table::try_from(&self.config).expect("invariant: a loaded config is TOML");
        let mut section = None;
        for key in KEYS.iter().filter(|key| key.kind != Kind::Nodes) {
            let values = match key.section() {
                None => &table,
                Some(name) => match table.get(name) {
                    Some(Value::Table(values)) => values,
                    _ => continue,
                },
            };
            let Some(value) = values.get(key.name()) else { continue };
            if key.section() != section {
                section = key.section();
                write!(out, "\n[{}]\n", section.unwrap_or_default())?;
            }
            let line = format!("{} = {value}", key.name());
            writeln!(out, "{line:<COMMENT_COLUMN$} # {}", self.origin(key.path))?;
        }
        let nodes = table.get("nodes").and_then(Value::as_array).into_iter().flatten();
        for node in nodes.filter_map(Value::as_table) {
            let heading = "[[nodes]]";
            write!(out, "\n{heading:<COMMENT_COLUMN$} # {}\n", self.origin("nodes"))?;
            for (name, _) in NODE_KEYS {
                if let Some(value) = node.get(*name) {
                    writeln!(out, "{name} = {value}")?;
                }
            }
        }
        Ok(())
    }
}
