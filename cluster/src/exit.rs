//! How the program ends: one exit code per kind of ending, and failures written for people.

use std::fmt;

/// What the exit code tells the caller. The numbers are part of the interface (`quorate --help`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Ok = 0,
    /// Refused or failed, and nothing was changed by the step that failed.
    Refused = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// It may have taken effect, or may still.
    Unknown = 3,
    /// Replicas were compared and differ.
    Differs = 4,
    /// Ended by Ctrl-C or SIGTERM (128 + SIGINT, as shells have it).
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended badly: one line that says what, one that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, one line.
    pub what: String,
    /// What the reader may do about it, one line.
    pub advice: Option<String>,
    /// How the process ends.
    pub exit: Exit,
}

impl Failure {
    /// A failure with effect NONE.
    pub fn refused(what: impl Into<String>) -> Self {
        Self { what: what.into(), advice: None, exit: Exit::Refused }
    }

    /// A command line that makes no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { what: what.into(), advice: None, exit: Exit::Usage }
    }

    /// A failure whose effect is not known.
    pub fn unknown(what: impl Into<String>) -> Self {
        Self { what: what.into(), advice: None, exit: Exit::Unknown }
    }

    /// Ctrl-C or SIGTERM: whoever sent it knows.
    #[must_use]
    pub fn interrupted() -> Self {
        Self { what: String::new(), advice: None, exit: Exit::Interrupted }
    }

    /// Nobody is listening any more, which is nobody's fault: end at once, without a word.
    #[must_use]
    pub fn quiet() -> Self {
        Self { what: String::new(), advice: None, exit: Exit::Ok }
    }

    /// Whether there is nothing to say about it.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.what.is_empty()
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The same, with `context` in front of what went wrong.
    #[must_use]
    pub fn at(mut self, context: impl fmt::Display) -> Self {
        self.what = format!("{context}: {}", self.what);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
