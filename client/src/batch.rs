//! Records, and batches of them: encoded once, here, and never again on their way to the readers.
//!
//! A batch is a serialized `RecordBatch`, a sequence of length-prefixed records. Two batches laid
//! end to end are therefore again a batch, which is how a producer packs waiting appends.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{decode_varint, encode_varint, encoded_len_varint},
};
use quorate_proto::v1 as wire;

use crate::errors::{Error, Result};

/// Largest record: value, key and headers together, bytes.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// Largest serialized batch, bytes.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Most records in one batch.
pub const MAX_BATCH_RECORDS: usize = 65_536;
/// Longest record key, bytes.
pub const MAX_KEY_BYTES: usize = 64 * 1024;
/// Most headers on one record.
pub const MAX_HEADERS: usize = 64;
/// Keys and values of all headers of one record, bytes.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Field 1, length-delimited: a record in a batch.
const RECORD_TAG: u8 = 0x0a;

/// What a caller appends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The content; may be empty.
    pub value: Bytes,
    /// What it is about.
    pub key: Option<Bytes>,
    /// For routing and tracing: name and value, in order.
    pub headers: Vec<(String, Bytes)>,
}

impl Record {
    /// A record of a value alone.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), ..Self::default() }
    }

    /// Sets the key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn check(&self) -> Result<()> {
        let key = self.key.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(k, v)| k.len() + v.len()).sum();
        within("a record key of", key, "MAX_KEY_BYTES", MAX_KEY_BYTES)?;
        within("the number of headers", self.headers.len(), "MAX_HEADERS", MAX_HEADERS)?;
        within("record headers of", headers, "MAX_HEADER_BYTES", MAX_HEADER_BYTES)?;
        let all = self.value.len() + key + headers;
        within("a record of", all, "MAX_RECORD_BYTES", MAX_RECORD_BYTES)
    }

    fn into_wire(self) -> wire::Record {
        let header = |(key, value)| wire::Header { key, value };
        wire::Record {
            value: self.value,
            key: self.key,
            headers: self.headers.into_iter().map(header).collect(),
        }
    }

    fn from_wire(record: wire::Record) -> Self {
        let headers = record.headers.into_iter().map(|h| (h.key, h.value)).collect();
        Self { value: record.value, key: record.key, headers }
    }
}

macro_rules! record_from {
    ($($value:ty),+) => {
        $(impl From<$value> for Record {
            fn from(value: $value) -> Self {
                Self::new(value)
            }
        })+
    };
}
record_from!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

fn within(what: &str, actual: usize, limit: &str, max: usize) -> Result<()> {
    if actual <= max {
        return Ok(());
    }
    let message = format!("{what} {actual} is over the limit {limit} = {max}");
    Err(Error::over_limit(limit, max as u64, message))
}

/// An encoded batch, ready to be appended. At least one record; within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    crc32c: u32,
    records: u32,
}

impl Batch {
    /// Encodes records.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid): no record, or over a limit.
    pub fn of<R: Into<Record>>(records: impl IntoIterator<Item = R>) -> Result<Self> {
        let mut builder = BatchBuilder::new();
        for record in records {
            builder.push(record.into())?;
        }
        builder.build()
    }

    /// The serialized records.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// CRC32C of [`Self::bytes`].
    #[must_use]
    pub fn crc32c(&self) -> u32 {
        self.crc32c
    }

    /// How many records.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.records
    }

    /// One batch with the records of all of `batches`, in order.
    pub(crate) fn concat(batches: &[Self]) -> Self {
        if let [only] = batches {
            return only.clone();
        }
        let mut bytes = BytesMut::with_capacity(batches.iter().map(|b| b.bytes.len()).sum());
        batches.iter().for_each(|b| bytes.extend_from_slice(&b.bytes));
        let records = batches.iter().map(|b| b.records).sum();
        assert!(bytes.len() <= MAX_BATCH_BYTES, "whoever packs batches minds the limit");
        Self { crc32c: crc32c::crc32c(&bytes), bytes: bytes.freeze(), records }
    }

    pub(crate) fn into_part(
        self,
        log: &str,
        conditions: wire::AppendConditions,
    ) -> wire::AppendPart {
        wire::AppendPart {
            log: log.to_owned(),
            batch: self.bytes,
            batch_crc32c: Some(self.crc32c),
            records: Vec::new(),
            conditions: Some(conditions),
        }
    }
}

/// Builds a [`Batch`] record by record.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    bytes: BytesMut,
    records: u32,
}

impl BatchBuilder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record. A refused record leaves the builder as it was.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid): the record, or the batch with it, is
    /// over a limit, which [`Error::limit`] names.
    pub fn push(&mut self, record: impl Into<Record>) -> Result<()> {
        let record = record.into();
        record.check()?;
        let record = record.into_wire();
        let length = record.encoded_len();
        let more = 1 + encoded_len_varint(length as u64) + length;
        within("a batch of", self.bytes.len() + more, "MAX_BATCH_BYTES", MAX_BATCH_BYTES)?;
        let records = self.records as usize + 1;
        within("the records of a batch", records, "MAX_BATCH_RECORDS", MAX_BATCH_RECORDS)?;
        self.bytes.reserve(more);
        self.bytes.put_u8(RECORD_TAG);
        encode_varint(length as u64, &mut self.bytes);
        record.encode_raw(&mut self.bytes);
        self.records += 1;
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.records
    }

    /// Whether nothing was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The batch.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid): there is no record in it.
    pub fn build(self) -> Result<Batch> {
        if self.is_empty() {
            return Err(Error::invalid("an append needs at least one record"));
        }
        let bytes = self.bytes.freeze();
        Ok(Batch { crc32c: crc32c::crc32c(&bytes), bytes, records: self.records })
    }
}

/// The records of a serialized batch, decoded one at a time. Values and keys are slices of the
/// batch: nothing is copied. An error ends the iteration.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    rest: Bytes,
}

impl Records {
    pub(crate) fn of(batch: Bytes) -> Self {
        Self { rest: batch }
    }

    /// Skips a record without looking into it. `None` at the end.
    pub(crate) fn skip_one(&mut self) -> Option<Result<()>> {
        self.content().map(|content| content.map(drop))
    }

    fn content(&mut self) -> Option<Result<Bytes>> {
        if self.rest.is_empty() {
            return None;
        }
        let mut rest = std::mem::take(&mut self.rest);
        if rest.get_u8() != RECORD_TAG {
            return Some(Err(Error::corrupt("a stored batch holds something that is no record")));
        }
        let length = match decode_varint(&mut rest).map(usize::try_from) {
            Ok(Ok(length)) if length <= rest.len() => length,
            _ => return Some(Err(Error::corrupt("a record of a stored batch is cut off"))),
        };
        let content = rest.split_to(length);
        self.rest = rest;
        Some(Ok(content))
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.content()?.and_then(|content| match wire::Record::decode(content) {
            Ok(record) => Ok(Record::from_wire(record)),
            Err(error) => {
                self.rest.clear();
                Err(Error::corrupt(format!("a record of a stored batch is damaged: {error}")))
            }
        }))
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
