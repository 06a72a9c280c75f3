//! What a node knows of the freshness of each group, and who wants to know more.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quorate_state_machine::{
    planted,
    types::{GroupId, LogIndex, Term},
};
use tokio::sync::{Notify, watch};

use super::{
    ReadFailure,
    freshness::{Freshness, Ticket},
    probation::Probation,
    read_index::ReadIndexer,
    worst::Worst,
};
use crate::{
    clock::{BootInstant, Clock},
    peer::client::PeerClient,
    raft::group::Group,
};

/// Between probes while somebody reads: a bound of a few hundred milliseconds is met without a wait.
const INTERVAL: Duration = Duration::from_millis(50);

/// After the last read, probes go on for this long, so that a reader who comes again soon finds a
/// proof.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// A group.
pub(super) struct Slot {
    pub(super) group: Group,
    pub(super) indexer: ReadIndexer,
    pub(super) tracker: Mutex<Freshness>,
    /// [`crate::raft::state_machine::GroupState::breaks`] as last seen.
    pub(super) breaks_seen: AtomicU64,
    /// Somebody read at this time (milliseconds on the boot clock; 0: never).
    pub(super) last_read: AtomicU64,
    /// The youngest moment that a read waits for a proof of, in microseconds on the boot clock.
    pub(super) wanted: AtomicU64,
    /// The probe that ended last, one way or the other.
    pub(super) ended: watch::Sender<Ended>,
    /// Round trip of the last probe that was confirmed, microseconds.
    pub(super) round_trip: AtomicU64,
    /// What an operator is told.
    pub(super) told: Mutex<Told>,
}

/// A probe that ended.
#[derive(Default)]
pub(super) struct Ended {
    /// When it left.
    pub(super) sent: BootInstant,
    /// Why it proved nothing.
    pub(super) failure: Option<ReadFailure>,
}

/// What an operator is told about a group's evidence. Proves nothing to a reader.
pub(super) struct Told {
    /// Ages that answers stated.
    pub(super) ages: Worst,
    /// Whether it has kept up.
    pub(super) probation: Probation,
    /// The youngest moment whose visibility was ever proven. Unlike the evidence itself it outlives
    /// a change of term: how far a replica is behind does not become unknown because its leader
    /// changed.
    pub(super) visible_at: Option<BootInstant>,
}

/// What handles and tasks share.
pub(super) struct Shared {
    pub(super) slots: Vec<Slot>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) client: Arc<PeerClient>,
    pub(super) wake: Notify,
    /// Somebody asks for [`super::freshener::Freshener::probation`].
    pub(super) watch: Notify,
    pub(super) nonce: AtomicU64,
}

pub(super) fn millis(at: BootInstant) -> u64 {
    at.since(BootInstant::default()).as_millis() as u64
}

/// Rounded up: a wish must not be granted by a proof from a fraction of a microsecond before it.
pub(super) fn micros(at: BootInstant) -> u64 {
    at.since(BootInstant::default()).as_nanos().div_ceil(1000) as u64
}

impl Shared {
    pub(super) fn slot(&self, group: GroupId) -> &Slot {
        &self.slots[group.0 as usize]
    }
}

impl Slot {
    pub(super) fn new(group: Group, indexer: ReadIndexer, now: BootInstant) -> Self {
        Self {
            group,
            indexer,
            tracker: Mutex::default(),
            breaks_seen: AtomicU64::new(0),
            last_read: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            ended: watch::Sender::new(Ended::default()),
            round_trip: AtomicU64::new(0),
            told: Mutex::new(Told {
                ages: Worst::default(),
                probation: Probation::new(now),
                visible_at: None,
            }),
        }
    }

    /// The tracker, after it was told what happened since the last look.
    pub(super) fn current(&self) -> MutexGuard<'_, Freshness> {
        let breaks = self.group.state().breaks();
        let term = self.group.term();
        let mut tracker = self.tracker.lock().unwrap_or_else(PoisonError::into_inner);
        if self.breaks_seen.swap(breaks, Ordering::AcqRel) != breaks {
            tracker.drop_evidence();
        }
        tracker.see_term(term);
        tracker
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn learn(&self, ticket: Ticket, index: LogIndex, term: Term, applied: LogIndex) {
        let mut tracker = self.current();
        tracker.confirm(ticket, index, term);
        tracker.prune(applied);
        let visible = tracker.visible_at(applied);
        drop(tracker);
        let mut told = self.told();
        told.visible_at = told.visible_at.max(visible);
    }

    /// When the next probe is due: `None` while nobody reads.
    pub(super) fn due(&self, now: BootInstant) -> Option<Duration> {
        let now_ms = millis(now);
        let last_read = self.last_read.load(Ordering::Relaxed);
        let read = last_read > 0 && now_ms.saturating_sub(last_read) <= LINGER.as_millis() as u64;
        let wanted = self.wanted.load(Ordering::Acquire);
        let tracker = self.current();
        // A read that gave up wants nothing any more.
        if wanted > 0 && self.ended.receiver_count() > 0 {
            let moment = BootInstant::at(Duration::from_micros(wanted));
            if tracker.proof_since(moment).is_none() {
                return Some(Duration::ZERO);
            }
        }
        if !read {
            return None;
        }
        let newest = tracker.newest();
        Some(newest.map_or(Duration::ZERO, |sent| INTERVAL.saturating_sub(now.since(sent))))
    }

    pub(super) fn finish(
        &self,
        ticket: Ticket,
        answer: Result<(LogIndex, Term), ReadFailure>,
        now: BootInstant,
    ) {
        let failure = match answer {
            Ok((index, term)) => {
                let applied = self.group.watch_applied().borrow().index;
                let ticket = match planted::is("age_from_receive_time") {
                    true => self.current().probe(now),
                    false => ticket,
                };
                self.learn(ticket, index, term, applied);
                let us = now.since(ticket.sent()).as_micros().max(1) as u64;
                self.round_trip.store(us, Ordering::Relaxed);
                None
            }
            Err(failure) => Some(failure),
        };
        self.ended.send_replace(Ended { sent: ticket.sent(), failure });
    }
}
