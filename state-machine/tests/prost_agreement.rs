//! The hand-written reader and writer of batches speak the dialect that protobuf libraries speak:
//! prost encodes what `batch::encode` encodes, byte for byte; what validation accepts, prost
//! decodes, to the same records.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::Index};
use prost::Message;
use quorate_state_machine::{
    batch::{self, BatchError, RecordRef, RecordView},
    limits::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_HEADERS, MAX_KEY_BYTES, MAX_RECORD_BYTES},
    types::Batch,
};

// As in proto/quorate/v1; written down again, because this crate does not know the wire protocol.

#[derive(Clone, PartialEq, Message)]
struct RecordBatch {
    #[prost(message, repeated, tag = "1")]
    records: Vec<Record>,
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(bytes = "vec", tag = "1")]
    value: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "2")]
    key: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    headers: Vec<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Mostly short, sometimes around the lengths at which a length prefix grows.
fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..12),
        1 => vec(any::<u8>(), 120..135),
        1 => (16_380..16_390_usize, any::<u8>()).prop_map(|(n, byte)| vec![byte; n]),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let key = prop_oneof![4 => ".{0,6}", 1 => "[a-z]{125,130}"];
    let header = (key, content()).prop_map(|(key, value)| Header { key, value });
    (content(), option::of(content()), vec(header, 0..4)).prop_map(|(value, key, headers)| Record {
        value,
        key,
        headers,
    })
}

fn record_batch() -> impl Strategy<Value = RecordBatch> {
    vec(record(), 1..6).prop_map(|records| RecordBatch { records })
}

fn reference(record: &Record) -> RecordRef<'_> {
    RecordRef {
        value: &record.value,
        key: record.key.as_deref(),
        headers: record.headers.iter().map(|h| (h.key.as_str(), &h.value[..])).collect(),
    }
}

fn owned(view: RecordView<'_>) -> Record {
    Record {
        value: view.value.to_vec(),
        key: view.key.map(<[u8]>::to_vec),
        headers: view
            .headers()
            .map(|(key, value)| Header { key: key.to_owned(), value: value.to_vec() })
            .collect(),
    }
}

fn records(bytes: &[u8]) -> Result<Vec<Record>, BatchError> {
    batch::records(bytes).map(|record| record.map(owned)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn both_write_the_same_bytes_and_read_the_same_records(message in record_batch()) {
        let theirs = Bytes::from(message.encode_to_vec());
        let ours = batch::encode(message.records.iter().map(reference));
        prop_assert_eq!(&ours, &theirs);
        let validated = Batch::validate(theirs.clone(), Some(crc32c::crc32c(&theirs)));
        let validated = validated.expect("within all limits");
        prop_assert_eq!(validated.count as usize, message.records.len());
        prop_assert_eq!(validated.bytes.as_ptr(), theirs.as_ptr(), "nothing is copied");
        prop_assert_eq!(records(&ours), Ok(message.records));
    }

    /// The other direction does not hold on purpose: protobuf libraries skip what they don't know.
    #[test]
    fn what_is_accepted_means_the_same_to_prost(
        message in record_batch(),
        hits in vec((any::<Index>(), any::<u8>(), 0..3), 0..4),
    ) {
        let mut bytes = message.encode_to_vec();
        for (at, byte, how) in hits {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        agree(&bytes)?;
    }

    /// Made of the bytes that matter, so that many are nearly right.
    #[test]
    fn small_messages_mean_the_same_to_prost(
        bytes in vec(proptest::sample::select(&[0_u8, 1, 2, 3, 4, 0x0a, 0x12, 0x1a, 0x22, 0x80][..]), 0..14)
    ) {
        agree(&bytes)?;
    }
}

fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(batch) = Batch::validate(Bytes::copy_from_slice(bytes), None) {
        let theirs = RecordBatch::decode(bytes);
        prop_assert!(theirs.is_ok(), "{theirs:?}");
        let theirs = theirs.expect("asserted").records;
        prop_assert_eq!(batch.count as usize, theirs.len());
        prop_assert_eq!(records(bytes), Ok(theirs));
    }
    Ok(())
}

/// Why a message is not accepted, although prost would.
fn refusal(bytes: &[u8]) -> String {
    RecordBatch::decode(bytes).expect("prost accepts it");
    Batch::validate(Bytes::copy_from_slice(bytes), None).expect_err("not accepted").to_string()
}

#[test]
fn what_protobuf_skips_or_merges_is_refused() {
    for (bytes, why) in [
        (&b""[..], "an empty batch"),
        (b"\x12\x00", "an unknown field of RecordBatch at byte 0"),
        (b"\x0a\x00\x10\x01", "an unknown field at byte 2"),
        (b"\x0a\x02\x22\x00", "an unknown field of Record at byte 2"),
        (b"\x0a\x04\x0a\x00\x0a\x00", "a duplicate field of Record at byte 4"),
        (b"\x0a\x04\x12\x00\x12\x00", "a duplicate field of Record at byte 4"),
        (b"\x0a\x04\x1a\x02\x1a\x00", "an unknown field of Header at byte 4"),
        (b"\x0a\x06\x1a\x04\x0a\x00\x0a\x00", "a duplicate field of Header at byte 6"),
        (b"\x0a\x80\x80\x80\x80\x80\x00", "an unfinished or oversized length at byte 1"),
        (b"\x0a\x06\x1a\x04\x12\x00\x12\x00", "a duplicate field of Header at byte 6"),
    ] {
        let refusal = refusal(bytes);
        assert!(refusal.ends_with(why), "{bytes:?}: {refusal:?}");
    }
}

#[test]
fn what_is_no_protobuf_is_refused() {
    for (bytes, why) in [
        (&b"\x0a"[..], "an unfinished or oversized length at byte 1"),
        (b"\x0a\x01", "a length beyond the end at byte 0"),
        (b"\x0a\xff\xff\xff\xff\x7f", "a length beyond the end at byte 0"),
        (b"\x0a\x02\x0a\x01", "a length beyond the end at byte 2"),
        (b"\x0a\x05\x1a\x03\x0a\x01\xff", "a header key that is not UTF-8 at byte 4"),
    ] {
        assert!(bytes.len() < 2 || RecordBatch::decode(bytes).is_err());
        let refusal =
            Batch::validate(Bytes::copy_from_slice(bytes), None).expect_err("refused").to_string();
        assert!(refusal.ends_with(why), "{bytes:?}: {refusal:?}");
    }
}

#[test]
fn a_wrong_checksum_is_told_before_anything_else() {
    let bytes = Bytes::from_static(b"\xff\xff");
    let actual = crc32c::crc32c(&bytes);
    assert_eq!(Batch::validate(bytes, Some(7)), Err(BatchError::Checksum { expected: 7, actual }));
}

/// Which limit a batch exceeds.
fn limit(records: Vec<Record>) -> Option<&'static str> {
    let bytes = Bytes::from(RecordBatch { records }.encode_to_vec());
    match Batch::validate(bytes, None) {
        Ok(_) => None,
        Err(BatchError::Limit(exceeded)) => Some(exceeded.limit),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn limits_are_judged_at_their_edge() {
    let value = |n: usize| Record { value: vec![1; n], ..Record::default() };
    assert_eq!(limit(vec![value(MAX_RECORD_BYTES)]), None);
    assert_eq!(limit(vec![value(MAX_RECORD_BYTES + 1)]), Some("record_bytes"));
    let key = |n: usize| Record { key: Some(vec![1; n]), ..Record::default() };
    assert_eq!(limit(vec![key(MAX_KEY_BYTES)]), None);
    assert_eq!(limit(vec![key(MAX_KEY_BYTES + 1)]), Some("key_bytes"));
    let headers = |n: usize| Record { headers: vec![Header::default(); n], ..Record::default() };
    assert_eq!(limit(vec![headers(MAX_HEADERS)]), None);
    assert_eq!(limit(vec![headers(MAX_HEADERS + 1)]), Some("headers"));
    assert_eq!(limit(vec![value(0); MAX_BATCH_RECORDS]), None);
    assert_eq!(limit(vec![value(0); MAX_BATCH_RECORDS + 1]), Some("batch_records"));
    // Each record takes 8 bytes more than its value.
    let quarter = MAX_BATCH_BYTES / 4 - 8;
    assert_eq!(limit(vec![value(quarter); 4]), None);
    assert_eq!(
        limit([vec![value(quarter); 3], vec![value(quarter + 1)]].concat()),
        Some("batch_bytes")
    );
    let header = |n: usize| Header { key: "k".into(), value: vec![1; n - 1] };
    let record = |n| Record { headers: vec![header(1000), header(n)], ..Record::default() };
    assert_eq!(limit(vec![record(64 * 1024 - 1000)]), None);
    assert_eq!(limit(vec![record(64 * 1024 - 999)]), Some("header_bytes"));
}
