//! Exit codes of a node, after sysexits.h: a supervisor decides by them whether to start it again.

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Stopped because it was told to.
    Ok,
    /// Something broke that should not: a core stopped, a listener died, a second signal cut the
    /// shutdown short. A restart may help, and loses nothing that was acknowledged.
    Software,
    /// The storage failed: an fsync, a write, a checksum. A restart recovers what is on the disk;
    /// if it ends with this code again, the disk needs a person.
    Io,
    /// The configuration or the identity on disk is wrong. A restart ends here again.
    Config,
}

impl ExitCode {
    /// All of them, for the documentation.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Software, Self::Io, Self::Config];

    /// The number given to the operating system.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Software => 70,
            Self::Io => 74,
            Self::Config => 78,
        }
    }

    /// One line for the operator.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ok => "stopped as asked",
            Self::Software => "internal failure, or stopped by a second signal",
            Self::Io => "the storage failed; check the disk before the next start",
            Self::Config => "configuration or identity on disk is wrong; a restart won't help",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_a_promise_to_supervisors() {
        assert_eq!(ExitCode::ALL.map(ExitCode::code), [0, 70, 74, 78]);
    }
}
