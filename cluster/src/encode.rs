//! Encodes a `RecordBatch` straight from borrowed bytes, with no allocation per record.

use bytes::Bytes;

/// A serialized `quorate.v1.RecordBatch` with its checksum, ready for the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedBatch {
    /// The protobuf bytes.
    pub bytes: Bytes,
    /// Their CRC32C.
    pub crc32c: u32,
}

/// Collects records into one batch.
#[derive(Default)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    records: u32,
}

// Protobuf tags: (field number << 3) | 2 (length-delimited).
const BATCH_RECORDS: u8 = 1 << 3 | 2;
const RECORD_VALUE: u8 = 1 << 3 | 2;
const RECORD_KEY: u8 = 2 << 3 | 2;

impl BatchBuilder {
    /// Adds a record. The bytes are those prost would write: an empty value is left out, an empty
    /// key is not (it is `optional`).
    pub fn push(&mut self, key: Option<&[u8]>, value: &[u8]) {
        let field = |bytes: &[u8]| 1 + varint_len(bytes.len()) + bytes.len();
        let value_len = if value.is_empty() { 0 } else { field(value) };
        let len = value_len + key.map_or(0, field);
        self.bytes.reserve(1 + varint_len(len) + len);
        self.bytes.push(BATCH_RECORDS);
        self.varint(len);
        if !value.is_empty() {
            self.field(RECORD_VALUE, value);
        }
        if let Some(key) = key {
            self.field(RECORD_KEY, key);
        }
        self.records += 1;
    }

    /// Records so far.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// The batch; the builder is empty again.
    pub fn take(&mut self) -> EncodedBatch {
        assert!(self.records > 0, "a batch has at least one record");
        self.records = 0;
        let capacity = self.bytes.capacity();
        let bytes = Bytes::from(std::mem::replace(&mut self.bytes, Vec::with_capacity(capacity)));
        EncodedBatch { crc32c: crc32c::crc32c(&bytes), bytes }
    }

    fn field(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes.push(tag);
        self.varint(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut n: usize) {
        while n >= 0x80 {
            self.bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.bytes.push(n as u8);
    }
}

fn varint_len(n: usize) -> usize {
    (usize::BITS - (n | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use quorate_proto::v1::{Record, RecordBatch};

    use super::*;

    proptest! {
        #[test]
        fn same_bytes_as_prost(records in proptest::collection::vec(
            (proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
             proptest::collection::vec(any::<u8>(), 0..300)), 1..20)
        ) {
            let mut builder = BatchBuilder::default();
            for (key, value) in &records {
                builder.push(key.as_deref(), value);
            }
            let mine = builder.take();
            let records = records.into_iter().map(|(key, value)| Record {
                value: value.into(), key: key.map(Into::into), headers: vec![],
            });
            let prost = RecordBatch { records: records.collect() }.encode_to_vec();
            prop_assert_eq!(&mine.bytes[..], &prost[..]);
            prop_assert_eq!(mine.crc32c, crc32c::crc32c(&prost));
        }
    }

    #[test]
    fn varint_lengths() {
        for n in [0, 1, 127, 128, 16383, 16384, 1 << 20, 1 << 28, 1 << 35] {
            let mut b = BatchBuilder::default();
            b.varint(n);
            assert_eq!(b.bytes.len(), varint_len(n), "{n}");
        }
    }
}
