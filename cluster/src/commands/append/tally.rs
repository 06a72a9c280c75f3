//! What was appended, in numbers.

use std::time::{Duration, Instant};

use quorate_client::{Appended, ProducerId};
use serde::Serialize;

use super::pump::Sent;
use crate::{
    exit::Failure,
    output::{Output, units},
};

/// Counts acknowledgements.
#[derive(Debug)]
pub struct Tally {
    started: Instant,
    last_answer: Instant,
    longest_pause: Duration,
    /// Records acknowledged or skipped; the input's records so far.
    records: u64,
    /// Those of them that the log had before.
    already: u64,
    /// Bytes of the input that they are.
    input_bytes: u64,
    /// Bytes of the input before the first record that was not there already.
    skipped_bytes: u64,
    next_offset: Option<u64>,
    incarnation: Option<u64>,
}

/// The summary, with the field names of `--output json`.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    log: &'a str,
    producer_id: Option<String>,
    /// Records of the input, which are all in the log now.
    records: u64,
    /// Those of them that were appended by an earlier run.
    already_there: u64,
    input_bytes: u64,
    /// Of the last record; absent when there was none.
    last_offset: Option<u64>,
    incarnation: Option<u64>,
    elapsed_ms: u128,
    records_per_s: f64,
    /// Longest time without an acknowledgement.
    longest_pause_ms: u128,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            last_answer: now,
            longest_pause: Duration::ZERO,
            records: 0,
            already: 0,
            input_bytes: 0,
            skipped_bytes: 0,
            next_offset: None,
            incarnation: None,
        }
    }

    /// Now sending begins.
    pub fn start(&mut self) {
        self.started = Instant::now();
        self.last_answer = self.started;
    }

    /// Input records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// A batch that was not sent because the log has it.
    pub fn skipped(&mut self, sent: &Sent) {
        self.records += u64::from(sent.records);
        self.already += u64::from(sent.records);
        self.input_bytes = sent.input_end;
        self.skipped_bytes = sent.input_end;
    }

    /// A batch that was answered.
    pub fn acknowledged(&mut self, sent: &Sent, appended: &Appended) {
        let now = Instant::now();
        self.longest_pause = self.longest_pause.max(now - self.last_answer);
        self.last_answer = now;
        self.records += u64::from(sent.records);
        self.input_bytes = sent.input_end;
        if appended.deduplicated {
            self.already += u64::from(sent.records);
            self.skipped_bytes = sent.input_end;
        }
        self.next_offset = Some(appended.next_offset);
        self.incarnation = Some(appended.incarnation);
    }

    /// Half a sentence for an error message.
    pub fn so_far(&self) -> String {
        match self.records {
            0 => "nothing is acknowledged".into(),
            1 => "1 record is acknowledged".into(),
            n => format!("{} records are acknowledged", units::grouped(n)),
        }
    }

    /// Writes the summary.
    ///
    /// # Errors
    /// Stdout is gone.
    pub fn write(&self, log: &str, id: Option<ProducerId>, output: Output) -> Result<(), Failure> {
        let elapsed = self.last_answer - self.started;
        if !output.is_json() {
            return output.print(&self.text(log, elapsed));
        }
        output.json(&Summary {
            log,
            producer_id: id.map(|id| id.to_string()),
            records: self.records,
            already_there: self.already,
            input_bytes: self.input_bytes,
            last_offset: self.next_offset.map(|next| next - 1),
            incarnation: self.incarnation,
            elapsed_ms: elapsed.as_millis(),
            records_per_s: self.rate(elapsed),
            longest_pause_ms: self.longest_pause.as_millis(),
        })
    }

    fn rate(&self, elapsed: Duration) -> f64 {
        let new = (self.records - self.already) as f64;
        if elapsed.is_zero() { 0.0 } else { new / elapsed.as_secs_f64() }
    }

    fn text(&self, log: &str, elapsed: Duration) -> String {
        let new = self.records - self.already;
        if self.records == 0 {
            return "the input is empty: nothing was appended\n".into();
        }

        if new == 0 {
            let all = units::grouped(self.records);
            return format!("nothing to append: all {all} records of this input are in the log\n");
        }
        let last = self.next_offset.map_or(0, |next| next - 1);
        let mut text = format!(
            "appended {} record{} ({}) to {log} in {}, {} records/s; the last has offset {last}",
            units::grouped(new),
            if new == 1 { "" } else { "s" },
            units::bytes(self.input_bytes - self.skipped_bytes),
            units::duration(elapsed),
            units::count(self.rate(elapsed).round()),
        );
        if self.already > 0 {
            let already = units::grouped(self.already);
            text += &format!("; {already} of this input were there already");
        }
        text + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(records: u64, already: u64) -> Tally {
        Tally {
            records,
            already,
            input_bytes: 2048,
            skipped_bytes: if already > 0 { 1024 } else { 0 },
            next_offset: Some(records),
            ..Tally::new()
        }
    }

    #[test]
    fn summaries() {
        let table = [
            (0, 0, "the input is empty: nothing was appended\n"),
            (
                3000,
                0,
                "appended 3,000 records (2.00 KiB) to l in 2.00 s, 1.50k records/s; the last has \
                 offset 2999\n",
            ),
            (
                3000,
                1000,
                "appended 2,000 records (1.00 KiB) to l in 2.00 s, 1.00k records/s; the last has \
                 offset 2999; 1,000 of this input were there already\n",
            ),
            (3000, 3000, "nothing to append: all 3,000 records of this input are in the log\n"),
            (
                1,
                0,
                "appended 1 record (2.00 KiB) to l in 2.00 s, 1 records/s; the last has offset 0\n",
            ),
        ];
        for (records, already, want) in table {
            assert_eq!(tally(records, already).text("l", Duration::from_secs(2)), want);
        }
    }
}
