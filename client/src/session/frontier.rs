//! How far a session has seen, log by log. Pure.
//!
//! Logs of one group share one history, so the newest point of a group covers everything that was
//! seen in it; a log's own point says besides which incarnation of the log that was. A group's
//! newest point is kept apart from the logs: it outlives the log that it was seen at, and gives way
//! to a newer one only.

use std::collections::BTreeMap;

use crate::position::Position;

/// Logs remembered one by one. Of the others only what matters for reads stays: the newest point of
/// each group.
const MAX_LOGS: usize = 1024;

/// A point of a group's history at which a log was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) group: u32,
    /// Index in the group's history: orders the points of one group.
    pub(super) log_index: u64,
    /// Of the log.
    pub(super) incarnation: u64,
    pub(super) position: Position,
}

/// The newest point of each log and of each group that a session has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frontier {
    logs: BTreeMap<String, Seen>,
    /// By group, with the log that it was seen at, which may have been forgotten since.
    newest: BTreeMap<u32, (String, Seen)>,
}

/// What a read of one log must reflect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Of the log itself.
    pub(super) own: Option<Position>,
    /// Of other logs, where these were seen later: by log. One a group.
    pub(super) foreign: Vec<(String, Seen)>,
}

impl Frontier {
    /// `log` was seen at this point.
    pub(super) fn observe(&mut self, log: &str, seen: Seen) {
        self.reached(log, seen.clone());
        match self.logs.get_mut(log) {
            // The same log never changes its group: what differs is from another cluster, and
            // nodes refuse it.
            Some(known) if known.group == seen.group && known.log_index >= seen.log_index => {}
            Some(known) => *known = seen,
            None => {
                if self.logs.len() >= MAX_LOGS {
                    self.evict();
                }
                self.logs.insert(log.to_owned(), seen);
            }
        }
    }

    /// The group was seen at this point, in looking for `log`, which need not be there.
    pub(super) fn reached(&mut self, log: &str, seen: Seen) {
        match self.newest.get_mut(&seen.group) {
            Some((_, known)) if known.log_index >= seen.log_index => {}
            Some(known) => *known = (log.to_owned(), seen),
            None => drop(self.newest.insert(seen.group, (log.to_owned(), seen))),
        }
    }

    /// Everything that `other` has seen is seen here, too.
    pub(super) fn join(&mut self, other: &Self) {
        for (log, seen) in &other.logs {
            self.observe(log, seen.clone());
        }
        for (log, seen) in other.newest.values() {
            self.reached(log, seen.clone());
        }
    }

    /// Forgets what was seen of a log itself. Not that its group had come so far.
    pub(super) fn forget(&mut self, log: &str) {
        self.logs.remove(log);
    }

    /// What a read of `log` must reflect.
    pub(super) fn needs(&self, log: &str) -> Needs {
        let own = self.logs.get(log);
        let newer = |seen: &Seen| match own {
            Some(own) => own.group == seen.group && own.log_index < seen.log_index,
            // In whichever group it is.
            None => true,
        };
        let foreign = self.newest.values().filter(|(_, seen)| newer(seen)).cloned().collect();
        Needs { own: own.map(|seen| seen.position.clone()), foreign }
    }

    /// Every point, those first that must not be left out: the newest of each group.
    pub(super) fn by_weight(&self) -> Vec<(&str, &Seen)> {
        let newest = self.newest.values().map(|(log, seen)| (log.as_str(), seen));
        let is_newest = |log: &str, seen: &Seen| {
            self.newest.get(&seen.group).is_some_and(|(name, newest)| name == log && newest == seen)
        };
        let logs = self.logs.iter().map(|(log, seen)| (log.as_str(), seen));
        let mut others: Vec<_> = logs.filter(|(log, seen)| !is_newest(log, seen)).collect();
        others.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.log_index));
        newest.chain(others).collect()
    }

    /// Is this point one of the group only, as its log was forgotten?
    pub(super) fn is_forgotten(&self, log: &str, seen: &Seen) -> bool {
        self.logs.get(log) != Some(seen)
    }

    /// How many groups it spans.
    pub(super) fn groups(&self) -> usize {
        self.newest.len()
    }

    /// Drops the log that was not seen for the longest time.
    fn evict(&mut self) {
        let oldest = self.logs.iter().min_by_key(|(_, seen)| seen.log_index);
        if let Some(log) = oldest.map(|(log, _)| log.clone()) {
            self.logs.remove(&log);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::session) fn seen(group: u32, log_index: u64) -> Seen {
        let token = [&[1][..], &[7; 16], &group.to_be_bytes(), &log_index.to_be_bytes()].concat();
        Seen { group, log_index, incarnation: 3, position: Position::from_bytes(token.into()) }
    }

    fn frontier(entries: &[(&str, u32, u64)]) -> Frontier {
        let mut frontier = Frontier::default();
        entries.iter().for_each(|(log, group, index)| frontier.observe(log, seen(*group, *index)));
        frontier
    }

    #[test]
    fn answers_may_arrive_in_any_order() {
        let mut forth = frontier(&[("a", 0, 5), ("a", 0, 7)]);
        assert_eq!(forth, frontier(&[("a", 0, 7), ("a", 0, 5)]));
        forth.join(&frontier(&[("a", 0, 6), ("b", 1, 3)]));
        assert_eq!(forth, frontier(&[("a", 0, 7), ("b", 1, 3)]));
    }

    #[test]
    fn a_forgotten_log_leaves_what_its_group_had_come_to() {
        let mut frontier = frontier(&[("a", 0, 5), ("gone", 0, 9), ("b", 1, 3)]);
        frontier.forget("gone");
        for log in ["a", "gone", "new"] {
            let needs = frontier.needs(log);
            let at_9 = needs.foreign.iter().any(|(name, at)| name == "gone" && at.log_index == 9);
            assert!(at_9, "{log}: {needs:?}");
        }
        assert_eq!(frontier.needs("gone").own, None);
        // An older answer does not take its place, a newer one does.
        frontier.observe("a", seen(0, 8));
        assert_eq!(frontier.needs("a").foreign.len(), 1);
        frontier.observe("a", seen(0, 10));
        assert_eq!(frontier.needs("a").foreign, []);
        // "No such log" is a state that was seen, too.
        frontier.reached("none", seen(0, 11));
        assert_eq!(frontier.needs("a").foreign.len(), 1);
        assert_eq!(frontier.needs("none").own, None);
    }

    #[test]
    fn what_a_read_needs() {
        let frontier = frontier(&[("a", 0, 5), ("b", 0, 9), ("c", 1, 4)]);
        // log => own index, foreign logs
        let table: [(&str, Option<u64>, &[&str]); 4] = [
            ("a", Some(5), &["b"]),
            ("b", Some(9), &[]),
            ("c", Some(4), &[]),
            // Its group is not known.
            ("new", None, &["b", "c"]),
        ];
        for (log, own, foreign) in table {
            let needs = frontier.needs(log);
            let group = if log == "c" { 1 } else { 0 };
            assert_eq!(needs.own, own.map(|index| seen(group, index).position), "{log}");
            let names: Vec<_> = needs.foreign.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, foreign, "{log}");
        }
    }

    proptest! {
        // Each case is long: it must go beyond the logs that are remembered.
        #![proptest_config(ProptestConfig::with_cases(20))]

        /// However many logs there are, and whichever are forgotten, a read of any of them reflects
        /// all that was seen in its group.
        #[test]
        fn nothing_seen_is_lost(
            steps in prop::collection::vec((0..1500_u32, 0..1000_u64, prop::bool::weighted(0.1)), 0..3000)
        ) {
            let mut frontier = Frontier::default();
            let mut newest = BTreeMap::<u32, u64>::new();
            for (log, index, forget) in steps {
                let group = log % 3;
                frontier.observe(&log.to_string(), seen(group, index));
                let known = newest.entry(group).or_default();
                *known = index.max(*known);
                if forget {
                    frontier.forget(&log.to_string());
                }
            }
            prop_assert!(frontier.logs.len() <= MAX_LOGS);
            for (group, index) in newest {
                let unseen = frontier.needs("unseen").foreign;
                prop_assert!(unseen.iter().any(|(_, s)| s.group == group && s.log_index == index));
            }
        }
    }
}
