//! What people and programs get to see.
//!
//! Data goes to stdout, everything about it (progress, notes, errors) to stderr, so that stdout can
//! be piped. [`table`] aligns columns, [`units`] writes numbers, [`progress`] draws the bar,
//! [`records`] writes what is read from a log.

pub mod progress;
pub mod records;
pub mod table;
pub mod units;

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::Failure;

/// Form of the answer on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text for people.
    #[default]
    Table,
    /// JSON for programs, with stable field names.
    Json,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// The decision for a stream that is (not) a terminal.
    #[must_use]
    pub fn on(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            // https://no-color.org: any non-empty value means no.
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }
}

/// Where and how a command answers.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Table or JSON.
    pub format: Format,
    /// Colour on stdout.
    pub color: bool,
    /// Colour on stderr.
    pub color_stderr: bool,
}

impl Output {
    /// Decides once for the whole run.
    #[must_use]
    pub fn new(format: Format, color: Color) -> Self {
        Self {
            format,
            color: format == Format::Table && color.on(io::stdout().is_terminal()),
            color_stderr: color.on(io::stderr().is_terminal()),
        }
    }

    /// Whether programs read this.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Writes `text` to stdout as it is.
    ///
    /// # Errors
    /// [`Failure`] when stdout is gone; a closed pipe is one that ends the program quietly.
    pub fn print(self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes `bytes` to stdout as they are.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| stdout_failed(&e))
    }

    /// Writes `value` as one indented JSON document.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        self.print(&(json_text(value, true) + "\n"))
    }

    /// A remark for people on stderr; programs (`--output json`) don't get it.
    pub fn note(self, text: &str) {
        if !self.is_json() {
            note(text);
        }
    }

    /// An answer that was asked for, on stderr because stdout has the records.
    pub fn remark(self, text: &str) {
        note(text);
    }

    /// The last words of a failed command, on stderr.
    pub fn fail(self, failure: &Failure) {
        if failure.is_quiet() {
            return;
        }
        if self.is_json() {
            let document = serde_json::json!({ "error": {
                "message": failure.what, "advice": failure.advice, "exit_code": failure.exit as u8,
            }});
            note(&document.to_string());
            return;
        }
        let (red, bold, plain) =
            if self.color_stderr { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        note(&format!("{red}error{plain}: {}", one_line(&failure.what)));
        if let Some(advice) = &failure.advice {
            note(&format!("{bold}  try{plain}: {}", one_line(advice)));
        }
    }
}

/// Writes a line to stderr. When stderr itself is gone there is nobody left to tell.
fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// JSON text of a value whose serialization cannot fail: our own plain structures.
#[must_use]
pub fn json_text(value: &impl Serialize, indented: bool) -> String {
    let text =
        if indented { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.expect("output structures have string keys only, so they always serialize")
}

/// Everything in one line: messages from servers may hold line breaks.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The failure for a write to stdout that failed. When the reader of our pipe went away
/// (`quorate read ... | head`) the program ends quietly and well.
#[must_use]
pub fn stdout_failed(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::quiet();
    }
    Failure::refused(format!("writing the output failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(one_line("a\n  b\r\n\nc"), "a; b; c");
    }

    #[test]
    fn colour_choice() {
        assert!(Color::Always.on(false));
        assert!(!Color::Never.on(true));
        assert!(!Color::Auto.on(false));
    }
}
