//! Gets proofs of freshness ([`super::freshness`]) for all groups of a node while somebody reads.
//!
//! One probe is on its way per peer, for all groups that this peer leads and somebody reads; for
//! groups that this node leads it asks its own quorum, by the same rule ([`super::prober`]). About
//! every 50 ms while there are readers; at once when a read waits for a younger proof than there
//! is; never when nobody reads. Who only asks how far behind a replica is (an operator, a load
//! balancer) causes one probe each time, and a load balancer one a second from then on
//! ([`super::probation`]).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quorate_state_machine::types::{GroupId, LogIndex, LogPoint};
use tokio::sync::Notify;

use super::{
    ReadFailure,
    evidence::{Ended, LINGER, Shared, Slot, micros, millis},
    freshness::{Proof, Ticket},
    probation::LOOK_EVERY,
    prober,
    read_index::ReadIndexer,
    worst::MAX_WINDOW,
};
use crate::{
    clock::{BootInstant, Clock},
    peer::client::PeerClient,
    raft::group::Group,
    runtime,
};

/// How far behind a replica is, as somebody found who checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Now; `None`: nothing was proven since the start.
    pub now: Option<Duration>,
    /// The worst of the time of probation; `None`: it was unknown once, or nobody looked.
    pub worst: Option<Duration>,
}

/// Handle; cheap to clone.
#[derive(Clone)]
pub struct Freshener {
    shared: Arc<Shared>,
}

/// How long a read waits for a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until the caller gives up.
    Wait,
    /// For a probe to fail, or for one that left after the question to end.
    OneProbe,
}

impl Freshener {
    /// Starts the task. `groups` in the order of their numbers.
    #[must_use]
    pub fn start(
        groups: Vec<(Group, ReadIndexer)>,
        clock: Arc<dyn Clock>,
        client: Arc<PeerClient>,
    ) -> Self {
        let now = clock.boot();
        let slots = groups.into_iter().map(|(group, indexer)| Slot::new(group, indexer, now));
        let shared = Arc::new(Shared {
            slots: slots.collect(),
            clock,
            client,
            wake: Notify::new(),
            watch: Notify::new(),
            nonce: AtomicU64::new(1),
        });
        runtime::spawn(prober::run(shared.clone()));
        let this = Self { shared };
        runtime::spawn(keep_looking(this.clone()));
        this
    }

    /// Now, on the clock of the proofs.
    #[must_use]
    pub fn now(&self) -> BootInstant {
        self.shared.clock.boot()
    }

    /// Somebody reads this group: keeps its evidence young for a while.
    pub fn touch(&self, group: GroupId) {
        let slot = self.shared.slot(group);
        let now = millis(self.now());
        // The first read after a quiet time wakes the task; the others cost one store.
        let before = slot.last_read.swap(now, Ordering::Relaxed);
        if now.saturating_sub(before) > LINGER.as_millis() as u64 / 2 {
            self.shared.wake.notify_one();
        }
    }

    /// Upper bound on the age of a state of this group that has applied up to `applied`; to be
    /// asked *after* the data was read. `None`: unknown.
    #[must_use]
    pub fn age(&self, group: GroupId, applied: LogIndex) -> Option<Duration> {
        let slot = self.shared.slot(group);
        let tracker = slot.current();
        tracker.age(self.now(), applied)
    }

    /// To be called before a read index is asked for that [`Self::witness`] is to hear of.
    #[must_use]
    pub fn ticket(&self, group: GroupId) -> Ticket {
        self.shared.slot(group).current().probe(self.now())
    }

    /// A quorum confirmed a read index that this node asked for, as the leader, after `ticket` was
    /// made: as good as a probe.
    pub fn witness(&self, group: GroupId, ticket: Ticket, at: LogPoint) {
        let slot = self.shared.slot(group);
        let applied = slot.group.watch_applied().borrow().index;
        slot.learn(ticket, at.index, at.term, applied);
        // Who waits for a proof may have got it: no probe will be sent for him then.
        if slot.ended.receiver_count() > 0 {
            slot.ended.send_replace(Ended { sent: ticket.sent(), failure: None });
        }
    }

    /// An answer stated this age.
    pub fn stated(&self, group: GroupId, age: Duration) {
        let now = self.now();
        self.shared.slot(group).told().ages.observe(now, age);
    }

    /// The worst age that an answer of the last minute stated; `None`: none stated one.
    #[must_use]
    pub fn worst_age(&self, group: GroupId) -> Option<Duration> {
        self.shared.slot(group).told().ages.over(self.now(), MAX_WINDOW)
    }

    /// How far behind this replica is, `None` if nothing was proven since the start: asks for a
    /// proof younger than `bound` if there is none, and gives it `patience` to come and to be
    /// applied.
    pub async fn check(
        &self,
        group: GroupId,
        bound: Duration,
        patience: Duration,
    ) -> Option<Duration> {
        let slot = self.shared.slot(group);
        let young = async {
            let moment = self.now().before(bound);
            if let Ok(proof) = self.proof(group, moment, Patience::OneProbe).await {
                slot.group.wait_applied(proof.index).await;
            }
        };
        // Late or refused: what is known says it.
        let _ = runtime::timeout(patience, young).await;
        let applied = slot.group.watch_applied().borrow().index;
        let visible = slot.current().visible_at(applied);
        let now = self.now();
        let mut told = slot.told();
        told.visible_at = told.visible_at.max(visible);
        told.visible_at.map(|moment| now.since(moment))
    }

    /// The same, and how far behind it was in the time of `probation`. From now on, and for a while,
    /// it is looked at also when nobody asks.
    pub async fn probation(
        &self,
        group: GroupId,
        bound: Duration,
        patience: Duration,
        probation: Duration,
    ) -> Lag {
        let bound = self.shared.slot(group).told().probation.ask(self.now(), bound);
        self.shared.watch.notify_one();
        let now = self.look(group, bound, patience).await;
        let worst = match probation.is_zero() {
            true => now,
            false => self.shared.slot(group).told().probation.worst(self.now(), probation),
        };
        Lag { now, worst }
    }

    async fn look(&self, group: GroupId, bound: Duration, patience: Duration) -> Option<Duration> {
        let lag = self.check(group, bound, patience).await;
        self.shared.slot(group).told().probation.look(self.now(), lag);
        lag
    }

    /// Round trip of the last confirmed probe; `None` before the first.
    #[must_use]
    pub fn round_trip(&self, group: GroupId) -> Option<Duration> {
        let us = self.shared.slot(group).round_trip.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    /// A proof of everything acknowledged before `moment`.
    ///
    /// # Errors
    /// [`ReadFailure`] of the probe, unless told to wait.
    pub async fn proof(
        &self,
        group: GroupId,
        moment: BootInstant,
        patience: Patience,
    ) -> Result<Proof, ReadFailure> {
        let slot = self.shared.slot(group);
        let asked = self.now();
        let mut ended = slot.ended.subscribe();
        let mut first = true;
        loop {
            ended.mark_unchanged();
            if let Some(proof) = slot.current().proof_since(moment) {
                return Ok(proof);
            }
            if patience == Patience::OneProbe && !first {
                let ended = ended.borrow();
                match &ended.failure {
                    Some(failure) => return Err(failure.clone()),
                    // It was confirmed, and what it proved was dropped at once.
                    None if ended.sent >= asked => return Err(ReadFailure::NoQuorum),
                    // It was on its way before: the next one is younger.
                    None => {}
                }
            }
            first = false;
            slot.wanted.fetch_max(micros(moment), Ordering::AcqRel);
            self.shared.wake.notify_one();
            if ended.changed().await.is_err() {
                return Err(ReadFailure::Stopped("the freshness task is gone".to_owned()));
            }
        }
    }
}

/// Looks at the groups that somebody wants to be watched.
async fn keep_looking(freshener: Freshener) {
    let shared = freshener.shared.clone();
    loop {
        let now = freshener.now();
        let watched = shared.slots.iter().filter_map(|slot| {
            let bound = slot.told().probation.watched(now)?;
            Some(freshener.look(slot.group.id, bound, LOOK_EVERY / 2))
        });
        let looks = futures::future::join_all(watched.collect::<Vec<_>>()).await;
        match looks.is_empty() {
            true => shared.watch.notified().await,
            false => runtime::sleep(LOOK_EVERY).await,
        }
    }
}
