//! Writing an entry.

use bytes::Bytes;

use super::{FORMAT_VERSION, HEADER_BYTES, creation, kind, part::PartHeader};
use crate::{
    codec::{option_len, put_option, put_read_level, read_level_len},
    command::{AppendPart, Command},
    limits::MAX_ENTRY_COMMANDS,
    types::{LogName, TimestampMs},
};

/// Packs commands into an entry. The batches' bytes are copied once, here.
#[derive(Debug)]
pub struct EntryBuilder {
    out: Vec<u8>,
    commands: u16,
}

impl Default for EntryBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl EntryBuilder {
    /// An entry without commands.
    #[must_use]
    pub fn new() -> Self {
        let mut out = vec![0; HEADER_BYTES];
        out[0] = FORMAT_VERSION;
        Self { out, commands: 0 }
    }

    /// Adds a command. Its position in the entry is the number of commands before it, and the
    /// entry's outcomes come in this order.
    ///
    /// # Panics
    /// If there are [`MAX_ENTRY_COMMANDS`] already, or an append has no part or more than 255.
    pub fn push(&mut self, command: &Command) {
        assert!(self.commands() < MAX_ENTRY_COMMANDS, "an entry has room for 65,535 commands");
        self.commands += 1;
        let length = command.encoded_len();
        self.out.reserve(length);
        let start = self.out.len();
        let content = u32::try_from(length - 4).expect("edge limits keep commands below 4 GiB");
        self.out.extend_from_slice(&content.to_le_bytes());
        put_command(&mut self.out, command);
        assert_eq!(self.out.len() - start, length, "Command::encoded_len is exact");
    }

    /// Bytes so far.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "the header is always there")]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Commands so far.
    #[must_use]
    pub fn commands(&self) -> usize {
        usize::from(self.commands)
    }

    /// The entry, with the leader's clock as the timestamp of all its commands.
    #[must_use]
    pub fn finish(mut self, timestamp: TimestampMs) -> Bytes {
        self.out[1..9].copy_from_slice(&timestamp.0.to_le_bytes());
        self.out[9..HEADER_BYTES].copy_from_slice(&self.commands.to_le_bytes());
        // The entry lives on in caches that count its bytes, not its capacity.
        self.out.shrink_to_fit();
        self.out.into()
    }
}

impl Command {
    /// Bytes that the command takes in an entry.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let content = match self {
            Command::Append(parts) => 1 + parts.iter().map(part_len).sum::<usize>(),
            Command::CreateLog { name, read_level, .. } => {
                name_len(name) + 1 + read_level.map_or(0, |level| read_level_len(Some(level)))
            }
            Command::DeleteLog { name, incarnation } => {
                name_len(name) + option_len(incarnation.map(|i| i.0))
            }
            Command::TrimLog { name, incarnation, .. } => {
                name_len(name) + 8 + option_len(incarnation.map(|i| i.0))
            }
            Command::Fence { name, min_epoch, incarnation } => {
                name_len(name)
                    + option_len(min_epoch.map(|e| e.0))
                    + option_len(incarnation.map(|i| i.0))
            }
            Command::SetReadLevel { name, read_level, incarnation } => {
                name_len(name) + read_level_len(*read_level) + option_len(incarnation.map(|i| i.0))
            }
            Command::MarkDigest => 0,
        };
        4 + 1 + content
    }
}

impl AppendPart {
    fn header(&self) -> PartHeader {
        PartHeader {
            expected_offset: self.expected_offset,
            writer_epoch: self.writer_epoch,
            producer: self.producer,
            incarnation: self.incarnation,
            count: self.batch.count,
            crc32c: self.batch.crc32c,
        }
    }
}

fn name_len(name: &LogName) -> usize {
    1 + name.as_str().len()
}

fn part_len(part: &AppendPart) -> usize {
    name_len(&part.log) + 4 + part.header().encoded_len() + part.batch.bytes.len()
}

fn put_command(out: &mut Vec<u8>, command: &Command) {
    match command {
        Command::Append(parts) => {
            out.push(kind::APPEND);
            let count = u8::try_from(parts.len()).ok().filter(|n| *n > 0);
            out.push(count.expect("an append has 1 to 255 parts"));
            parts.iter().for_each(|part| put_part(out, part));
        }
        Command::CreateLog { name, if_absent, read_level } => {
            out.push(kind::CREATE);
            put_name(out, name);
            let absent = if *if_absent { creation::IF_ABSENT } else { 0 };
            let level = if read_level.is_some() { creation::READ_LEVEL } else { 0 };
            out.push(absent | level);
            if read_level.is_some() {
                put_read_level(out, *read_level);
            }
        }
        Command::DeleteLog { name, incarnation } => {
            out.push(kind::DELETE);
            put_name(out, name);
            put_option(out, incarnation.map(|i| i.0));
        }
        Command::TrimLog { name, before, incarnation } => {
            out.push(kind::TRIM);
            put_name(out, name);
            out.extend_from_slice(&before.0.to_le_bytes());
            put_option(out, incarnation.map(|i| i.0));
        }
        Command::Fence { name, min_epoch, incarnation } => {
            out.push(kind::FENCE);
            put_name(out, name);
            put_option(out, min_epoch.map(|e| e.0));
            put_option(out, incarnation.map(|i| i.0));
        }
        Command::SetReadLevel { name, read_level, incarnation } => {
            out.push(kind::READ_LEVEL);
            put_name(out, name);
            put_read_level(out, *read_level);
            put_option(out, incarnation.map(|i| i.0));
        }
        Command::MarkDigest => out.push(kind::MARK),
    }
}

fn put_name(out: &mut Vec<u8>, name: &LogName) {
    let name = name.as_str().as_bytes();
    out.push(u8::try_from(name.len()).expect("a LogName has at most MAX_LOG_NAME_BYTES"));
    out.extend_from_slice(name);
}

fn put_part(out: &mut Vec<u8>, part: &AppendPart) {
    put_name(out, &part.log);
    let header = part.header();
    let length = header.encoded_len() + part.batch.bytes.len();
    let length = u32::try_from(length).expect("edge limits keep parts below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    header.put(out);
    out.extend_from_slice(&part.batch.bytes);
}
