//! Nothing that reads bytes panics, and an entry that can't be decoded is an outcome, the same
//! wherever it stands in an apply batch.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::Index};
use quorate_state_machine::{
    apply::{ApplyItem, commit},
    batch::{RecordRef, encode, records},
    dedupe::{Head, Remembered, decode_chunk},
    entry::{EntryView, PartHeader},
    keys::{self, BatchKey},
    memory::Memory,
    outcome::{Outcome, Refused},
    types::{
        Batch, Digest, Incarnation, LogIndex, LogName, LogPoint, Offset, ReadLevel, TimestampMs,
        WriterEpoch,
    },
    values::{DigestMark, GroupMeta, LogMeta, MarkedLog},
    view::{Write, Writes},
};

use super::stream::{Resolver, entries};

/// One damage to bytes.
#[derive(Clone, Debug)]
pub enum Hit {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Drop(Index),
    Insert(Index, u8),
    /// Everything from the first place to the end is copied to the second.
    Splice(Index, Index),
}

pub fn hit() -> impl Strategy<Value = Hit> {
    let at = any::<Index>;
    // The bytes at which lengths, flags and options turn.
    let byte = prop_oneof![
        any::<u8>(),
        proptest::sample::select(&[0_u8, 1, 2, 0x0a, 0x12, 0x1a, 0x7f, 0x80, 0xff][..]),
    ];
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Hit::Flip(at, bit)),
        4 => (at(), byte.clone()).prop_map(|(at, byte)| Hit::Set(at, byte)),
        1 => at().prop_map(Hit::Cut),
        1 => at().prop_map(Hit::Drop),
        1 => (at(), byte).prop_map(|(at, byte)| Hit::Insert(at, byte)),
        1 => (at(), at()).prop_map(|(from, to)| Hit::Splice(from, to)),
    ]
}

pub fn damaged(bytes: &[u8], hits: &[Hit]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for hit in hits {
        let place = |at: &Index| at.index(bytes.len().max(1)).min(bytes.len());
        match hit {
            Hit::Insert(at, byte) => {
                let at = place(at);
                bytes.insert(at, *byte);
            }
            _ if bytes.is_empty() => {}
            Hit::Flip(at, bit) => {
                let at = place(at);
                bytes[at] ^= 1 << bit;
            }
            Hit::Set(at, byte) => {
                let at = place(at);
                bytes[at] = *byte;
            }
            Hit::Cut(at) => bytes.truncate(place(at)),
            Hit::Drop(at) => {
                let at = place(at);
                bytes.remove(at);
            }
            Hit::Splice(from, to) => {
                let (tail, to) = (bytes[place(from)..].to_vec(), place(to));
                bytes.splice(to.., tail);
            }
        }
    }
    bytes
}

fn hits() -> impl Strategy<Value = Vec<Hit>> {
    vec(hit(), 1..4)
}

fn valid_batch() -> impl Strategy<Value = Bytes> {
    let text = || vec(any::<u8>(), 0..20);
    let record = (text(), proptest::option::of(text()), vec(("[a-zä]{0,5}", text()), 0..3));
    vec(record, 1..5).prop_map(|records| {
        encode(records.iter().map(|(value, key, headers)| RecordRef {
            value,
            key: key.as_deref(),
            headers: headers.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect(),
        }))
    })
}

/// Everything that can be read from a batch.
fn read_batch(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut walked = 0;
    for record in records(&bytes) {
        let Ok(record) = record else { break };
        walked += 1;
        let _ = (record.value, record.key, record.headers().count());
    }
    match Batch::validate(bytes.clone(), None) {
        Ok(batch) => {
            assert_eq!(batch.count, walked);
            assert!(Batch::validate(bytes, Some(batch.crc32c ^ 1)).is_err(), "a wrong checksum");
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

/// Everything that can be read from an entry.
fn read_entry(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    match EntryView::parse(&bytes) {
        Ok(entry) => {
            assert_eq!(entry.commands().count(), entry.len());
            for command in entry.commands().flatten() {
                let _ = command.to_command();
            }
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

/// Every decoder of stored keys and values. What one accepts, it can write and read again.
fn read_stored(bytes: &[u8]) {
    if let Ok(group) = GroupMeta::decode(bytes) {
        assert_eq!(GroupMeta::decode(&group.encode()), Ok(group));
    }
    if let Ok(log) = LogMeta::decode(bytes) {
        assert_eq!(LogMeta::decode(&log.encode()), Ok(log.clone()));
        let _ = log.describe(LogName::new("a").expect("a valid name"));
    }
    if let Ok(mark) = DigestMark::decode(bytes) {
        assert_eq!(DigestMark::decode(&mark.encode()), Ok(mark));
    }
    if let Ok(head) = Head::decode(bytes) {
        assert_eq!(Head::decode(&head.encode()), Ok(head));
    }
    let _ = decode_chunk(bytes);
    if let Ok((header, at)) = PartHeader::parse(bytes) {
        assert_eq!(header.encoded_len(), at);
    }
    if let Ok(key) = BatchKey::parse(bytes) {
        assert_eq!(&key.key()[..], bytes);
    }
    if let Ok((incarnation, bucket, id)) = keys::parse_expiry(bytes) {
        assert_eq!(&keys::expiry(incarnation, bucket, id)[..], bytes);
    }
    if let Ok(name) = keys::parse_log(bytes) {
        assert_eq!(&keys::log(name)[..], bytes);
    }
}

/// One of each stored thing.
fn stored() -> Vec<Vec<u8>> {
    let mut head = Head { bucket: 500_000, ..Head::default() };
    let mut chunk = Vec::new();
    for n in 0..25 {
        let append = Remembered {
            first_offset: Offset(n * 3),
            count: 3,
            timestamp: TimestampMs(1_700_000_000_000 + n),
            crc32c: n as u32,
        };
        chunk = head.push(append).map_or(chunk, |(_, chunk)| chunk);
    }
    let name = LogName::new("some/log").expect("a valid name");
    let mark = MarkedLog {
        name,
        incarnation: Incarnation(1 << 20),
        start_offset: Offset(3),
        next_offset: Offset(300),
        digest: Digest([3; 16]),
    };
    let group = GroupMeta {
        applied: Some(LogPoint::default()),
        digest: Digest([1; 16]),
        log_time: TimestampMs(1 << 41),
        epoch_floor: 1 << 62,
        logs: 3,
        marks: vec![LogIndex(1), LogIndex(1 << 40)],
    };
    let log = LogMeta {
        incarnation: Incarnation(1 << 20),
        start_offset: Offset(3),
        next_offset: Offset(300),
        writer_epoch: Some(WriterEpoch(7)),
        created: TimestampMs(1 << 41),
        last_timestamp: TimestampMs(1 << 41),
        total_bytes: 5000,
        trimmed_bytes: 50,
        producers: 1,
        digest: Digest([2; 16]),
        read_level: Some(ReadLevel::Bounded { max_staleness_ms: 300 }),
    };
    let mut rows = vec![
        group.encode(),
        log.encode(),
        DigestMark { digest: Digest([4; 16]), logs: vec![mark.clone(), mark] }.encode(),
        head.encode(),
        chunk,
        keys::expiry(Incarnation(1), 2, quorate_state_machine::types::ProducerId([7; 16])).to_vec(),
        keys::log("some/log").to_vec(),
    ];
    // Parts, as the state machine stores them, and their keys.
    let mut memory = Memory::new();
    memory.apply(&some_history()).expect("sound state");
    let batches = memory.rows().filter(|(key, _)| key[0] == keys::BATCH);
    batches.take(20).for_each(|(key, row)| rows.extend([key.to_vec(), row.to_vec()]));
    assert!(rows.len() > 20, "the history appends");
    rows
}

/// The same entries each time: of some streams the one that leaves most behind.
fn some_history() -> Vec<ApplyItem> {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let histories = (0..100).map(|_| {
        let entries = entries(true).new_tree(&mut runner).expect("a stream").current();
        let resolved = Resolver::all(&entries);
        let items: Vec<_> = resolved.into_iter().map(|resolved| resolved.item).collect();
        let mut memory = Memory::new();
        memory.apply(&items).expect("sound state");
        let tables: BTreeSet<u8> = memory.rows().map(|(key, _)| key[0]).collect();
        (tables.len(), memory.rows().count(), items)
    });
    let (tables, _, items) =
        histories.max_by_key(|(tables, rows, _)| (*tables, *rows)).expect("there are some");
    assert_eq!(tables, 10, "there is a row of every table to damage");
    items
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_bytes_may_be_read(bytes in vec(any::<u8>(), 0..120)) {
        read_batch(&bytes);
        read_entry(&bytes);
        read_stored(&bytes);
    }

    #[test]
    fn damaged_batches_may_be_read(batch in valid_batch(), hits in hits()) {
        read_batch(&batch);
        prop_assert!(Batch::validate(batch.clone(), Some(crc32c::crc32c(&batch))).is_ok());
        read_batch(&damaged(&batch, &hits));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_stored_things_may_be_read(hits in vec(hits(), 100)) {
        thread_local!(static STORED: Vec<Vec<u8>> = stored());
        STORED.with(|stored| {
            for (bytes, hits) in stored.iter().zip(&hits) {
                let damaged = damaged(bytes, hits);
                read_stored(&damaged);
                // A part says itself when its header is not what was written.
                if let (Ok((header, at)), Ok((other, other_at))) =
                    (PartHeader::parse(bytes), PartHeader::parse(&damaged))
                    && bytes.get(..at) != damaged.get(..other_at)
                {
                    panic!("{header:?} passes as {other:?}");
                }
            }
        });
    }

    /// Apply never stops for what is in an entry, and how entries are cut makes no difference.
    #[test]
    fn damaged_entries_have_outcomes(
        entries in entries(true),
        hits in vec((any::<Index>(), hits()), 1..6),
        cuts in vec(any::<bool>(), 40),
    ) {
        let mut items: Vec<_> =
            Resolver::all(&entries).into_iter().map(|resolved| resolved.item).collect();
        for (at, hits) in &hits {
            let item = at.get(&items).clone();
            let at = at.index(items.len());
            items[at].payload = item.payload.map(|payload| damaged(&payload, hits).into());
        }
        for item in &items {
            item.payload.iter().for_each(|payload| read_entry(payload));
        }
        let (mut one_by_one, mut in_batches) = (Memory::new(), Memory::new());
        let mut outcomes = Vec::new();
        for item in &items {
            let one = one_by_one.apply(std::slice::from_ref(item));
            outcomes.extend(one.expect("an entry's bytes never stop apply"));
            one_by_one.reader().expect("sound state");
        }
        let mut from = 0;
        for to in 1..=items.len() {
            if to == items.len() || cuts[to - 1] {
                let some = in_batches.apply(&items[from..to]).expect("never stops apply");
                prop_assert_eq!(&some[..], &outcomes[from..to]);
                from = to;
            }
        }
        prop_assert!(one_by_one == in_batches, "other rows");
        for (item, outcomes) in items.iter().zip(&outcomes) {
            check_undecodable(item, outcomes)?;
        }
    }

    /// Whatever single row is damaged: apply and the readers answer or say that something is wrong.
    #[test]
    fn damaged_rows_stop_apply_without_panic(
        row in any::<Index>(),
        hits in hits(),
        in_key in proptest::bool::weighted(0.2),
        from in any::<Index>(),
    ) {
        let items: Vec<_> = some_history_once();
        let from = 1 + from.index(items.len() - 1);
        let mut memory = Memory::new();
        memory.apply(&items[..from]).expect("sound state");
        let rows: Vec<_> =
            memory.rows().map(|(key, value)| (key.to_vec(), value.clone())).collect();
        let (key, value) = row.get(&rows);
        let mut writes = Writes::default();
        if in_key {
            writes.0.push(Write::Delete(keys::Key::from_slice(key)));
            writes.0.push(Write::Put(keys::Key::from_slice(&damaged(key, &hits)), value.clone()));
        } else {
            let value = damaged(value, &hits).into();
            writes.0.push(Write::Put(keys::Key::from_slice(key), value));
        }
        memory.write(writes);
        for item in &items[from..] {
            let before = memory.clone();
            match commit(&memory, std::slice::from_ref(item)) {
                Ok((writes, _)) => memory.write(writes),
                Err(why) => {
                    prop_assert!(!why.to_string().is_empty());
                    prop_assert!(memory == before, "nothing is written");
                    break;
                }
            }
        }
        read_everything(&memory);
    }
}

fn some_history_once() -> Vec<ApplyItem> {
    thread_local!(static ITEMS: Vec<ApplyItem> = some_history());
    ITEMS.with(Clone::clone)
}

/// Undecodable commands are refused as such, and nothing else is.
fn check_undecodable(item: &ApplyItem, outcomes: &[Outcome]) -> Result<(), TestCaseError> {
    let refused = |outcome: &Outcome| matches!(outcome.result, Err(Refused::Undecodable(_)));
    match item.payload.as_ref().map(EntryView::parse) {
        None => prop_assert!(outcomes.is_empty()),
        Some(Err(_)) => {
            prop_assert_eq!(outcomes.len(), 1);
            prop_assert!(refused(&outcomes[0]));
        }
        Some(Ok(entry)) => {
            prop_assert_eq!(outcomes.len(), entry.len());
            for (command, outcome) in entry.commands().zip(outcomes) {
                prop_assert_eq!(command.is_err(), refused(outcome));
            }
        }
    }
    Ok(())
}

fn read_everything(memory: &Memory) {
    let Ok(reader) = memory.reader() else { return };
    for index in 0..50 {
        let _ = (reader.term_at(LogIndex(index)), reader.digest_mark(LogIndex(index)));
    }
    let _ = reader.list("a", None, 10);
    for log in reader.list("", None, 10).unwrap_or_default() {
        let (from, to) = (log.start_offset, log.next_offset);
        let _ = reader.batches(log.incarnation, from, to, usize::MAX);
        let _ = reader.checksums(log.incarnation, from, to, usize::MAX);
        for time in [0, log.last_timestamp.0, u64::MAX] {
            let _ = reader.offset_for_timestamp(&log, TimestampMs(time));
        }
    }
}
