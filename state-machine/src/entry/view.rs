//! Reading an entry in place.

use bytes::Bytes;

use super::{FORMAT_VERSION, creation, kind, part::PartHeader};
use crate::{
    codec::{Input, Malformed},
    command::{AppendPart, Command},
    limits::check_log_name,
    types::{Batch, Incarnation, LogName, Offset, ReadLevel, TimestampMs, WriterEpoch},
};

/// Why an entry as a whole can't be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Another version of this software wrote it.
    #[error("entry format {0} (this build knows {FORMAT_VERSION})")]
    Version(u8),
    /// Its frame is damaged.
    #[error("damaged entry: {0}")]
    Damaged(#[from] Malformed),
}

/// An entry whose frame was checked.
#[derive(Clone, Debug)]
pub struct EntryView {
    bytes: Bytes,
    timestamp: TimestampMs,
    commands: u16,
}

impl EntryView {
    /// Checks the frame of `entry`; the commands are judged one by one as they are iterated.
    ///
    /// # Errors
    /// [`EntryError`], for every replica alike.
    pub fn parse(entry: &Bytes) -> Result<Self, EntryError> {
        let mut input = Input(entry);
        match input.u8()? {
            FORMAT_VERSION => {}
            other => return Err(EntryError::Version(other)),
        }
        let timestamp = TimestampMs(input.u64()?);
        let commands = input.u16()?;
        for _ in 0..commands {
            let length = input.u32()?;
            input.bytes(usize::try_from(length).map_err(|_| Malformed("too few bytes"))?)?;
        }
        input.end()?;
        Ok(Self { bytes: entry.clone(), timestamp, commands })
    }

    /// The leader's clock when it made the entry.
    #[must_use]
    pub fn timestamp(&self) -> TimestampMs {
        self.timestamp
    }

    /// Number of commands.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        usize::from(self.commands)
    }

    /// Whether all commands are appends. To apply one mostly takes what was written last; any other
    /// looks up what may have been on a disk for long.
    #[must_use]
    pub fn only_appends(&self) -> bool {
        self.contents().all(|content| content.first() == Some(&kind::APPEND))
    }

    /// The commands, in order.
    #[must_use]
    pub fn commands(&self) -> Commands<'_> {
        Commands { entry: &self.bytes, contents: self.contents() }
    }

    /// The commands' bytes (kind and content), in order.
    pub(crate) fn contents(&self) -> Contents<'_> {
        Contents(&self.bytes[super::HEADER_BYTES..])
    }

    /// What one of [`Self::contents`] says.
    pub(crate) fn decode<'a>(&'a self, content: &'a [u8]) -> Result<CommandView<'a>, Malformed> {
        command(&self.bytes, content)
    }
}

/// Iterates the bytes of an entry's commands.
#[derive(Clone, Debug)]
pub(crate) struct Contents<'a>(&'a [u8]);

impl<'a> Iterator for Contents<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        const CHECKED: &str = "parse checked the frame";
        if self.0.is_empty() {
            return None;
        }
        let mut input = Input(self.0);
        let length = input.u32().expect(CHECKED);
        let content = input.bytes(length as usize).expect(CHECKED);
        self.0 = input.0;
        Some(content)
    }
}

/// Iterates an entry's commands. An error is about one command; the iteration goes on behind it.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    entry: &'a Bytes,
    contents: Contents<'a>,
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<CommandView<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(command(self.entry, self.contents.next()?))
    }
}

/// A command, borrowed from its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandView<'a> {
    /// See [`Command::Append`].
    Append(Vec<PartView<'a>>),
    /// See [`Command::CreateLog`].
    CreateLog {
        /// Name.
        name: &'a str,
        /// Answer with the existing log instead of refusing.
        if_absent: bool,
        /// Of its readers.
        read_level: Option<ReadLevel>,
    },
    /// See [`Command::DeleteLog`].
    DeleteLog {
        /// Name.
        name: &'a str,
        /// Refuse if the name belongs to another incarnation.
        incarnation: Option<Incarnation>,
    },
    /// See [`Command::TrimLog`].
    TrimLog {
        /// Name.
        name: &'a str,
        /// First offset to keep.
        before: Offset,
        /// Refuse if the name belongs to another incarnation.
        incarnation: Option<Incarnation>,
    },
    /// See [`Command::Fence`].
    Fence {
        /// Name.
        name: &'a str,
        /// The new epoch is at least this.
        min_epoch: Option<WriterEpoch>,
        /// Refuse if the name belongs to another incarnation.
        incarnation: Option<Incarnation>,
    },
    /// See [`Command::SetReadLevel`].
    SetReadLevel {
        /// Name.
        name: &'a str,
        /// `None`: back to the cluster's default.
        read_level: Option<ReadLevel>,
        /// Refuse if the name belongs to another incarnation.
        incarnation: Option<Incarnation>,
    },
    /// See [`Command::MarkDigest`].
    MarkDigest,
}

/// A part of an append, borrowed from its entry. The batch has its stated checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartView<'a> {
    /// The log's name; satisfies [`check_log_name`].
    pub log: &'a str,
    /// Conditions, count and checksum.
    pub header: PartHeader,
    /// Header and batch, the value to store: a slice of the entry.
    pub stored: Bytes,
    /// Where the batch begins in `stored`.
    batch_at: usize,
}

impl PartView<'_> {
    /// The serialized batch: a slice of the entry.
    #[must_use]
    pub fn batch(&self) -> Bytes {
        self.stored.slice(self.batch_at..)
    }

    /// The encoded [`Self::header`].
    pub(crate) fn header_bytes(&self) -> &[u8] {
        &self.stored[..self.batch_at]
    }

    /// Bytes of the serialized batch.
    #[must_use]
    pub fn batch_len(&self) -> usize {
        self.stored.len() - self.batch_at
    }

    fn to_owned(&self) -> AppendPart {
        let h = &self.header;
        AppendPart {
            log: owned(self.log),
            expected_offset: h.expected_offset,
            writer_epoch: h.writer_epoch,
            producer: h.producer,
            incarnation: h.incarnation,
            batch: Batch { bytes: self.batch(), count: h.count, crc32c: h.crc32c },
        }
    }
}

fn owned(name: &str) -> LogName {
    LogName::new(name).expect("a view exists only for a checked name")
}

impl CommandView<'_> {
    /// The command on its own. Batches are still slices of the entry.
    #[must_use]
    pub fn to_command(&self) -> Command {
        match *self {
            Self::Append(ref parts) => {
                Command::Append(parts.iter().map(PartView::to_owned).collect())
            }
            Self::CreateLog { name, if_absent, read_level } => {
                Command::CreateLog { name: owned(name), if_absent, read_level }
            }
            Self::DeleteLog { name, incarnation } => {
                Command::DeleteLog { name: owned(name), incarnation }
            }
            Self::TrimLog { name, before, incarnation } => {
                Command::TrimLog { name: owned(name), before, incarnation }
            }
            Self::Fence { name, min_epoch, incarnation } => {
                Command::Fence { name: owned(name), min_epoch, incarnation }
            }
            Self::SetReadLevel { name, read_level, incarnation } => {
                Command::SetReadLevel { name: owned(name), read_level, incarnation }
            }
            Self::MarkDigest => Command::MarkDigest,
        }
    }
}

fn command<'a>(entry: &'a Bytes, content: &'a [u8]) -> Result<CommandView<'a>, Malformed> {
    let mut input = Input(content);
    let command = match input.u8()? {
        kind::APPEND => {
            let count = usize::from(input.u8()?);
            if count == 0 {
                return Err(Malformed("an append without parts"));
            }
            let parts = (0..count).map(|_| part(entry, &mut input)).collect::<Result<_, _>>()?;
            CommandView::Append(parts)
        }
        kind::CREATE => {
            let name = name(&mut input)?;
            let options = input.u8()?;
            if options & !(creation::IF_ABSENT | creation::READ_LEVEL) != 0 {
                return Err(Malformed("a creation option this build does not know"));
            }
            let read_level = match options & creation::READ_LEVEL {
                0 => None,
                // Said to be there, so it must be: one way to write each command.
                _ => Some(input.read_level()?.ok_or(Malformed("no read level"))?),
            };
            let if_absent = options & creation::IF_ABSENT != 0;
            CommandView::CreateLog { name, if_absent, read_level }
        }
        kind::DELETE => CommandView::DeleteLog {
            name: name(&mut input)?,
            incarnation: input.option()?.map(Incarnation),
        },
        kind::TRIM => CommandView::TrimLog {
            name: name(&mut input)?,
            before: Offset(input.u64()?),
            incarnation: input.option()?.map(Incarnation),
        },
        kind::FENCE => CommandView::Fence {
            name: name(&mut input)?,
            min_epoch: input.option()?.map(WriterEpoch),
            incarnation: input.option()?.map(Incarnation),
        },
        kind::READ_LEVEL => CommandView::SetReadLevel {
            name: name(&mut input)?,
            read_level: input.read_level()?,
            incarnation: input.option()?.map(Incarnation),
        },
        kind::MARK => CommandView::MarkDigest,
        _ => return Err(Malformed("a kind of command this build does not know")),
    };
    input.end()?;
    Ok(command)
}

fn name<'a>(input: &mut Input<'a>) -> Result<&'a str, Malformed> {
    let length = usize::from(input.u8()?);
    let name = std::str::from_utf8(input.bytes(length)?).ok();
    name.filter(|name| check_log_name(name).is_ok()).ok_or(Malformed("no valid log name"))
}

fn part<'a>(entry: &Bytes, input: &mut Input<'a>) -> Result<PartView<'a>, Malformed> {
    let log = name(input)?;
    let length = input.u32()?;
    let part = input.bytes(length as usize)?;
    let (header, batch_at) = PartHeader::parse(part)?;
    // End to end: what is stored is what the edge checked, whatever memory did in between.
    if crc32c::crc32c(&part[batch_at..]) != header.crc32c {
        return Err(Malformed("a batch does not have its checksum"));
    }
    Ok(PartView { log, header, stored: entry.slice_ref(part), batch_at })
}
