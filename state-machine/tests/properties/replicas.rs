//! Replicas that apply the same entries are the same, and one that applied anything else is found
//! by its digest.

use proptest::{prelude::*, sample::Index};
use quorate_state_machine::{
    apply::ApplyItem,
    command::Command,
    memory::Memory,
    outcome::Outcome,
    types::{Digest, Incarnation, LogName, Offset, ProducerId, ReadLevel, Sequence, WriterEpoch},
};

use super::stream::{Resolved, Resolver, entries, pack};

/// Applies `items`, cut into batches behind the positions where `cut` says so.
fn apply(items: &[ApplyItem], cut: impl Fn(usize) -> bool) -> (Memory, Vec<Vec<Outcome>>) {
    let mut memory = Memory::new();
    let mut outcomes = Vec::new();
    let mut from = 0;
    for to in 1..=items.len() {
        if to == items.len() || cut(to - 1) {
            outcomes.extend(memory.apply(&items[from..to]).expect("sound state"));
            from = to;
        }
    }
    (memory, outcomes)
}

fn digest(memory: &Memory) -> Digest {
    memory.reader().expect("sound state").digest()
}

fn items(resolved: &[Resolved]) -> Vec<ApplyItem> {
    resolved.iter().map(|resolved| resolved.item.clone()).collect()
}

fn other_level(level: Option<ReadLevel>) -> Option<ReadLevel> {
    match level {
        Some(ReadLevel::Bounded { max_staleness_ms }) => {
            Some(ReadLevel::Bounded { max_staleness_ms: max_staleness_ms ^ 1 })
        }
        Some(ReadLevel::Linearizable) => Some(ReadLevel::Eventual),
        Some(ReadLevel::Eventual) => None,
        None => Some(ReadLevel::Linearizable),
    }
}

/// A command with one thing changed.
fn changed(command: &Command, choice: usize) -> Command {
    let other = |name: &LogName| {
        LogName::new(if name.as_str() == "a" { "c" } else { "a" }).expect("a valid name")
    };
    let flip = |n: u64| n ^ 1;
    let mut command = command.clone();
    match &mut command {
        Command::MarkDigest => {
            command = Command::CreateLog {
                name: LogName::new("new").expect("a valid name"),
                if_absent: false,
                read_level: None,
            }
        }
        Command::CreateLog { name, if_absent, read_level } => match choice % 3 {
            0 => *name = other(name),
            1 => *if_absent = !*if_absent,
            _ => *read_level = other_level(*read_level),
        },
        Command::SetReadLevel { name, read_level, incarnation } => match choice % 3 {
            0 => *name = other(name),
            1 => *read_level = other_level(*read_level),
            _ => *incarnation = Some(Incarnation(incarnation.map_or(0, |i| flip(i.0)))),
        },
        Command::DeleteLog { name, incarnation } => match choice % 2 {
            0 => *name = other(name),
            _ => *incarnation = Some(Incarnation(incarnation.map_or(0, |i| flip(i.0)))),
        },
        Command::TrimLog { name, before, incarnation } => match choice % 3 {
            0 => *name = other(name),
            1 => *before = Offset(flip(before.0)),
            _ => *incarnation = Some(Incarnation(incarnation.map_or(0, |i| flip(i.0)))),
        },
        Command::Fence { name, min_epoch, incarnation } => match choice % 3 {
            0 => *name = other(name),
            1 => *min_epoch = Some(WriterEpoch(min_epoch.map_or(0, |e| flip(e.0)))),
            _ => *incarnation = Some(Incarnation(incarnation.map_or(0, |i| flip(i.0)))),
        },
        Command::Append(parts) => {
            let at = choice / 8 % parts.len();
            let several = parts.len() > 1;
            let part = &mut parts[at];
            match choice % 8 {
                0 => part.log = other(&part.log),
                1 => {
                    part.expected_offset =
                        Some(Offset(part.expected_offset.map_or(0, |o| flip(o.0))))
                }
                2 => {
                    part.writer_epoch =
                        Some(WriterEpoch(part.writer_epoch.map_or(0, |e| flip(e.0))))
                }
                3 => {
                    part.producer = Some(match part.producer {
                        Some((id, sequence)) => (id, Sequence(flip(sequence.0))),
                        None => (ProducerId([9; 16]), Sequence(0)),
                    })
                }
                4 => part.producer = Some((ProducerId([8; 16]), Sequence(0))),
                5 => {
                    part.incarnation = Some(Incarnation(part.incarnation.map_or(0, |i| flip(i.0))))
                }
                6 => {
                    // The last byte of a batch is a record's value: still a valid batch.
                    let mut bytes = part.batch.bytes.to_vec();
                    *bytes.last_mut().expect("not empty") ^= 1;
                    part.batch.crc32c = crc32c::crc32c(&bytes);
                    part.batch.bytes = bytes.into();
                }
                _ if several => drop(parts.remove(at)),
                _ => part.batch.count += 1,
            }
        }
    }
    command
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn replay_and_apply_batches_make_no_difference(
        entries in entries(true),
        cuts in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let items = items(&Resolver::all(&entries));
        let (one_by_one, outcomes) = apply(&items, |_| true);
        for (memory, others) in [
            apply(&items, |_| true),
            apply(&items, |_| false),
            apply(&items, |at| cuts[at]),
            apply(&items, |at| !cuts[at]),
        ] {
            prop_assert_eq!(&others, &outcomes);
            prop_assert_eq!(digest(&memory), digest(&one_by_one));
            prop_assert!(memory == one_by_one, "other rows");
        }
    }

    /// A copy made midway goes on as if it had been there from the start.
    #[test]
    fn a_copy_goes_on_like_the_original(entries in entries(true), at in any::<Index>()) {
        let items = items(&Resolver::all(&entries));
        let (whole, outcomes) = apply(&items, |_| true);
        let at = at.index(items.len());
        let mut copy = apply(&items[..at], |_| true).0.clone();
        let rest = if at < items.len() { copy.apply(&items[at..]).expect("sound state") } else { Vec::new() };
        prop_assert_eq!(&rest[..], &outcomes[at..]);
        prop_assert!(copy == whole, "other rows");
    }

    #[test]
    fn a_changed_command_changes_the_digest(
        entries in entries(true),
        entry in any::<Index>(),
        command in any::<Index>(),
        choice in any::<usize>(),
    ) {
        let resolved = Resolver::all(&entries);
        let right = items(&resolved);
        let eligible: Vec<usize> = (0..resolved.len())
            .filter(|n| resolved[*n].commands.as_ref().is_some_and(|commands| !commands.is_empty()))
            .collect();
        prop_assume!(!eligible.is_empty());
        let entry = *entry.get(&eligible);
        let mut commands = resolved[entry].commands.clone().expect("eligible");
        let at = command.index(commands.len());
        let instead = changed(&commands[at], choice);
        prop_assume!(instead != commands[at]);
        commands[at] = instead;
        let mut wrong = right.clone();
        wrong[entry].payload = Some(pack(resolved[entry].timestamp, &commands));
        prop_assert_ne!(digest(&apply(&right, |_| true).0), digest(&apply(&wrong, |_| true).0));
    }

    /// Bytes of an entry, its timestamp, one entry left out, two in the other order, another term.
    #[test]
    fn any_other_history_changes_the_digest(
        entries in entries(true),
        entry in any::<Index>(),
        byte in any::<Index>(),
        bit in 0..8_u8,
        how in 0..4,
    ) {
        let right = items(&Resolver::all(&entries));
        let entry = entry.index(right.len());
        let mut wrong = right.clone();
        match (how, &right[entry].payload) {
            (0, Some(payload)) => {
                let mut payload = payload.to_vec();
                let byte = byte.index(payload.len());
                payload[byte] ^= 1 << bit;
                wrong[entry].payload = Some(payload.into());
            }
            (1, Some(_)) => wrong[entry].payload = None,
            (2, _) => {
                prop_assume!(entry > 0 && right[entry].payload != right[entry - 1].payload);
                wrong[entry].payload = right[entry - 1].payload.clone();
                wrong[entry - 1].payload = right[entry].payload.clone();
            }
            _ => wrong[entry..].iter_mut().for_each(|item| item.at.term.0 += 1),
        }
        prop_assert_ne!(digest(&apply(&right, |_| true).0), digest(&apply(&wrong, |_| true).0));
    }
}
