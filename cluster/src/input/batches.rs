//! Which records travel together.
//!
//! The rule looks at content only, never at time or at how the operating system cut the input. So
//! a second run over the same input makes the same batches under the same numbers, and the server's
//! deduplication by (producer, sequence) makes an interrupted run resumable without any state kept
//! on the client. *Changing the rule (or [`RECORD_OVERHEAD_BYTES`]) breaks resuming across
//! versions of this program*: a test holds it still.

use std::io::Read;

use bytes::Bytes;
use quorate_client::{Batch, BatchBuilder, Record};

use super::split::{SplitError, Splitter};

/// What a record counts above its own bytes, so that very short records fill a batch too.
pub const RECORD_OVERHEAD_BYTES: usize = 16;

/// How records are put into batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRule {
    /// A batch ends before the record that would take it over this many bytes; a record larger
    /// than that is a batch of its own.
    pub max_bytes: usize,
    /// A batch ends with this many records.
    pub max_records: u32,
    /// What stands in front of the first occurrence of this is the record's key.
    pub key_separator: Option<Vec<u8>>,
    /// End a batch early rather than wait for input. Then the batches depend on timing, and the
    /// run cannot be resumed.
    pub eager: bool,
}

/// One batch of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputBatch {
    /// Its number, from 0: the producer's sequence.
    pub sequence: u64,
    /// Records of the input before it.
    pub first_record: u64,
    /// Records in it.
    pub records: u32,
    /// Bytes of the input up to its end.
    pub input_end: u64,
    /// What goes over the wire.
    pub batch: Batch,
}

/// Why there is no next batch.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The input can't be split into records.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// A record that the log would not take.
    #[error("record {number} of the input: {}", why.message())]
    Record {
        /// Number of the record, from 1.
        number: u64,
        /// Which limit.
        why: quorate_client::Error,
    },
}

/// Reads batches one after the other.
pub struct Batches<R> {
    splitter: Splitter<R>,
    rule: BatchRule,
    builder: BatchBuilder,
    sequence: u64,
}

impl<R: Read> Batches<R> {
    /// From the start of the input that `splitter` is at.
    pub fn new(splitter: Splitter<R>, rule: BatchRule) -> Self {
        assert!(rule.max_bytes > 0 && rule.max_records > 0, "a batch has room for a record");
        Self { splitter, rule, builder: BatchBuilder::default(), sequence: 0 }
    }

    /// The next batch; `None` at the end of the input.
    ///
    /// # Errors
    /// [`InputError`]; records read before it and not yet returned are lost with it, which is why a
    /// caller that wants them all asks again from the start (and is answered as deduplicated).
    pub fn next_batch(&mut self) -> Result<Option<InputBatch>, InputError> {
        let first_record = self.splitter.records();
        let mut counted = 0;
        while self.builder.record_count() < self.rule.max_records {
            if self.rule.eager && !self.builder.is_empty() && !self.splitter.has_buffered() {
                break;
            }
            let Some(record) = self.splitter.peek()? else { break };
            counted += record.len() + RECORD_OVERHEAD_BYTES;
            if !self.builder.is_empty() && counted > self.rule.max_bytes {
                break;
            }
            let (key, value) = split_key(record, self.rule.key_separator.as_deref());
            let record = Record {
                key: key.map(Bytes::copy_from_slice),
                ..Record::new(Bytes::copy_from_slice(value))
            };
            let number = self.splitter.records() + 1;
            self.builder.push(record).map_err(|why| InputError::Record { number, why })?;
            self.splitter.advance();
        }
        if self.builder.is_empty() {
            return Ok(None);
        }
        let batch = std::mem::take(&mut self.builder).build();
        let batch = batch.expect("a builder that holds a record builds");
        let sequence = self.sequence;
        self.sequence += 1;
        Ok(Some(InputBatch {
            sequence,
            first_record,
            records: batch.record_count(),
            input_end: self.splitter.consumed_bytes(),
            batch,
        }))
    }
}

/// Key and value of a record. Without the separator in it, a record has no key.
fn split_key<'a>(record: &'a [u8], separator: Option<&[u8]>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator else { return (None, record) };
    match memchr::memmem::find(record, separator) {
        Some(at) => (Some(&record[..at]), &record[at + separator.len()..]),
        None => (None, record),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use quorate_proto::v1::RecordBatch;

    use super::*;
    use crate::input::split::{Framing, tests::Pieces};

    fn rule(max_bytes: usize, max_records: u32) -> BatchRule {
        BatchRule { max_bytes, max_records, key_separator: None, eager: false }
    }

    fn batches(input: impl Read, rule: &BatchRule) -> Vec<InputBatch> {
        let mut source = Batches::new(Splitter::new(input, Framing::Lines), rule.clone());
        let mut all = Vec::new();
        while let Some(batch) = source.next_batch().unwrap() {
            all.push(batch);
        }
        all
    }

    fn values(batches: &[InputBatch]) -> Vec<Vec<u8>> {
        let decoded = batches.iter().map(|b| RecordBatch::decode(b.batch.bytes().clone()).unwrap());
        decoded.flat_map(|b| b.records).map(|r| r.value.to_vec()).collect()
    }

    /// The boundaries are part of the interface: a run of an older version must be resumable by a
    /// newer one. If this fails, the rule has changed; don't change the numbers.
    #[test]
    fn the_rule_stands_still() {
        let lines: String = (0..50u32).map(|i| "x".repeat((i as usize * 7) % 40) + "\n").collect();
        let sizes: Vec<u32> =
            batches(lines.as_bytes(), &rule(200, 8)).iter().map(|b| b.records).collect();
        assert_eq!(sizes, [5, 5, 5, 5, 5, 5, 5, 6, 5, 4]);
        let crcs = batches(lines.as_bytes(), &rule(200, 8))
            .iter()
            .fold(0, |crc, b| crc32c::crc32c_append(crc, b.batch.bytes()));
        assert_eq!(crcs, 0xa196f356);
    }

    #[test]
    fn a_large_record_is_a_batch_of_its_own() {
        let input = format!("a\n{}\nb\n", "y".repeat(100));
        let sizes: Vec<u32> =
            batches(input.as_bytes(), &rule(64, 8)).iter().map(|b| b.records).collect();
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn a_record_the_log_would_not_take() {
        let input = format!("a\n{}\n", "y".repeat(quorate_client::MAX_RECORD_BYTES + 1));
        let splitter = Splitter::new(input.as_bytes(), Framing::Lines);
        let mut source = Batches::new(splitter, rule(64, 8));
        assert_eq!(source.next_batch().unwrap().unwrap().records, 1);
        let error = source.next_batch().unwrap_err().to_string();
        assert!(error.starts_with("record 2 of the input: "), "{error}");
    }

    #[test]
    fn keys() {
        type Row<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);
        let table: [Row; 4] = [
            (b"k=v=w", Some(b"k"), b"v=w"),
            (b"=v", Some(b""), b"v"),
            (b"k=", Some(b"k"), b""),
            (b"none", None, b"none"),
        ];
        for (record, key, value) in table {
            assert_eq!(split_key(record, Some(b"=")), (key, value));
        }
        assert_eq!(split_key(b"a=b", None), (None, &b"a=b"[..]));
        assert_eq!(split_key(b"a::b", Some(b"::")), (Some(&b"a"[..]), &b"b"[..]));
    }

    /// A pipe that has two lines now, and would block after them.
    #[test]
    fn eager_does_not_wait_for_a_full_batch() {
        struct Pipe(Vec<&'static [u8]>);
        impl Read for Pipe {
            fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
                assert!(!self.0.is_empty(), "would block");
                let piece = self.0.remove(0);
                out[..piece.len()].copy_from_slice(piece);
                Ok(piece.len())
            }
        }
        let eager = BatchRule { eager: true, ..rule(1000, 100) };
        let mut source = Batches::new(Splitter::new(Pipe(vec![b"a\nb\nc"]), Framing::Lines), eager);
        let batch = source.next_batch().unwrap().unwrap();
        assert_eq!(values(&[batch]), [b"a", b"b"]);
    }

    proptest! {
        #[test]
        fn same_content_same_batches(
            input in proptest::collection::vec(prop_oneof![2 => Just(b'\n'), 5 => any::<u8>()], 0..600),
            cuts in proptest::collection::vec(1usize..40, 1..8),
            max_bytes in 1usize..300,
            max_records in 1u32..20,
        ) {
            let rule = rule(max_bytes, max_records);
            let whole = batches(&input[..], &rule);
            prop_assert_eq!(&whole, &batches(Pieces(&input, cuts, 0), &rule));

            // Nothing lost, repeated or reordered; numbered densely; within the bounds.
            let lines: Vec<Vec<u8>> = {
                let mut l: Vec<Vec<u8>> = input.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
                if l.last().is_some_and(Vec::is_empty) { l.pop(); }
                l
            };
            prop_assert_eq!(values(&whole), lines);
            let mut records = 0;
            for (i, b) in whole.iter().enumerate() {
                prop_assert_eq!(b.sequence, i as u64);
                prop_assert_eq!(b.first_record, records);
                prop_assert!(b.records >= 1 && b.records <= max_records);
                prop_assert_eq!(b.batch.crc32c(), crc32c::crc32c(b.batch.bytes()));
                records += u64::from(b.records);
            }
            prop_assert_eq!(whole.last().map_or(0, |b| b.input_end), input.len() as u64);
        }

        /// What a resumed run relies on: a longer input has the same full batches in front.
        #[test]
        fn appending_to_the_input_keeps_all_but_the_last_batch(
            input in proptest::collection::vec(prop_oneof![1 => Just(b'\n'), 5 => any::<u8>()], 0..400),
            more in proptest::collection::vec(prop_oneof![1 => Just(b'\n'), 5 => any::<u8>()], 0..200),
        ) {
            let rule = rule(60, 5);
            let short = batches(&input[..], &rule);
            let long = batches(&[&input[..], &more[..]].concat()[..], &rule);
            let kept = short.len().saturating_sub(1);
            prop_assert_eq!(&short[..kept], &long[..kept]);
        }
    }
}
