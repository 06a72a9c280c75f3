//! The progress bar of long commands: on stderr, on a terminal only.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Output, units};

/// A bar over bytes, or a spinner when the total is not known. Drawn at most 15 times a second by
/// indicatif, whatever the rate of updates.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar for `total` bytes of input; hidden unless stderr is a terminal and people read it.
    #[must_use]
    pub fn bytes(output: Output, total: Option<u64>) -> Self {
        if output.is_json() || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{bar:32} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {msg}  \
                 {binary_bytes_per_sec}  {eta} left",
            )),
            None => ProgressBar::new_spinner()
                .with_style(style("{spinner} {binary_bytes}  {msg}  {binary_bytes_per_sec}")),
        };
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// A bar for `total` of something that is not bytes, `what`; as [`Self::bytes`] otherwise.
    #[must_use]
    pub fn counting(output: Output, what: &str) -> Self {
        if output.is_json() || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let template = format!("{{bar:32}} {{percent:>3}}%  {{human_pos}} of {{human_len}} {what}");
        let bar = ProgressBar::new(0).with_style(style(&template));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// How much of how much is done; the total may grow meanwhile.
    pub fn reached(&self, position: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(position);
    }

    /// Bytes and records that are acknowledged by now.
    pub fn at(&self, bytes: u64, records: u64) {
        if self.0.is_hidden() {
            return;
        }
        self.0.set_position(bytes);
        self.0.set_message(format!("{} records", units::grouped(records)));
    }

    /// Bytes that need no sending (resuming): they must not count into the rate.
    pub fn skipped(&self, bytes: u64) {
        self.0.set_position(bytes);
        self.0.reset_eta();
    }

    /// Writes a line above the bar.
    pub fn note(&self, output: Output, line: &str) {
        self.0.suspend(|| output.note(line));
    }

    /// Takes the bar away.
    pub fn done(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates above are valid")
        .progress_chars("━╸─")
}
