//! Gets proofs of freshness ([`super::freshness`]) for all groups of a node while somebody reads.
//!
//! One probe is on its way per peer, for all groups that this peer leads and somebody reads; for
//! groups that this node leads it asks its own quorum, by the same rule. About every
//! [`INTERVAL`] while there are readers; at once when a read waits for a younger proof than there
//! is; never when nobody reads. Who only asks how far behind a replica is (an operator, a load
//! balancer) causes one probe each time, and a load balancer one a second from then on
//! ([`super::probation`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quorate_state_machine::{
    planted,
    types::{GroupId, LogIndex, LogPoint, Term},
};
use tokio::sync::{Notify, watch};

use super::{
    ReadFailure,
    freshness::{Freshness, Proof, Ticket},
    probation::{LOOK_EVERY, Probation},
    read_index::ReadIndexer,
    worst::{MAX_WINDOW, Worst},
};
use crate::{
    clock::{BootInstant, Clock},
    peer::{client::PeerClient, probe, transport::PeerAddress},
    raft::{group::Group, types::NodeId},
    runtime,
};

/// Between probes while somebody reads: a bound of a few hundred milliseconds is met without a wait.
const INTERVAL: Duration = Duration::from_millis(50);

/// After the last read, probes go on for this long, so that a reader who comes again soon finds a
/// proof.
const LINGER: Duration = Duration::from_secs(2);

/// After a probe that failed: a group without a leader must not be asked in a tight loop.
const RETRY: Duration = Duration::from_millis(20);

struct Slot {
    group: Group,
    indexer: ReadIndexer,
    tracker: Mutex<Freshness>,
    /// [`crate::raft::state_machine::GroupState::breaks`] as last seen.
    breaks_seen: AtomicU64,
    /// Somebody read at this time (milliseconds on the boot clock; 0: never).
    last_read: AtomicU64,
    /// The youngest moment that a read waits for a proof of, in microseconds on the boot clock.
    wanted: AtomicU64,
    /// The probe that ended last, one way or the other.
    ended: watch::Sender<Ended>,
    /// Round trip of the last probe that was confirmed, microseconds.
    round_trip: AtomicU64,
    /// What an operator is told.
    told: Mutex<Told>,
}

/// A probe that ended.
#[derive(Default)]
struct Ended {
    /// When it left.
    sent: BootInstant,
    /// Why it proved nothing.
    failure: Option<ReadFailure>,
}

/// What an operator is told about a group's evidence. Proves nothing to a reader.
struct Told {
    /// Ages that answers stated.
    ages: Worst,
    /// Whether it has kept up.
    probation: Probation,
    /// The youngest moment whose visibility was ever proven. Unlike the evidence itself it outlives
    /// a change of term: how far a replica is behind does not become unknown because its leader
    /// changed.
    visible_at: Option<BootInstant>,
}

/// How far behind a replica is, as somebody found who checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Now; `None`: nothing was proven since the start.
    pub now: Option<Duration>,
    /// The worst of the time of probation; `None`: it was unknown once, or nobody looked.
    pub worst: Option<Duration>,
}

struct Shared {
    slots: Vec<Slot>,
    clock: Arc<dyn Clock>,
    client: Arc<PeerClient>,
    wake: Notify,
    /// Somebody asks for [`Freshener::probation`].
    watch: Notify,
    nonce: AtomicU64,
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
        let slots = groups.into_iter().map(|(group, indexer)| Slot {
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
                probation: Probation::new(clock.boot()),
                visible_at: None,
            }),
        });
        let shared = Arc::new(Shared {
            slots: slots.collect(),
            clock,
            client,
            wake: Notify::new(),
            watch: Notify::new(),
            nonce: AtomicU64::new(1),
        });
        runtime::spawn(run(shared.clone()));
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

fn millis(at: BootInstant) -> u64 {
    at.since(BootInstant::default()).as_millis() as u64
}

/// Rounded up: a wish must not be granted by a proof from a fraction of a microsecond before it.
fn micros(at: BootInstant) -> u64 {
    at.since(BootInstant::default()).as_nanos().div_ceil(1000) as u64
}

impl Shared {
    fn slot(&self, group: GroupId) -> &Slot {
        &self.slots[group.0 as usize]
    }
}

impl Slot {
    /// The tracker, after it was told what happened since the last look.
    fn current(&self) -> std::sync::MutexGuard<'_, Freshness> {
        let breaks = self.group.state().breaks();
        let term = self.group.term();
        let mut tracker = self.tracker.lock().unwrap_or_else(PoisonError::into_inner);
        if self.breaks_seen.swap(breaks, Ordering::AcqRel) != breaks {
            tracker.drop_evidence();
        }
        tracker.see_term(term);
        tracker
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, ticket: Ticket, index: LogIndex, term: Term, applied: LogIndex) {
        let mut tracker = self.current();
        tracker.confirm(ticket, index, term);
        tracker.prune(applied);
        let visible = tracker.visible_at(applied);
        drop(tracker);
        let mut told = self.told();
        told.visible_at = told.visible_at.max(visible);
    }

    /// When the next probe is due: `None` while nobody reads.
    fn due(&self, now: BootInstant) -> Option<Duration> {
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

    fn finish(
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

/// Who is asked: this node's own quorum, or a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Own,
    Peer(NodeId),
    Nobody,
}

async fn run(shared: Arc<Shared>) {
    let busy: Arc<Mutex<BTreeSet<Target>>> = Arc::default();
    loop {
        let now = shared.clock.boot();
        let mut due: BTreeMap<Target, Vec<u32>> = BTreeMap::new();
        let mut next: Option<Duration> = None;
        for (number, slot) in shared.slots.iter().enumerate() {
            match slot.due(now) {
                Some(Duration::ZERO) => {
                    due.entry(target(slot)).or_default().push(number as u32);
                }
                Some(wait) => next = Some(next.map_or(wait, |n| n.min(wait))),
                None => {}
            }
        }
        for (target, groups) in due {
            // One on its way: when it ends it wakes us, and what is due then goes with the next.
            if !busy.lock().unwrap_or_else(PoisonError::into_inner).insert(target) {
                continue;
            }
            let (shared, busy) = (shared.clone(), busy.clone());
            runtime::spawn(async move {
                let failed = probe(&shared, target, &groups).await;
                if failed {
                    runtime::sleep(RETRY).await;
                }
                busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&target);
                shared.wake.notify_one();
            });
        }
        match next {
            // A wake-up that comes first is as good.
            Some(wait) => drop(runtime::timeout(wait, shared.wake.notified()).await),
            None => shared.wake.notified().await,
        }
    }
}

fn target(slot: &Slot) -> Target {
    match slot.group.leader_address() {
        None => Target::Nobody,
        Some((id, _)) if id == slot.group.node_id() => Target::Own,
        Some((id, _)) => Target::Peer(id),
    }
}

/// Probes, and tells everybody who waits. True if any group got no proof.
async fn probe(shared: &Shared, target: Target, groups: &[u32]) -> bool {
    let slots: Vec<&Slot> = groups.iter().map(|g| &shared.slots[*g as usize]).collect();
    // Before anything leaves this node.
    let tickets: Vec<Ticket> =
        slots.iter().map(|slot| slot.current().probe(shared.clock.boot())).collect();
    let answers: Vec<Result<(LogIndex, Term), ReadFailure>> = match target {
        Target::Nobody => vec![Err(ReadFailure::NotLeader(None)); slots.len()],
        Target::Own => {
            let rounds = slots.iter().map(|slot| async {
                if planted::is("no_leadership_confirmation") {
                    let vitals = slot.group.vitals();
                    return Ok((vitals.commit_index, vitals.term));
                }
                let point = slot.indexer.read_index().await?;
                Ok((point.index, point.term))
            });
            futures::future::join_all(rounds).await
        }
        Target::Peer(_) => ask_peer(shared, groups, &slots).await,
    };
    let now = shared.clock.boot();
    let failed = answers.iter().any(Result::is_err);
    for ((slot, ticket), answer) in slots.iter().zip(tickets).zip(answers) {
        slot.finish(ticket, answer, now);
    }
    failed
}

async fn ask_peer(
    shared: &Shared,
    groups: &[u32],
    slots: &[&Slot],
) -> Vec<Result<(LogIndex, Term), ReadFailure>> {
    // The leader may have changed since the target was chosen.
    let leader = slots[0].group.leader();
    let nobody = |_: &&Slot| Err(ReadFailure::NotLeader(None));
    let Some((id, address)) = slots[0].group.leader_address() else {
        return slots.iter().map(nobody).collect();
    };
    let to = PeerAddress { node_id: id, address };
    let nonce = shared.nonce.fetch_add(1, Ordering::Relaxed);
    match shared.client.probe(&to, nonce, groups.to_vec(), probe::TIMEOUT).await {
        Ok(answers) => {
            let mut answers: BTreeMap<u32, _> = answers.into_iter().collect();
            groups
                .iter()
                .map(|group| match answers.remove(group) {
                    Some(Ok(read)) => Ok((LogIndex(read.read_index), Term(read.term))),
                    Some(Err(refusal)) if refusal.leader.is_some() => {
                        Err(ReadFailure::NotLeader(leader.clone()))
                    }
                    Some(Err(_)) | None => Err(ReadFailure::NoQuorum),
                })
                .collect()
        }
        Err(error) => {
            tracing::debug!(peer = id, %error, "a read probe failed");
            slots.iter().map(|_| Err(ReadFailure::NoQuorum)).collect()
        }
    }
}
