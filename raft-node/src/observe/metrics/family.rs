//! Metrics of one kind that differ in a label. Finding the right one on a hot path takes a few
//! loads: no lock, no hashing, no allocation after a label's first use.

use std::sync::OnceLock;

use quorate_state_machine::types::GroupId;

/// Different values one label may take (outcomes of an append are the longest list).
const MAX_LABELS: usize = 32;

/// Groups with numbers of their own. More would make a scrape unreadable long before they make
/// it slow; they share one slot.
const MAX_GROUPS: usize = 128;

/// The label's value for everything that found no slot.
const OTHER: &str = "other";

/// Keyed by a short closed set of words.
#[derive(Debug)]
pub struct ByLabel<T> {
    /// Filled from the front; a filled slot never changes its word.
    slots: [OnceLock<(&'static str, T)>; MAX_LABELS],
    other: T,
}

impl<T: Default> Default for ByLabel<T> {
    fn default() -> Self {
        Self { slots: [const { OnceLock::new() }; MAX_LABELS], other: T::default() }
    }
}

impl<T: Default> ByLabel<T> {
    /// The metric with that label.
    pub fn get(&self, label: &'static str) -> &T {
        for slot in &self.slots {
            let (taken, metric) = slot.get_or_init(|| (label, T::default()));
            if *taken == label {
                return metric;
            }
        }
        &self.other
    }

    /// All that were used, and the one for the rest when all slots are taken.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &T)> {
        let used = self.slots.iter().map_while(|slot| slot.get().map(|(l, m)| (*l, m)));
        let full = self.slots[MAX_LABELS - 1].get().is_some();
        used.chain(full.then_some((OTHER, &self.other)))
    }
}

/// Keyed by the Raft group.
#[derive(Debug)]
pub struct ByGroup<T> {
    slots: [OnceLock<Box<T>>; MAX_GROUPS],
    other: OnceLock<Box<T>>,
}

impl<T: Default> Default for ByGroup<T> {
    fn default() -> Self {
        Self { slots: [const { OnceLock::new() }; MAX_GROUPS], other: OnceLock::new() }
    }
}

impl<T: Default> ByGroup<T> {
    /// The metric of that group.
    pub fn get(&self, group: GroupId) -> &T {
        self.slots.get(group.0 as usize).unwrap_or(&self.other).get_or_init(Box::default)
    }

    /// All that were used, with the group's number as it is written into a label.
    pub fn iter(&self) -> impl Iterator<Item = (String, &T)> {
        let numbered = self.slots.iter().enumerate();
        let numbered = numbered.filter_map(|(id, slot)| Some((id.to_string(), &**slot.get()?)));
        numbered.chain(self.other.get().map(|metric| (OTHER.to_owned(), &**metric)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn count(n: &AtomicU64) {
        n.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn labels_keep_their_slots_and_the_surplus_shares_one() {
        let family = ByLabel::<AtomicU64>::default();
        let names: Vec<&'static str> = (0..MAX_LABELS + 2)
            .map(|i| &*Box::leak(format!("label-{i}").into_boxed_str()))
            .collect();
        for _ in 0..2 {
            names.iter().for_each(|name| count(family.get(name)));
        }
        let seen: Vec<_> = family.iter().map(|(l, n)| (l, n.load(Ordering::Relaxed))).collect();
        assert_eq!(seen.len(), MAX_LABELS + 1);
        assert!(seen[..MAX_LABELS].iter().zip(&names).all(|((l, n), name)| l == name && *n == 2));
        assert_eq!(seen[MAX_LABELS], (OTHER, 4));
    }

    #[test]
    fn one_label_from_many_threads_is_one_slot() {
        let family = ByLabel::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        count(family.get("a"));
                        count(family.get("b"));
                    }
                });
            }
        });
        let mut seen: Vec<_> = family.iter().map(|(l, n)| (l, n.load(Ordering::Relaxed))).collect();
        seen.sort_unstable();
        assert_eq!(seen, [("a", 4_000), ("b", 4_000)]);
    }

    #[test]
    fn groups_are_named_by_their_number() {
        let family = ByGroup::<AtomicU64>::default();
        [0, 2, 2, 5_000, 6_000].into_iter().for_each(|id| count(family.get(GroupId(id))));
        let seen: Vec<_> = family.iter().map(|(g, n)| (g, n.load(Ordering::Relaxed))).collect();
        let want = [("0", 1), ("2", 2), ("other", 2)].map(|(g, n)| (g.to_owned(), n));
        assert_eq!(seen, want);
    }
}
