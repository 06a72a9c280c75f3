//! What is watched while a run goes on, one invariant a file. What a history shows is judged by
//! `jepsen/core`.

pub mod agreement;
pub mod leaders;

use std::fmt;

/// Something that must hold does not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The property, by name.
    pub property: String,
    /// What was found.
    pub what: String,
}

impl Violation {
    /// Of this property.
    #[must_use]
    pub fn new(property: &str, what: impl Into<String>) -> Self {
        Self { property: property.to_owned(), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}
