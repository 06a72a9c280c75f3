use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

fn record() -> impl Strategy<Value = Record> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let header = ("\\PC{0,8}", bytes());
    (bytes(), prop::option::of(bytes()), prop::collection::vec(header, 0..4))
        .prop_map(|(value, key, headers)| Record { value, key, headers })
}

proptest! {
    /// What we write is what the generated code writes, and reads.
    #[test]
    fn same_bytes_as_prost(records in prop::collection::vec(record(), 1..20)) {
        let batch = Batch::of(records.clone()).unwrap();
        let message = wire::RecordBatch {
            records: records.iter().cloned().map(Record::into_wire).collect(),
        };
        prop_assert_eq!(batch.bytes(), &Bytes::from(message.encode_to_vec()));
        prop_assert_eq!(batch.crc32c(), crc32c::crc32c(batch.bytes()));
        prop_assert_eq!(batch.record_count() as usize, records.len());
        let back: Result<Vec<_>> = Records::of(batch.bytes().clone()).collect();
        prop_assert_eq!(back.unwrap(), records);
    }

    /// Batches laid end to end are the batch of all their records.
    #[test]
    fn concatenation(a in prop::collection::vec(record(), 1..5), b in prop::collection::vec(record(), 1..5)) {
        let joined = Batch::concat(&[Batch::of(a.clone()).unwrap(), Batch::of(b.clone()).unwrap()]);
        prop_assert_eq!(joined, Batch::of(a.into_iter().chain(b)).unwrap());
    }

    /// Whatever the bytes are: an end, never a panic, and after an error nothing more.
    #[test]
    fn damaged_batches_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut records = Records::of(bytes.into());
        while let Some(record) = records.next() {
            if record.is_err() {
                prop_assert!(records.next().is_none());
            }
        }
    }

    #[test]
    fn cut_batches_are_noticed(records in prop::collection::vec(record(), 1..5), at in any::<prop::sample::Index>()) {
        let batch = Batch::of(records.clone()).unwrap();
        let cut = at.index(batch.bytes().len());
        let back: Vec<_> = Records::of(batch.bytes().slice(..cut)).collect();
        let whole = back.iter().filter(|r| r.is_ok()).count();
        prop_assert!(whole < records.len());
        for (read, written) in back.iter().flatten().zip(&records) {
            prop_assert_eq!(read, written);
        }
    }
}

#[test]
fn limits_are_named() {
    let big = |n: usize| Bytes::from(vec![0; n]);
    let headers = |n: usize, size: usize| {
        (0..n).fold(Record::default(), |r, _| r.with_header("k", big(size)))
    };
    let table: [(&str, Record, Option<&str>); 8] = [
        ("largest value", Record::new(big(MAX_RECORD_BYTES)), None),
        ("value", Record::new(big(MAX_RECORD_BYTES + 1)), Some("MAX_RECORD_BYTES")),
        ("sum", Record::new(big(MAX_RECORD_BYTES)).with_key("k"), Some("MAX_RECORD_BYTES")),
        ("largest key", Record::default().with_key(big(MAX_KEY_BYTES)), None),
        ("key", Record::default().with_key(big(MAX_KEY_BYTES + 1)), Some("MAX_KEY_BYTES")),
        ("most headers", headers(MAX_HEADERS, 1), None),
        ("headers", headers(MAX_HEADERS + 1, 1), Some("MAX_HEADERS")),
        ("header bytes", headers(2, MAX_HEADER_BYTES / 2), Some("MAX_HEADER_BYTES")),
    ];
    for (what, record, limit) in table {
        let mut builder = BatchBuilder::new();
        let named = builder.push(record).err().map(|e| {
            assert_eq!(e.kind(), ErrorKind::Invalid);
            e.limit().unwrap().0.to_owned()
        });
        assert_eq!(named.as_deref(), limit, "{what}");
        assert_eq!(builder.is_empty(), limit.is_some(), "{what}");
    }
    let many = std::iter::repeat_n("", MAX_BATCH_RECORDS + 1);
    assert_eq!(Batch::of(many).unwrap_err().limit().unwrap().0, "MAX_BATCH_RECORDS");
    let mb = Record::new(big(MAX_RECORD_BYTES));
    let error = Batch::of(std::iter::repeat_n(mb, 4)).unwrap_err();
    assert_eq!(error.limit().unwrap().0, "MAX_BATCH_BYTES");
    assert_eq!(Batch::of([] as [Record; 0]).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn values_are_slices_of_the_batch() {
    let batch = Batch::of([Record::new(vec![7_u8; 1000]).with_key("k")]).unwrap();
    let record = Records::of(batch.bytes().clone()).next().unwrap().unwrap();
    let whole = batch.bytes().as_ptr_range();
    assert!(whole.contains(&record.value.as_ptr()));
    assert!(whole.contains(&record.key.unwrap().as_ptr()));
}
