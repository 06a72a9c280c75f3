//! Writing a batch, for callers who sent plain records, and for tests. Byte for byte what prost
//! writes for the same message.

use bytes::{BufMut, Bytes, BytesMut};

use super::walk::{FIELD_1, FIELD_2, FIELD_3};

/// A record to encode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// The value.
    pub value: &'a [u8],
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: Vec<(&'a str, &'a [u8])>,
}

/// Serializes records as a `RecordBatch`. Limits are not checked here:
/// [`crate::types::Batch::validate`] does that for every batch, whoever encoded it.
pub fn encode<'a>(records: impl IntoIterator<Item = RecordRef<'a>>) -> Bytes {
    let mut out = BytesMut::new();
    for record in records {
        let length = record_len(&record);
        out.reserve(field_len(length));
        put_prefix(&mut out, FIELD_1, length);
        put_unless_empty(&mut out, FIELD_1, record.value);
        if let Some(key) = record.key {
            put_field(&mut out, FIELD_2, key);
        }
        for (key, value) in &record.headers {
            put_prefix(&mut out, FIELD_3, header_len(key, value));
            put_unless_empty(&mut out, FIELD_1, key.as_bytes());
            put_unless_empty(&mut out, FIELD_2, value);
        }
    }
    out.freeze()
}

fn record_len(record: &RecordRef<'_>) -> usize {
    let headers = record.headers.iter().map(|(key, value)| field_len(header_len(key, value)));
    unless_empty_len(record.value)
        + record.key.map_or(0, |key| field_len(key.len()))
        + headers.sum::<usize>()
}

fn header_len(key: &str, value: &[u8]) -> usize {
    unless_empty_len(key.as_bytes()) + unless_empty_len(value)
}

/// proto3 leaves out a field of implicit presence that has its default.
fn unless_empty_len(content: &[u8]) -> usize {
    if content.is_empty() { 0 } else { field_len(content.len()) }
}

fn field_len(content: usize) -> usize {
    let bits = usize::BITS - content.leading_zeros();
    1 + bits.div_ceil(7).max(1) as usize + content
}

fn put_prefix(out: &mut BytesMut, tag: u8, mut length: usize) {
    out.put_u8(tag);
    while length >= 0x80 {
        out.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
}

fn put_field(out: &mut BytesMut, tag: u8, content: &[u8]) {
    put_prefix(out, tag, content.len());
    out.put_slice(content);
}

fn put_unless_empty(out: &mut BytesMut, tag: u8, content: &[u8]) {
    if !content.is_empty() {
        put_field(out, tag, content);
    }
}
