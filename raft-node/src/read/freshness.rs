//! What this replica can prove about the age of its state (DESIGN, "Read path and proven age").
//!
//! Pure: the clock is passed in. A *proof* says: everything acknowledged before `sent` (a moment on
//! this node's own CLOCK_BOOTTIME, taken before the probe left) is at or below `index`. Once that
//! much is applied, the age of the state at time t is at most t − `sent`. Nothing else is evidence:
//! not a heartbeat, not a granted vote, not "I am the leader".
//!
//! Evidence is dropped when the term changes, when a snapshot is installed and when leadership is
//! being handed over, and an answer to a probe that left before the drop is ignored. (A proof once
//! gained stays true; dropping it is a second belt, and costs one probe.)

use std::{collections::VecDeque, time::Duration};

use quorate_state_machine::{
    planted,
    types::{LogIndex, Term},
};

use crate::clock::BootInstant;

/// Proofs kept that are not applied yet. Beyond it every second one goes: ages get coarser while
/// apply is far behind, and never too young.
const MAX_PENDING: usize = 64;

/// Confirmed by a quorum of the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// When the probe left this node.
    pub sent: BootInstant,
    /// Everything acknowledged before `sent` is at or below.
    pub index: LogIndex,
    /// The leader's term.
    pub term: Term,
}

/// Remembers when a probe left.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    sent: BootInstant,
    generation: u64,
}

impl Ticket {
    /// When the probe left.
    #[must_use]
    pub fn sent(&self) -> BootInstant {
        self.sent
    }
}

/// One group's evidence on this node.
#[derive(Debug, Default)]
pub struct Freshness {
    /// Oldest first; `sent` and `index` both rise.
    proofs: VecDeque<Proof>,
    /// Counts drops: a ticket of an earlier generation proves nothing any more.
    generation: u64,
    term: Term,
}

impl Freshness {
    /// To be called before the probe is sent.
    #[must_use]
    pub fn probe(&self, now: BootInstant) -> Ticket {
        Ticket { sent: now, generation: self.generation }
    }

    /// The probe was answered with a confirmed read index. Says whether it was taken as a proof.
    pub fn confirm(&mut self, ticket: Ticket, index: LogIndex, term: Term) -> bool {
        self.see_term(term);
        if ticket.generation != self.generation || term < self.term {
            return false;
        }
        // Answers may overtake each other: an older one adds nothing to a newer one.
        if self.proofs.back().is_some_and(|last| last.sent >= ticket.sent) {
            return false;
        }
        // What was acknowledged before an earlier moment was acknowledged before this one, so a
        // lower index than an earlier proof's would contradict it; the higher is true for both.
        let index = self.proofs.back().map_or(index, |last| index.max(last.index));
        self.proofs.push_back(Proof { sent: ticket.sent, index, term });
        if self.proofs.len() > MAX_PENDING {
            let mut keep = false;
            self.proofs.retain(|_| {
                keep = !keep;
                keep
            });
        }
        true
    }

    /// The local term, as soon as it is known to have changed.
    pub fn see_term(&mut self, term: Term) {
        if term > self.term {
            // The first term seen after a start drops nothing: there is nothing yet.
            if self.term != Term(0) {
                self.drop_evidence();
            }
            self.term = term;
        }
    }

    /// Forgets everything, and what is on its way.
    pub fn drop_evidence(&mut self) {
        self.proofs.clear();
        self.generation += 1;
    }

    /// The cheapest proof of everything acknowledged before `moment`: the one with the least to be
    /// applied.
    #[must_use]
    pub fn proof_since(&self, moment: BootInstant) -> Option<Proof> {
        let at = self.proofs.partition_point(|proof| proof.sent < moment);
        self.proofs.get(at).copied()
    }

    /// Upper bound on the age of a state that has applied up to `applied`. `now` must be taken
    /// *after* the data was read. `None`: unknown.
    #[must_use]
    pub fn age(&self, now: BootInstant, applied: LogIndex) -> Option<Duration> {
        self.visible_at(applied).map(|moment| now.since(moment))
    }

    /// The youngest moment of which it is proven that everything acknowledged before is at or below
    /// `applied`.
    #[must_use]
    pub fn visible_at(&self, applied: LogIndex) -> Option<BootInstant> {
        let waits = !planted::is("no_wait_for_apply");
        let satisfied = self.proofs.partition_point(|p| p.index <= applied || !waits);
        Some(self.proofs.get(satisfied.checked_sub(1)?)?.sent)
    }

    /// When the probe of the newest proof left.
    #[must_use]
    pub fn newest(&self) -> Option<BootInstant> {
        self.proofs.back().map(|proof| proof.sent)
    }

    /// Drops the proofs that a newer, applied one makes useless.
    pub fn prune(&mut self, applied: LogIndex) {
        let satisfied = self.proofs.partition_point(|proof| proof.index <= applied);
        // One younger proof that a waiting read may ask for is never older than the newest applied.
        self.proofs.drain(..satisfied.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootInstant {
        BootInstant::at(Duration::from_millis(ms))
    }

    fn confirmed(f: &mut Freshness, sent: u64, index: u64, term: u64) -> bool {
        let ticket = f.probe(at(sent));
        f.confirm(ticket, LogIndex(index), Term(term))
    }

    fn age(f: &Freshness, now: u64, applied: u64) -> Option<u64> {
        f.age(at(now), LogIndex(applied)).map(|age| age.as_millis() as u64)
    }

    #[test]
    fn nothing_known_is_unknown_never_zero() {
        let f = Freshness::default();
        assert_eq!(age(&f, 1000, u64::MAX), None);
        assert_eq!(f.proof_since(at(0)), None);
    }

    #[test]
    fn age_counts_from_the_moment_the_probe_left() {
        let mut f = Freshness::default();
        assert!(confirmed(&mut f, 100, 7, 1));
        assert_eq!(age(&f, 150, 7), Some(50));
        assert_eq!(age(&f, 10_100, 7), Some(10_000), "it grows while nothing is heard");
        assert_eq!(age(&f, 150, 6), None, "what is proven is not applied yet");
    }

    #[test]
    fn an_older_applied_proof_holds_while_apply_is_behind() {
        let mut f = Freshness::default();
        assert!(confirmed(&mut f, 100, 7, 1));
        assert!(confirmed(&mut f, 200, 9, 1));
        assert_eq!(age(&f, 250, 8), Some(150));
        assert_eq!(age(&f, 250, 9), Some(50));
        f.prune(LogIndex(8));
        assert_eq!(age(&f, 250, 8), Some(150), "pruning changes no age");
        f.prune(LogIndex(9));
        assert_eq!(age(&f, 250, 9), Some(50));
    }

    #[test]
    fn a_probe_is_not_reused_across_terms() {
        let mut f = Freshness::default();
        assert!(confirmed(&mut f, 100, 7, 1));
        let old = f.probe(at(200));
        f.see_term(Term(2));
        assert_eq!(age(&f, 250, 9), None, "evidence is dropped");
        assert!(!f.confirm(old, LogIndex(7), Term(2)), "its probe left in another term");
        let new = f.probe(at(300));
        assert!(!f.confirm(new, LogIndex(7), Term(1)), "an answer of a deposed leader");
        assert!(f.confirm(new, LogIndex(8), Term(2)));
        assert_eq!(age(&f, 310, 8), Some(10));
    }

    #[test]
    fn a_snapshot_or_a_hand_over_drops_what_is_on_its_way() {
        let mut f = Freshness::default();
        assert!(confirmed(&mut f, 100, 7, 1));
        let before = f.probe(at(150));
        f.drop_evidence();
        assert!(!f.confirm(before, LogIndex(8), Term(1)));
        assert_eq!(age(&f, 160, 100), None);
    }

    #[test]
    fn answers_that_overtake_each_other() {
        let mut f = Freshness::default();
        let (first, second) = (f.probe(at(100)), f.probe(at(200)));
        assert!(f.confirm(second, LogIndex(9), Term(1)));
        assert!(!f.confirm(first, LogIndex(8), Term(1)));
        assert_eq!(age(&f, 300, 9), Some(100));
        assert_eq!(age(&f, 300, 8), None);
    }

    #[test]
    fn the_cheapest_proof_that_is_young_enough() {
        let mut f = Freshness::default();
        (1..=5).for_each(|n| assert!(confirmed(&mut f, n * 100, n, 1)));
        assert_eq!(f.proof_since(at(250)).unwrap().index, LogIndex(3));
        assert_eq!(f.proof_since(at(300)).unwrap().sent, at(300));
        assert_eq!(f.proof_since(at(501)), None);
    }

    #[test]
    fn memory_is_bounded_while_nothing_is_applied() {
        let mut f = Freshness::default();
        for n in 1..10_000 {
            assert!(confirmed(&mut f, n, n, 1));
            assert!(f.proofs.len() <= MAX_PENDING);
        }
        assert_eq!(age(&f, 10_000, 1), Some(9999), "the oldest stays usable");
    }
}
