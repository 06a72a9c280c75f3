//! Reading a batch in place.

use super::BatchError;
use crate::limits::{LimitExceeded, check_record};

/// Tag bytes: field number and wire type LEN. Every field of the three messages is one of these.
pub(super) const FIELD_1: u8 = 0x0a;
pub(super) const FIELD_2: u8 = 0x12;
pub(super) const FIELD_3: u8 = 0x1a;

/// Longest length prefix, bytes. A length above 32 bits can't be honest inside a batch.
const MAX_LENGTH_BYTES: usize = 5;

/// A stretch of a batch that is still to be read.
#[derive(Clone, Copy, Debug)]
struct Cursor<'a> {
    rest: &'a [u8],
    /// Where `rest` begins, bytes from the start of the batch.
    at: usize,
}

impl<'a> Cursor<'a> {
    fn malformed<T>(&self, what: &'static str) -> Result<T, BatchError> {
        Err(BatchError::Malformed { what, at: self.at })
    }

    fn take(&mut self, n: usize) -> Option<Cursor<'a>> {
        let (head, rest) = self.rest.split_at_checked(n)?;
        let taken = Cursor { rest: head, at: self.at };
        *self = Cursor { rest, at: self.at + n };
        Some(taken)
    }

    fn length(&mut self) -> Result<usize, BatchError> {
        let mut value = 0_u64;
        for (i, byte) in self.rest.iter().take(MAX_LENGTH_BYTES).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                let skip = i + 1;
                self.rest = &self.rest[skip..];
                self.at += skip;
                return match usize::try_from(value) {
                    Ok(length) => Ok(length),
                    Err(_) => self.malformed("a length beyond memory"),
                };
            }
        }
        self.malformed("an unfinished or oversized length")
    }

    /// The next field: its tag byte and content. `None` at the end.
    fn field(&mut self) -> Result<Option<(u8, Cursor<'a>)>, BatchError> {
        let Some((tag, rest)) = self.rest.split_first() else { return Ok(None) };
        // Of another type: what follows is no length.
        if tag & 0x07 != FIELD_1 & 0x07 {
            return self.malformed("an unknown field");
        }
        let mut after = Cursor { rest, at: self.at + 1 };
        let length = after.length()?;
        match after.take(length) {
            Some(content) => {
                *self = after;
                Ok(Some((*tag, content)))
            }
            None => self.malformed("a length beyond the end"),
        }
    }
}

/// Iterates the records of a serialized batch. An error ends the iteration.
#[must_use]
pub fn records(batch: &[u8]) -> Records<'_> {
    Records { left: Cursor { rest: batch, at: 0 } }
}

/// See [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    left: Cursor<'a>,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.left;
        let result = match self.left.field() {
            Ok(None) => return None,
            Ok(Some((FIELD_1, content))) => RecordView::parse(content),
            Ok(Some(_)) => start.malformed("an unknown field of RecordBatch"),
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.left.rest = &[];
        }
        Some(result)
    }
}

/// One record, borrowed from its batch. Its bytes were walked once, so they are well-formed.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// The value; may be empty.
    pub value: &'a [u8],
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// Number of headers.
    header_count: usize,
    /// Keys and values of all headers.
    header_bytes: usize,
    content: Cursor<'a>,
}

impl<'a> RecordView<'a> {
    fn parse(content: Cursor<'a>) -> Result<Self, BatchError> {
        let (mut value, mut key) = (None, None);
        let (mut header_count, mut header_bytes) = (0, 0);
        let mut left = content;
        loop {
            let start = left;
            let Some((tag, field)) = left.field()? else { break };
            let slot = match tag {
                FIELD_1 => &mut value,
                FIELD_2 => &mut key,
                FIELD_3 => {
                    let (key, value) = header(field)?;
                    header_count += 1;
                    header_bytes += key.len() + value.len();
                    continue;
                }
                _ => return start.malformed("an unknown field of Record"),
            };
            if slot.replace(field.rest).is_some() {
                return start.malformed("a duplicate field of Record");
            }
        }
        Ok(Self { value: value.unwrap_or_default(), key, header_count, header_bytes, content })
    }

    /// The headers, in order.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        Headers { left: self.content }
    }

    /// Checks the record's sizes.
    pub(super) fn check_limits(&self) -> Result<(), LimitExceeded> {
        let key = self.key.map_or(0, <[u8]>::len);
        check_record(self.value.len(), key, self.header_count, self.header_bytes)
    }
}

fn header(content: Cursor<'_>) -> Result<(&str, &[u8]), BatchError> {
    let (mut key, mut value) = (None, None);
    let mut left = content;
    loop {
        let start = left;
        let Some((tag, field)) = left.field()? else { break };
        let slot = match tag {
            FIELD_1 => &mut key,
            FIELD_2 => &mut value,
            _ => return start.malformed("an unknown field of Header"),
        };
        if slot.replace(field.rest).is_some() {
            return start.malformed("a duplicate field of Header");
        }
    }
    match std::str::from_utf8(key.unwrap_or_default()) {
        Ok(key) => Ok((key, value.unwrap_or_default())),
        Err(_) => content.malformed("a header key that is not UTF-8"),
    }
}

/// Iterates the headers of a record: key and value.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    left: Cursor<'a>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const WALKED: &str = "a RecordView exists only for a record that was walked without error";
        loop {
            let (tag, field) = self.left.field().expect(WALKED)?;
            if tag == FIELD_3 {
                return Some(header(field).expect(WALKED));
            }
        }
    }
}
