//! Records on stdout.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::{AsFd, AsRawFd},
};

use quorate_client::{ReadBatch, ReadRecord};
use serde::Serialize;

use super::{json_text, stdout_failed, units};
use crate::{args::Show, exit::Failure};

/// Large enough that writing costs no system call a record.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes records in one of the forms.
pub struct RecordWriter<W: Write> {
    out: BufWriter<W>,
    show: Show,
    written: u64,
}

impl RecordWriter<File> {
    /// A writer to stdout, around the standard library's line buffering.
    ///
    /// # Errors
    /// There is no stdout.
    pub fn stdout(show: Show) -> Result<Self, Failure> {
        let fd = io::stdout().as_fd().try_clone_to_owned().map_err(|e| stdout_failed(&e))?;
        Ok(Self::new(File::from(fd), show))
    }

    /// Whether nobody reads any more. A pipe says so only when something is written, and a tail may
    /// have nothing to write for hours.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.out.get_ref().as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: `poll` is one valid pollfd for the duration of the call, which does not block.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        ready == 1 && poll.revents & (libc::POLLERR | libc::POLLHUP) != 0
    }
}

impl<W: Write> RecordWriter<W> {
    /// A writer to `out`.
    pub fn new(out: W, show: Show) -> Self {
        Self { out: BufWriter::with_capacity(BUFFER_BYTES, out), show, written: 0 }
    }

    /// Records written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes the visible records of `batch`, at most `limit` of them.
    ///
    /// # Errors
    /// A batch that does not hold what it should; stdout is gone.
    pub fn batch(&mut self, batch: &ReadBatch, limit: u64) -> Result<(), Failure> {
        for record in batch.records().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
            self.record(&record?).map_err(|e| stdout_failed(&e))?;
            self.written += 1;
        }
        Ok(())
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// Stdout is gone.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|e| stdout_failed(&e))
    }

    fn record(&mut self, read: &ReadRecord) -> io::Result<()> {
        let record = &read.record;
        match self.show {
            Show::Raw => self.out.write_all(&record.value),
            Show::Value => {
                self.out.write_all(&record.value)?;
                self.out.write_all(b"\n")
            }
            Show::Full => {
                let time = units::timestamp(read.timestamp_ms);
                let key = record.key.as_deref().map_or_else(|| "-".to_owned(), escaped);
                writeln!(self.out, "{}\t{time}\t{key}\t{}", read.offset, escaped(&record.value))
            }
            Show::Json => writeln!(self.out, "{}", json_text(&view(read), false)),
        }
    }
}

/// A record as JSON. Bytes that are no UTF-8 come as `..._hex` instead of being bent into text.
#[derive(Serialize)]
struct RecordView<'a> {
    offset: u64,
    timestamp_ms: u64,
    #[serde(flatten)]
    key: Option<KeyView<'a>>,
    #[serde(flatten)]
    value: ValueView<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderView<'a>>,
}

#[derive(Serialize)]
enum KeyView<'a> {
    #[serde(rename = "key")]
    Text(&'a str),
    #[serde(rename = "key_hex")]
    Hex(String),
}

#[derive(Serialize)]
enum ValueView<'a> {
    #[serde(rename = "value")]
    Text(&'a str),
    #[serde(rename = "value_hex")]
    Hex(String),
}

#[derive(Serialize)]
struct HeaderView<'a> {
    name: &'a str,
    #[serde(flatten)]
    value: ValueView<'a>,
}

fn view(read: &ReadRecord) -> RecordView<'_> {
    let value = |bytes| match std::str::from_utf8(bytes) {
        Ok(text) => ValueView::Text(text),
        Err(_) => ValueView::Hex(units::hex(bytes)),
    };
    let key = |bytes| match std::str::from_utf8(bytes) {
        Ok(text) => KeyView::Text(text),
        Err(_) => KeyView::Hex(units::hex(bytes)),
    };
    RecordView {
        offset: read.offset,
        timestamp_ms: read.timestamp_ms,
        key: read.record.key.as_deref().map(key),
        value: value(&read.record.value),
        headers: (read.record.headers.iter())
            .map(|(name, v)| HeaderView { name, value: value(v) })
            .collect(),
    }
}

/// Text on one line and without tabs: control characters and backslashes as in C, bytes that are
/// no UTF-8 as \xNN.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| out.push_str(&format!("\\x{b:02x}")));
    }
    out
}

#[cfg(test)]
mod tests {
    use quorate_client::Record;

    use super::*;

    fn shown(show: Show, record: Record) -> String {
        let mut writer = RecordWriter::new(Vec::new(), show);
        let read = ReadRecord { offset: 7, timestamp_ms: 1_795_249_800_123, record };
        writer.record(&read).unwrap();
        writer.flush().unwrap();
        String::from_utf8_lossy(writer.out.get_ref()).into_owned()
    }

    #[test]
    fn forms() {
        let record = || Record::new("a\tb").with_key("k").with_header("h", "x");
        let odd = || Record::new(&b"\xff\n"[..]);
        let table = [
            (Show::Value, record(), "a\tb\n"),
            (Show::Raw, record(), "a\tb"),
            (Show::Full, record(), "7\t2026-11-21T08:30:00.123Z\tk\ta\\tb\n"),
            (Show::Full, odd(), "7\t2026-11-21T08:30:00.123Z\t-\t\\xff\\n\n"),
            (
                Show::Json,
                record(),
                "{\"offset\":7,\"timestamp_ms\":1795249800123,\"key\":\"k\",\"value\":\"a\\tb\",\
                 \"headers\":[{\"name\":\"h\",\"value\":\"x\"}]}\n",
            ),
            (
                Show::Json,
                odd(),
                "{\"offset\":7,\"timestamp_ms\":1795249800123,\"value_hex\":\"ff0a\"}\n",
            ),
        ];
        for (show, record, want) in table {
            assert_eq!(shown(show, record), want, "{show:?}");
        }
    }

    #[test]
    fn escapes() {
        for (bytes, want) in [
            (&b"plain \xc3\xbc"[..], "plain ü"),
            (b"a\\\r\n", "a\\\\\\r\\n"),
            (b"\x00\xc3", "\\u{0}\\xc3"),
        ] {
            assert_eq!(escaped(bytes), want);
        }
    }
}
