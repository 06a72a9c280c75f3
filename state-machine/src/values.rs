//! The stored rows that apply rewrites: one per group, one per log, one per digest mark. Compact,
//! versioned, and checked when read.

use crate::{
    codec::{Input, Malformed, put_option, put_read_level, put_varint},
    limits::check_log_name,
    outcome::LogDescription,
    types::{
        Digest, Incarnation, LogIndex, LogName, LogPoint, Offset, ReadLevel, Term, TimestampMs,
        WriterEpoch,
    },
};

const FORMAT: u8 = 1;

/// A log's row with a read level behind the rest. Others are written as before.
const FORMAT_WITH_LEVEL: u8 = 2;

/// The group's own row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMeta {
    /// The last entry applied; `None` before the first.
    pub applied: Option<LogPoint>,
    /// Rolling digest of everything applied.
    pub digest: Digest,
    /// The highest leader timestamp applied. Producers expire by it.
    pub log_time: TimestampMs,
    /// The highest writer epoch of any deleted log: no log is ever granted it, or a lower one, anew.
    pub epoch_floor: u64,
    /// Logs that exist.
    pub logs: u64,
    /// Log indexes at which digests are recorded, oldest first.
    pub marks: Vec<LogIndex>,
}

impl GroupMeta {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.push(FORMAT);
        put_option(&mut out, self.applied.map(|p| p.term.0));
        put_varint(&mut out, self.applied.map_or(0, |p| p.index.0));
        out.extend_from_slice(&self.digest.0);
        put_varint(&mut out, self.log_time.0);
        put_varint(&mut out, self.epoch_floor);
        put_varint(&mut out, self.logs);
        put_varint(&mut out, self.marks.len() as u64);
        self.marks.iter().for_each(|m| put_varint(&mut out, m.0));
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`Malformed`] if it is damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        input.version(FORMAT)?;
        let term = input.option()?.map(Term);
        let index = LogIndex(input.varint()?);
        let mut this = Self {
            applied: term.map(|term| LogPoint { term, index }),
            digest: input.digest()?,
            log_time: TimestampMs(input.varint()?),
            epoch_floor: input.varint()?,
            logs: input.varint()?,
            marks: Vec::new(),
        };
        for _ in 0..input.varint()? {
            this.marks.push(LogIndex(input.varint()?));
        }
        input.end()?;
        Ok(this)
    }
}

/// A log's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMeta {
    /// Incarnation.
    pub incarnation: Incarnation,
    /// First readable offset.
    pub start_offset: Offset,
    /// One past the last record.
    pub next_offset: Offset,
    /// Fencing token; `None` until first fenced.
    pub writer_epoch: Option<WriterEpoch>,
    /// When it was created.
    pub created: TimestampMs,
    /// Timestamp of the newest batch, 0 before the first.
    pub last_timestamp: TimestampMs,
    /// Bytes of all batches ever appended.
    pub total_bytes: u64,
    /// Bytes of the batches that lie wholly below the start offset.
    pub trimmed_bytes: u64,
    /// Remembered producers.
    pub producers: u64,
    /// Rolling digest of the log's batches, trimmed ones included.
    pub digest: Digest,
    /// What readers get who ask for no level of their own.
    pub read_level: Option<ReadLevel>,
}

impl LogMeta {
    pub(crate) fn new(incarnation: Incarnation, created: TimestampMs) -> Self {
        Self {
            incarnation,
            start_offset: Offset(0),
            next_offset: Offset(0),
            writer_epoch: None,
            created,
            last_timestamp: TimestampMs(0),
            total_bytes: 0,
            trimmed_bytes: 0,
            producers: 0,
            digest: Digest::default(),
            read_level: None,
        }
    }

    /// Appends the stored form to `out`.
    pub(crate) fn encode_to(&self, out: &mut Vec<u8>) {
        out.push(if self.read_level.is_some() { FORMAT_WITH_LEVEL } else { FORMAT });
        out.extend_from_slice(&self.digest.0);
        put_option(out, self.writer_epoch.map(|e| e.0));
        for number in [
            self.incarnation.0,
            self.start_offset.0,
            self.next_offset.0,
            self.created.0,
            self.last_timestamp.0,
            self.total_bytes,
            self.trimmed_bytes,
            self.producers,
        ] {
            put_varint(out, number);
        }
        if self.read_level.is_some() {
            put_read_level(out, self.read_level);
        }
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80);
        self.encode_to(&mut out);
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`Malformed`] if it is damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        let levelled = match input.u8()? {
            FORMAT => false,
            FORMAT_WITH_LEVEL => true,
            _ => return Err(Malformed("a format version this build does not know")),
        };
        let digest = input.digest()?;
        let writer_epoch = input.option()?.map(WriterEpoch);
        let this = Self {
            digest,
            writer_epoch,
            incarnation: Incarnation(input.varint()?),
            start_offset: Offset(input.varint()?),
            next_offset: Offset(input.varint()?),
            created: TimestampMs(input.varint()?),
            last_timestamp: TimestampMs(input.varint()?),
            total_bytes: input.varint()?,
            trimmed_bytes: input.varint()?,
            producers: input.varint()?,
            read_level: match levelled {
                false => None,
                true => Some(input.read_level()?.ok_or(Malformed("no read level"))?),
            },
        };
        input.end()?;
        if this.start_offset > this.next_offset || this.trimmed_bytes > this.total_bytes {
            return Err(Malformed("a log that starts behind its end"));
        }
        Ok(this)
    }

    /// The log as others see it.
    #[must_use]
    pub fn describe(&self, name: LogName) -> LogDescription {
        LogDescription {
            name,
            incarnation: self.incarnation,
            start_offset: self.start_offset,
            next_offset: self.next_offset,
            writer_epoch: self.writer_epoch,
            created: self.created,
            last_timestamp: self.last_timestamp,
            stored_bytes: self.total_bytes - self.trimmed_bytes,
            producers: self.producers,
            read_level: self.read_level,
        }
    }
}

/// The digests at one log index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DigestMark {
    /// The group's.
    pub digest: Digest,
    /// Each log's, by name; at most [`crate::limits::MAX_MARKED_LOGS`].
    pub logs: Vec<MarkedLog>,
}

/// One log in a [`DigestMark`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkedLog {
    /// Name.
    pub name: LogName,
    /// Incarnation.
    pub incarnation: Incarnation,
    /// First readable offset.
    pub start_offset: Offset,
    /// One past the last record.
    pub next_offset: Offset,
    /// Rolling digest of the log's batches.
    pub digest: Digest,
}

impl DigestMark {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.logs.len() * 64);
        out.push(FORMAT);
        out.extend_from_slice(&self.digest.0);
        put_varint(&mut out, self.logs.len() as u64);
        for log in &self.logs {
            put_varint(&mut out, log.name.as_str().len() as u64);
            out.extend_from_slice(log.name.as_str().as_bytes());
            put_varint(&mut out, log.incarnation.0);
            put_varint(&mut out, log.start_offset.0);
            put_varint(&mut out, log.next_offset.0);
            out.extend_from_slice(&log.digest.0);
        }
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`Malformed`] if it is damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        input.version(FORMAT)?;
        let mut this = Self { digest: input.digest()?, logs: Vec::new() };
        for _ in 0..input.varint()? {
            let length =
                usize::try_from(input.varint()?).map_err(|_| Malformed("too few bytes"))?;
            let name = std::str::from_utf8(input.bytes(length)?)
                .ok()
                .filter(|name| check_log_name(name).is_ok())
                .and_then(|name| LogName::new(name).ok())
                .ok_or(Malformed("no valid log name"))?;
            this.logs.push(MarkedLog {
                name,
                incarnation: Incarnation(input.varint()?),
                start_offset: Offset(input.varint()?),
                next_offset: Offset(input.varint()?),
                digest: input.digest()?,
            });
        }
        input.end()?;
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_went() {
        let group = GroupMeta {
            applied: Some(LogPoint { term: Term(3), index: LogIndex(u64::MAX) }),
            digest: Digest([7; 16]),
            log_time: TimestampMs(1 << 41),
            epoch_floor: 9,
            logs: 2,
            marks: vec![LogIndex(1), LogIndex(300)],
        };
        assert_eq!(GroupMeta::decode(&group.encode()), Ok(group));
        assert_eq!(GroupMeta::decode(&GroupMeta::default().encode()), Ok(GroupMeta::default()));
        let mut log = LogMeta::new(Incarnation(1 << 20), TimestampMs(5));
        log.next_offset = Offset(12);
        log.writer_epoch = Some(WriterEpoch(u64::MAX));
        assert_eq!(LogMeta::decode(&log.encode()), Ok(log.clone()));
        for level in [
            ReadLevel::Linearizable,
            ReadLevel::Bounded { max_staleness_ms: u64::MAX },
            ReadLevel::Eventual,
        ] {
            let log = LogMeta { read_level: Some(level), ..log.clone() };
            assert_eq!(LogMeta::decode(&log.encode()), Ok(log));
        }
        let mark = DigestMark {
            digest: Digest([1; 16]),
            logs: vec![MarkedLog {
                name: LogName::new("a/b").unwrap(),
                incarnation: log.incarnation,
                start_offset: Offset(1),
                next_offset: Offset(2),
                digest: Digest([2; 16]),
            }],
        };
        assert_eq!(DigestMark::decode(&mark.encode()), Ok(mark));
    }

    #[test]
    fn cut_and_lengthened_rows_are_refused() {
        let mut meta = LogMeta::new(Incarnation(1), TimestampMs(5));
        let log = meta.encode();
        meta.read_level = Some(ReadLevel::Bounded { max_staleness_ms: 500 });
        for row in [&log, &meta.encode()] {
            for cut in 0..row.len() {
                assert!(LogMeta::decode(&row[..cut]).is_err(), "{cut}");
            }
            assert!(LogMeta::decode(&[&row[..], &[0]].concat()).is_err());
        }
        let mut other = log;
        other[0] = 9;
        assert!(LogMeta::decode(&other).is_err());
    }
}
