//! A command comes out of an entry as it went in, and batches are not copied on the way.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use quorate_state_machine::{
    batch::{RecordRef, encode},
    command::{AppendPart, Command},
    entry::{
        CommandView, ENTRY_OVERHEAD, EntryBuilder, EntryError, EntryView, MAX_PART_HEADER_BYTES,
        MAX_PART_OVERHEAD, PartHeader,
    },
    limits::{MAX_ENTRY_COMMANDS, MAX_LOG_NAME_BYTES},
    types::{
        Batch, Incarnation, LogName, Offset, ProducerId, ReadLevel, Sequence, TimestampMs,
        WriterEpoch,
    },
};

fn name() -> impl Strategy<Value = LogName> {
    "[A-Za-z0-9._/:@{}-]{1,12}".prop_map(|name| LogName::new(&name).expect("a valid name"))
}

fn part() -> impl Strategy<Value = AppendPart> {
    (
        name(),
        option::of(any::<u64>()),
        option::of(any::<u64>()),
        option::of((any::<[u8; 16]>(), any::<u64>())),
        option::of(any::<u64>()),
        vec(vec(any::<u8>(), 0..20), 1..4),
    )
        .prop_map(|(log, offset, epoch, producer, incarnation, values)| AppendPart {
            log,
            expected_offset: offset.map(Offset),
            writer_epoch: epoch.map(WriterEpoch),
            producer: producer.map(|(id, n)| (ProducerId(id), Sequence(n))),
            incarnation: incarnation.map(Incarnation),
            batch: batch(&values),
        })
}

fn batch(values: &[Vec<u8>]) -> Batch {
    let records = values.iter().map(|value| RecordRef { value, ..RecordRef::default() });
    Batch::validate(encode(records), None).expect("a valid batch")
}

fn read_level() -> impl Strategy<Value = Option<ReadLevel>> {
    option::of(prop_oneof![
        Just(ReadLevel::Linearizable),
        any::<u64>().prop_map(|max_staleness_ms| ReadLevel::Bounded { max_staleness_ms }),
        Just(ReadLevel::Eventual),
    ])
}

fn command() -> impl Strategy<Value = Command> {
    let incarnation = || option::of(any::<u64>().prop_map(Incarnation));
    prop_oneof![
        3 => vec(part(), 1..5).prop_map(Command::Append),
        1 => (name(), any::<bool>(), read_level()).prop_map(|(name, if_absent, read_level)| {
            Command::CreateLog { name, if_absent, read_level }
        }),
        1 => (name(), read_level(), incarnation()).prop_map(|(name, read_level, incarnation)| {
            Command::SetReadLevel { name, read_level, incarnation }
        }),
        1 => (name(), incarnation())
            .prop_map(|(name, incarnation)| Command::DeleteLog { name, incarnation }),
        1 => (name(), any::<u64>(), incarnation()).prop_map(|(name, before, incarnation)| {
            Command::TrimLog { name, before: Offset(before), incarnation }
        }),
        1 => (name(), option::of(any::<u64>()), incarnation()).prop_map(
            |(name, min, incarnation)| Command::Fence {
                name,
                min_epoch: min.map(WriterEpoch),
                incarnation,
            }
        ),
        1 => Just(Command::MarkDigest),
    ]
}

fn pack(timestamp: u64, commands: &[Command]) -> Bytes {
    let mut builder = EntryBuilder::new();
    commands.iter().for_each(|command| builder.push(command));
    builder.finish(TimestampMs(timestamp))
}

fn inside(outer: &[u8], inner: &[u8]) -> bool {
    outer.as_ptr_range().start <= inner.as_ptr_range().start
        && inner.as_ptr_range().end <= outer.as_ptr_range().end
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn commands_come_out_as_they_went_in(
        timestamp in any::<u64>(),
        commands in vec(command(), 0..8),
    ) {
        let mut builder = EntryBuilder::new();
        for (n, command) in commands.iter().enumerate() {
            let before = builder.len();
            builder.push(command);
            prop_assert_eq!(builder.len() - before, command.encoded_len());
            prop_assert_eq!(builder.commands(), n + 1);
        }
        let length = builder.len();
        let entry = builder.finish(TimestampMs(timestamp));
        prop_assert_eq!(entry.len(), length);
        let view = EntryView::parse(&entry).expect("just written");
        prop_assert_eq!(view.timestamp(), TimestampMs(timestamp));
        prop_assert_eq!(view.len(), commands.len());
        let read: Vec<_> = view.commands().map(|c| c.expect("just written").to_command()).collect();
        prop_assert_eq!(&read, &commands);
        for command in &read {
            let Command::Append(parts) = command else { continue };
            prop_assert!(parts.iter().all(|part| inside(&entry, &part.batch.bytes)), "no copy");
        }
    }

    /// What is stored is the part as it is in the entry, and says everything about itself.
    #[test]
    fn a_part_is_stored_as_it_came(parts in vec(part(), 1..5)) {
        let entry = pack(1, &[Command::Append(parts.clone())]);
        let view = EntryView::parse(&entry).expect("just written");
        let Some(Ok(CommandView::Append(views))) = view.commands().next() else {
            panic!("an append was written");
        };
        prop_assert_eq!(views.len(), parts.len());
        for (view, part) in views.iter().zip(&parts) {
            prop_assert!(inside(&entry, &view.stored), "no copy");
            let (header, at) = PartHeader::parse(&view.stored).expect("just written");
            prop_assert_eq!(header, view.header);
            prop_assert_eq!(at, header.encoded_len());
            prop_assert!(at <= MAX_PART_HEADER_BYTES);
            prop_assert_eq!(header.expected_offset, part.expected_offset);
            prop_assert_eq!(header.writer_epoch, part.writer_epoch);
            prop_assert_eq!(header.producer, part.producer);
            prop_assert_eq!(header.incarnation, part.incarnation);
            prop_assert_eq!((header.count, header.crc32c), (part.batch.count, part.batch.crc32c));
            prop_assert_eq!(&view.stored[at..], &part.batch.bytes[..]);
            prop_assert_eq!(view.batch(), part.batch.bytes.clone());
            prop_assert_eq!(view.batch_len(), part.batch.bytes.len());
        }
    }

    /// An entry that was cut short, or that goes on behind its end, is none.
    #[test]
    fn a_cut_or_lengthened_entry_is_damaged(commands in vec(command(), 1..4), more in any::<u8>()) {
        let entry = pack(7, &commands);
        for length in 0..entry.len() {
            prop_assert!(EntryView::parse(&entry.slice(..length)).is_err(), "{length} bytes");
        }
        let longer = Bytes::from([&entry[..], &[more]].concat());
        prop_assert!(EntryView::parse(&longer).is_err());
    }
}

#[test]
fn the_largest_overheads_are_as_stated() {
    let part = AppendPart {
        log: LogName::new(&"n".repeat(MAX_LOG_NAME_BYTES)).expect("the longest name"),
        expected_offset: Some(Offset(u64::MAX)),
        writer_epoch: Some(WriterEpoch(u64::MAX)),
        producer: Some((ProducerId([0xff; 16]), Sequence(u64::MAX))),
        incarnation: Some(Incarnation(u64::MAX)),
        batch: batch(&[b"x".to_vec()]),
    };
    let bytes = part.batch.bytes.len();
    for parts in [1, 2, 64] {
        let entry = pack(0, &[Command::Append(vec![part.clone(); parts])]);
        assert_eq!(entry.len(), ENTRY_OVERHEAD + parts * (MAX_PART_OVERHEAD + bytes));
        let view = EntryView::parse(&entry).expect("just written");
        let read = view.commands().next().expect("one command").expect("just written");
        assert_eq!(read.to_command(), Command::Append(vec![part.clone(); parts]));
    }
}

#[test]
fn an_entry_of_another_version_says_which() {
    let mut entry = pack(0, &[Command::MarkDigest]).to_vec();
    entry[0] = 2;
    assert_eq!(EntryView::parse(&entry.into()).unwrap_err(), EntryError::Version(2));
}

#[test]
fn an_entry_holds_as_many_commands_as_it_can_count() {
    let commands = vec![Command::MarkDigest; MAX_ENTRY_COMMANDS];
    let entry = pack(0, &commands);
    let view = EntryView::parse(&entry).expect("just written");
    assert_eq!(view.len(), MAX_ENTRY_COMMANDS);
    assert!(view.commands().all(|command| command == Ok(CommandView::MarkDigest)));
}

#[test]
#[should_panic(expected = "an entry has room for 65,535 commands")]
fn one_command_more_is_a_mistake_of_the_caller() {
    pack(0, &vec![Command::MarkDigest; MAX_ENTRY_COMMANDS + 1]);
}

#[test]
#[should_panic(expected = "an append has 1 to 255 parts")]
fn an_append_without_parts_is_a_mistake_of_the_caller() {
    pack(0, &[Command::Append(Vec::new())]);
}
