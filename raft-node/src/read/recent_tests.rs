//! Against the real apply: what is kept is what a view would show.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_state_machine::{
    apply::commit,
    batch::{RecordRef, encode},
    command::{AppendPart, Command},
    entry::EntryBuilder,
    memory::Memory,
    types::{
        Batch, LogIndex, LogName, LogPoint, ProducerId, Sequence, Term, TimestampMs, WriterEpoch,
    },
};

use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// State, and what is kept of it.
struct Pair {
    memory: Memory,
    recent: Recent,
    index: u64,
    term: u64,
}

fn name(log: usize) -> LogName {
    LogName::new(NAMES[log]).unwrap()
}

fn part(log: usize, values: &[Vec<u8>], sequence: Option<u64>) -> AppendPart {
    let records = values.iter().map(|value| RecordRef { value, ..RecordRef::default() });
    AppendPart {
        log: name(log),
        expected_offset: None,
        writer_epoch: None,
        producer: sequence.map(|n| (ProducerId([7; 16]), Sequence(n))),
        incarnation: None,
        batch: Batch::validate(encode(records), None).unwrap(),
    }
}

fn append(log: usize, bytes: usize) -> Command {
    Command::Append(vec![part(log, &[vec![1; bytes]], None)])
}

fn create(log: usize) -> Command {
    Command::CreateLog { name: name(log), if_absent: true, read_level: None }
}

impl Pair {
    fn new(limit_bytes: usize) -> Self {
        let recent = Recent::new(limit_bytes);
        let mut this = Self { memory: Memory::new(), recent, index: 0, term: 1 };
        this.apply(&[vec![create(0), create(1), create(2)]]);
        this
    }

    /// Each inner list is an entry; all of them together are one apply batch.
    fn apply(&mut self, entries: &[Vec<Command>]) {
        let items: Vec<ApplyItem> = entries
            .iter()
            .map(|commands| {
                self.index += 1;
                let mut entry = EntryBuilder::new();
                commands.iter().for_each(|command| entry.push(command));
                ApplyItem {
                    at: LogPoint { term: Term(self.term), index: LogIndex(self.index) },
                    payload: Some(entry.finish(TimestampMs(self.index))),
                    membership: None,
                }
            })
            .collect();
        let (writes, outcomes) = commit(&self.memory, &items).unwrap();
        self.memory.write(writes.clone());
        self.recent.applied(&items, &writes, &outcomes);
    }

    fn log(&self, log: usize) -> Option<(Incarnation, Offset, Offset)> {
        let log = self.memory.reader().unwrap().log(&name(log)).unwrap()?;
        Some((log.incarnation, log.start_offset, log.next_offset))
    }

    /// Whatever is kept of what a view shows, is what the view shows.
    fn check(&self) -> Result<(), TestCaseError> {
        let reader = self.memory.reader().unwrap();
        for log in 0..NAMES.len() {
            let Some((incarnation, start, next)) = self.log(log) else { continue };
            for from in start.0..next.0 {
                for (to, bytes) in [(next.0, usize::MAX), (next.0, 50), (from + 1, 1)] {
                    let kept = self.recent.batches(incarnation, Offset(from), Offset(to), bytes);
                    let Some(kept) = kept else { continue };
                    let shown =
                        reader.batches(incarnation, Offset(from), Offset(to), bytes).unwrap();
                    // The view may know of more where something older was evicted since.
                    prop_assert_eq!(&kept[..], &shown[..kept.len()]);
                    prop_assert!(!kept.is_empty());
                }
            }
            prop_assert!(self.recent.batches(incarnation, next, next, 1).is_none());
        }
        for log in 0..NAMES.len() {
            let Some(glimpse) = self.recent.glimpse(&name(log)) else { continue };
            prop_assert_eq!(Some(glimpse.applied), reader.applied());
            let shown = reader.log(&name(log)).unwrap();
            prop_assert_eq!(Some(&glimpse.log), shown.as_ref());
            for index in 0..=self.index + 1 {
                let known = glimpse.term_at(LogIndex(index));
                let shown = reader.term_at(LogIndex(index)).unwrap();
                prop_assert!(known.is_none() || known == shown, "{known:?} is {shown:?}");
            }
            // The newest term is never looked up.
            let last = LogIndex(self.index);
            prop_assert_eq!(glimpse.term_at(last), reader.term_at(last).unwrap());
        }
        let inner = self.recent.read();
        for (name, incarnation) in &inner.names {
            let row = inner.logs.get(incarnation).and_then(|log| log.row.as_ref());
            prop_assert_eq!(row.map(|row| &row.name), Some(name), "no name without a row");
        }
        let rows = inner.logs.values().filter(|log| log.row.is_some()).count();
        prop_assert_eq!(rows, inner.names.len(), "no row without a name");
        prop_assert!(inner.bytes <= self.recent.limit_bytes);
        prop_assert_eq!(inner.bytes, inner.entries.iter().map(|e| e.bytes).sum::<usize>());
        let counted: usize = inner.logs.values().map(|log| log.batches.len()).sum();
        prop_assert!(counted <= inner.entries.iter().map(|e| e.batches.len()).sum());
        Ok(())
    }
}

fn a_command() -> impl Strategy<Value = Command> {
    let log = || 0..NAMES.len();
    let values = || prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..4);
    prop_oneof![
        12 => (log(), values(), prop::option::weighted(0.3, 0..4_u64))
            .prop_map(|(log, values, n)| Command::Append(vec![part(log, &values, n)])),
        2 => (values(), values())
            .prop_map(|(a, b)| Command::Append(vec![part(0, &a, None), part(1, &b, None)])),
        2 => log().prop_map(create),
        1 => (log(), prop::option::of(0..5_u64)).prop_map(|(log, epoch)| Command::Fence {
            name: name(log),
            min_epoch: epoch.map(WriterEpoch),
            incarnation: None,
        }),
        1 => log().prop_map(|log| Command::DeleteLog { name: name(log), incarnation: None }),
        2 => (log(), 0..12_u64).prop_map(|(log, before)| Command::TrimLog {
            name: name(log),
            before: Offset(before),
            incarnation: None,
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_kept_is_what_a_view_shows(
        limit in prop_oneof![Just(0_usize), 300..3_000_usize, Just(1 << 20)],
        batches in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(a_command(), 0..4), 1..4), 1..25),
        reset_at in 0..40_usize,
        new_terms in prop::collection::btree_set(0..25_usize, 0..3),
    ) {
        let mut pair = Pair::new(limit);
        // One follower of each log that there is at first.
        let mut followers: BTreeMap<usize, Following> = (0..NAMES.len())
            .map(|log| (log, pair.recent.follow(pair.log(log).unwrap().0)))
            .collect();
        for (n, entries) in batches.iter().enumerate() {
            let before: Vec<_> = (0..NAMES.len()).map(|log| pair.log(log)).collect();
            pair.term += u64::from(new_terms.contains(&n));
            pair.apply(entries);
            if n == reset_at {
                pair.recent.reset(pair.memory.reader().unwrap().last_term().unwrap());
                for log in 0..NAMES.len() {
                    prop_assert_eq!(pair.recent.glimpse(&name(log)), None, "of the old state");
                }
            }
            pair.check()?;
            for (log, follower) in &mut followers {
                // Appends are told exactly, everything else is told to be looked at.
                let changed = follower.head.has_changed().unwrap();
                let head = follower.head();
                match (before[*log], pair.log(*log)) {
                    (Some((was, start, _)), Some((is, now, next)))
                        if was == is && is == follower.incarnation() =>
                    {
                        if next > before[*log].unwrap().2 {
                            prop_assert!(changed);
                            prop_assert_eq!(head.next, next);
                        }
                        prop_assert!(changed || start == now);
                    }
                    (Some((was, ..)), _) if was == follower.incarnation() => {
                        prop_assert!(changed, "it was deleted");
                    }
                    _ => {}
                }
            }
        }
        drop(followers);
        let inner = pair.recent.read();
        prop_assert!(inner.logs.values().all(|log| log.head.is_none() && !log.batches.is_empty()));
    }
}

#[test]
fn what_is_kept_is_the_entrys_own_bytes() {
    let mut pair = Pair::new(1 << 20);
    let log = pair.log(0).unwrap().0;
    pair.apply(&[vec![append(0, 1000)]]);
    let one = pair.recent.batches(log, Offset(0), Offset(1), 1).unwrap();
    let other = pair.recent.batches(log, Offset(0), Offset(9), usize::MAX).unwrap();
    assert_eq!(one, other);
    assert_eq!(one[0].bytes.as_ptr(), other[0].bytes.as_ptr(), "shared, not copied");
}

#[test]
fn the_oldest_entries_go_first_across_logs() {
    let mut pair = Pair::new(4_000);
    let (a, b) = (pair.log(0).unwrap().0, pair.log(1).unwrap().0);
    pair.apply(&[vec![append(0, 1_000)], vec![append(1, 1_000)]]);
    let is_kept = |pair: &Pair, log, at| {
        pair.recent.batches(log, Offset(at), Offset(at + 1), usize::MAX).is_some()
    };
    assert!(is_kept(&pair, a, 0) && is_kept(&pair, b, 0));
    pair.apply(&[vec![append(1, 1_000)], vec![append(1, 1_000)]]);
    assert!(!is_kept(&pair, a, 0), "the oldest is gone");
    assert!(is_kept(&pair, b, 1) && is_kept(&pair, b, 2));
    // An entry that is larger than all of it leaves nothing behind.
    pair.apply(&[vec![append(0, 5_000)]]);
    assert_eq!(pair.recent.bytes(), 0);
    assert!(!is_kept(&pair, a, 1) && !is_kept(&pair, b, 2));
}

#[test]
fn a_state_that_was_replaced_leaves_no_hole() {
    let mut pair = Pair::new(1 << 20);
    let log = pair.log(0).unwrap().0;
    let mut following = pair.recent.follow(log);
    pair.apply(&[vec![append(0, 10)]]);
    let at = LogPoint { term: Term(1), index: LogIndex(pair.index) };
    assert_eq!(following.head(), Head { next: Offset(1), at, changes: 0 });
    // A snapshot brings the state to where another replica is.
    let mut ahead = Pair { recent: Recent::new(0), memory: pair.memory.clone(), ..pair };
    ahead.apply(&[vec![append(0, 20)], vec![append(0, 30)]]);
    let mut pair = Pair { recent: pair.recent, ..ahead };
    pair.recent.reset(None);
    assert_eq!(following.head().changes, 1, "a follower has to look");
    assert_eq!(pair.recent.batches(log, Offset(0), Offset(3), usize::MAX), None);
    pair.apply(&[vec![append(0, 40)]]);
    assert_eq!(pair.recent.batches(log, Offset(2), Offset(4), usize::MAX), None);
    let kept = pair.recent.batches(log, Offset(3), Offset(4), usize::MAX).unwrap();
    assert_eq!(kept[0].bytes.len(), append_len(40));
}

fn append_len(bytes: usize) -> usize {
    part(0, &[vec![1; bytes]], None).batch.bytes.len()
}

#[test]
fn a_hole_that_nobody_told_of_is_seen() {
    let mut pair = Pair::new(1 << 20);
    let log = pair.log(0).unwrap().0;
    pair.apply(&[vec![append(0, 10)]]);
    let kept = pair.recent.clone();
    pair.recent = Recent::new(0);
    pair.apply(&[vec![append(0, 20)]]);
    pair.recent = kept;
    pair.apply(&[vec![append(0, 30)]]);
    assert_eq!(pair.recent.batches(log, Offset(0), Offset(3), usize::MAX), None);
    assert_eq!(pair.recent.batches(log, Offset(1), Offset(3), usize::MAX), None);
    let kept = pair.recent.batches(log, Offset(2), Offset(3), usize::MAX).unwrap();
    assert_eq!((kept.len(), kept[0].first_offset), (1, Offset(2)));
}

#[tokio::test]
async fn a_follower_hears_of_its_own_log_only() {
    let mut pair = Pair::new(1 << 20);
    let mut following = pair.recent.follow(pair.log(0).unwrap().0);
    pair.apply(&[vec![append(1, 10), append(2, 10)]]);
    assert!(!following.head.has_changed().unwrap());
    pair.apply(&[vec![append(0, 10)]]);
    following.moved().await;
    assert_eq!(following.head().next, Offset(1));
    let at = LogPoint { term: Term(1), index: LogIndex(pair.index) };
    let trim = Command::TrimLog { name: name(0), before: Offset(1), incarnation: None };
    pair.apply(&[vec![trim]]);
    following.moved().await;
    assert_eq!(following.head(), Head { next: Offset(1), at, changes: 1 });
}

#[test]
fn a_log_is_seen_without_a_view_as_long_as_a_batch_of_it_is_kept() {
    let mut pair = Pair::new(4_000);
    let offsets = |pair: &Pair, log| {
        pair.recent.glimpse(&name(log)).map(|g| (g.log.start_offset.0, g.log.next_offset.0))
    };
    assert_eq!(offsets(&pair, 0), None, "created before anything of it was kept");
    pair.apply(&[vec![append(0, 10), append(0, 10)]]);
    assert_eq!(offsets(&pair, 0), Some((0, 2)));
    let trim = Command::TrimLog { name: name(0), before: Offset(1), incarnation: None };
    pair.apply(&[vec![trim]]);
    assert_eq!(offsets(&pair, 0), Some((1, 2)), "a trim shows");
    pair.apply(&[vec![append(1, 3_500)]]);
    assert_eq!(offsets(&pair, 0), None, "evicted");
    assert_eq!(offsets(&pair, 1), Some((0, 1)));
    pair.apply(&[vec![Command::DeleteLog { name: name(1), incarnation: None }, create(1)]]);
    assert_eq!(offsets(&pair, 1), None, "another log has the name now");
}

#[test]
fn what_term_an_entry_has_is_known_from_the_last_change_on() {
    let mut pair = Pair::new(1 << 20);
    pair.recent.reset(Some((LogIndex(1), Term(1))));
    pair.apply(&[vec![append(0, 10)]]);
    let term = |pair: &Pair, index| pair.recent.glimpse(&name(0)).unwrap().term_at(LogIndex(index));
    assert_eq!(
        [0, 1, 2, 3].map(|index| term(&pair, index)),
        [None, Some(Term(1)), Some(Term(1)), None]
    );
    pair.term = 5;
    pair.apply(&[vec![append(0, 10)]]);
    assert_eq!([2, 3, 4].map(|index| term(&pair, index)), [None, Some(Term(5)), None]);
    // A snapshot brought another history's end: what was known before says nothing.
    pair.recent.reset(None);
    pair.apply(&[vec![append(0, 10)]]);
    assert_eq!([3, 4].map(|index| term(&pair, index)), [None, None]);
}
