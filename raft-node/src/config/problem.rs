//! What is wrong with a configuration.

use std::fmt;

use super::Origin;

/// One thing that is wrong: where, what, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was said; `None` if the message names several places, or it was said nowhere.
    pub at: Option<Origin>,
    /// Names the key, its value, and what is allowed.
    pub message: String,
}

impl Problem {
    pub(super) fn at(origin: Origin, message: impl Into<String>) -> Self {
        Self { at: Some(origin), message: message.into() }
    }

    pub(super) fn nowhere(message: impl Into<String>) -> Self {
        Self { at: None, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(origin) => write!(f, "{origin}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Everything that is wrong with a configuration, one line each. Ends the process with
/// [`crate::observe::exit::ExitCode::Config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let end_of_line = if i == 0 { "" } else { "\n" };
            write!(f, "{end_of_line}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
