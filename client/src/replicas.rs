//! Which replica a read goes to: how the nodes did lately, and what follows from it. Pure: clock
//! and dice come in as arguments.
//!
//! A replica that is down, too stale for what was asked, or much slower than the others is
//! *ejected*: reads go elsewhere until it has answered a probe, which asks for just what it could
//! not give. One that is too stale is so only for reads that ask as much. Probes are sent only while somebody reads. When all are ejected, the one that is due
//! first is asked all the same: an error of a node is better than one of our own.

use std::time::Duration;

use crate::{
    consistency::{Consistency, Level},
    runtime::Instant,
    transport::Endpoint,
};

/// Where reads go, among the replicas that can serve them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// To the leader, as far as known.
    Leader,
    /// To all replicas in turn.
    Spread,
    /// To the replica that answers soonest, as measured.
    Nearest,
    /// To the replica with the fewest unanswered reads of this client.
    LeastLoaded,
    /// Always to the same one for the same key, as long as it is well: what it holds in memory
    /// for that key is used again. See [`Route::pinned_by`].
    Pinned(u64),
}

impl Route {
    /// [`Route::Pinned`] by a key: every client with the same endpoints chooses the same replica.
    #[must_use]
    pub fn pinned_by(key: impl AsRef<[u8]>) -> Self {
        Self::Pinned(fnv1a(key.as_ref()))
    }
}

/// Weight of a new measurement of a round trip.
const WEIGHT: f64 = 0.3;

/// [`Route::Nearest`] measures again after this long.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// A slow replica is measured again after this long.
const SLOW_EVERY: Duration = Duration::from_secs(1);

/// Slow: so many times the round trip of the best replica, and...
const SLOW_FACTOR: u32 = 4;

/// ...so much longer: below it, differences are no reason to take a replica's share away.
const SLOW_MARGIN: Duration = Duration::from_millis(50);

/// First ejection; doubles with every one in a row.
const EJECTED: Duration = Duration::from_millis(250);

/// Longest ejection before another probe.
const EJECTED_MAX: Duration = Duration::from_secs(15);

/// Why a replica is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It did not answer, or is about to stop.
    Down,
    /// It could not prove this bound on its age.
    Stale(Duration),
}

impl Why {
    /// Whether it holds for a read that asks for this bound.
    fn concerns(self, bound: Option<Duration>) -> bool {
        match self {
            Self::Down => true,
            Self::Stale(missed) => bound.is_some_and(|bound| bound <= missed),
        }
    }

    /// Whether it is news to somebody who knows the other.
    fn exceeds(self, known: Self) -> bool {
        match (self, known) {
            (_, Self::Down) => false,
            (Self::Down, Self::Stale(_)) => true,
            (Self::Stale(now), Self::Stale(known)) => now > known,
        }
    }
}

/// The age that a read can bear; `None`: any. What must reflect a position is for replicas that
/// keep up, whatever the age of the position: whoever lacked one lacks the next one, too.
pub(crate) fn bound(consistency: &Consistency) -> Option<Duration> {
    match consistency.level() {
        _ if consistency.has_positions() => Some(Duration::ZERO),
        // What the log says is not known here.
        Level::Linearizable | Level::OfLog => Some(Duration::ZERO),
        Level::Bounded(bound) => Some(bound),
        Level::Eventual => None,
    }
}

#[derive(Debug)]
struct Ejection {
    why: Why,
    /// When it may be probed.
    until: Instant,
    /// What it could not give.
    asked: Consistency,
}

#[derive(Debug)]
struct Replica {
    endpoint: Endpoint,
    /// Moving average, and when it moved last.
    round_trip: Option<(Duration, Instant)>,
    in_flight: u32,
    /// In a row.
    failures: u32,
    ejection: Option<Ejection>,
    probing: bool,
}

/// A probe to be sent; [`Replicas::probed`] must be told what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) endpoint: Endpoint,
    pub(crate) asks: Consistency,
}

#[derive(Debug, Default)]
pub(crate) struct Replicas {
    /// Only grows; never empty once in use.
    all: Vec<Replica>,
    turn: usize,
}

impl Replicas {
    pub(crate) fn add(&mut self, endpoint: Endpoint) {
        self.all.push(Replica {
            endpoint,
            round_trip: None,
            in_flight: 0,
            failures: 0,
            ejection: None,
            probing: false,
        });
    }

    /// Where to begin taking turns: clients that start together should not all go to the same one.
    pub(crate) fn begin_at(&mut self, turn: usize) {
        self.turn = turn;
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn first(&self) -> &Endpoint {
        &self.all[0].endpoint
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.all.iter().map(|replica| &replica.endpoint)
    }

    fn get(&mut self, endpoint: &Endpoint) -> Option<&mut Replica> {
        self.all.iter_mut().find(|replica| replica.endpoint == *endpoint)
    }

    /// Where the next read goes, which asks for this bound on its age; not to `failed`, unless
    /// there is nobody else.
    pub(crate) fn choose(
        &mut self,
        route: Route,
        bound: Option<Duration>,
        failed: Option<&Endpoint>,
    ) -> Endpoint {
        self.turn = self.turn.wrapping_add(1);
        let usable = self.usable(bound, failed);
        // Where several are equal, in turn.
        let in_turn =
            |at: &usize| (at + self.all.len() - self.turn % self.all.len()) % self.all.len();
        let round_trip = |at: &usize| self.all[*at].round_trip.map_or(Duration::MAX, |r| r.0);
        let best = match route {
            Route::Leader | Route::Spread => usable.into_iter().min_by_key(in_turn),
            Route::Nearest => usable.into_iter().min_by_key(|at| (round_trip(at), in_turn(at))),
            Route::LeastLoaded => {
                usable.into_iter().min_by_key(|at| (self.all[*at].in_flight, in_turn(at)))
            }
            // Rendezvous hashing: when a replica goes, only its keys move.
            Route::Pinned(key) => usable.into_iter().max_by_key(|at| {
                let name = fnv1a(self.all[*at].endpoint.as_str().as_bytes());
                mix(name ^ mix(key))
            }),
        };
        self.all[best.expect("there is always somebody to ask")].endpoint.clone()
    }

    /// Those that are well; or who is due first, when none is.
    fn usable(&self, bound: Option<Duration>, failed: Option<&Endpoint>) -> Vec<usize> {
        let others = |at: &usize| failed != Some(&self.all[*at].endpoint);
        let out = |at: usize| self.all[at].ejection.as_ref().is_some_and(|e| e.why.concerns(bound));
        let well: Vec<_> = (0..self.all.len()).filter(|at| others(at) && !out(*at)).collect();
        let quick: Vec<_> = well.iter().copied().filter(|at| !self.is_slow(*at)).collect();
        if !quick.is_empty() {
            return quick;
        }
        if !well.is_empty() {
            return well;
        }
        let due = |at: &usize| self.all[*at].ejection.as_ref().map(|ejection| ejection.until);
        let first = (0..self.all.len()).filter(others).min_by_key(due);
        vec![first.unwrap_or(0)]
    }

    /// Much slower than the best of those that are well.
    fn is_slow(&self, at: usize) -> bool {
        let Some((own, _)) = self.all[at].round_trip else { return false };
        let well = self.all.iter().filter(|replica| replica.ejection.is_none());
        let best = well.filter_map(|replica| replica.round_trip).map(|r| r.0).min().unwrap_or(own);
        own > best * SLOW_FACTOR && own > best + SLOW_MARGIN
    }

    /// Probes to send now. Each is handed out once.
    pub(crate) fn due(&mut self, route: Route, now: Instant) -> Vec<Probe> {
        let mut due = Vec::new();
        for at in 0..self.all.len() {
            let replica = &self.all[at];
            let older = |than| {
                replica.round_trip.is_none_or(|(_, moved)| now.duration_since(moved) >= than)
            };
            let asks = match &replica.ejection {
                _ if replica.probing => continue,
                Some(ejection) if ejection.until <= now => ejection.asked.clone(),
                None if self.is_slow(at) && older(SLOW_EVERY) => Consistency::eventual(),
                None if route == Route::Nearest && older(MEASURE_EVERY) => Consistency::eventual(),
                _ => continue,
            };
            due.push(Probe { endpoint: replica.endpoint.clone(), asks });
            self.all[at].probing = true;
        }
        due
    }

    /// A read begins.
    pub(crate) fn began(&mut self, endpoint: &Endpoint) {
        if let Some(replica) = self.get(endpoint) {
            replica.in_flight += 1;
        }
    }

    /// It is over, one way or the other.
    pub(crate) fn ended(&mut self, endpoint: &Endpoint) {
        if let Some(replica) = self.get(endpoint) {
            assert!(replica.in_flight > 0, "every end has its beginning");
            replica.in_flight -= 1;
        }
    }

    /// A read was answered; after `round_trip`, if nothing was waited for.
    pub(crate) fn answered(
        &mut self,
        endpoint: &Endpoint,
        round_trip: Option<Duration>,
        now: Instant,
    ) {
        let Some(replica) = self.get(endpoint) else { return };
        if let Some(sample) = round_trip {
            let average = replica
                .round_trip
                .map_or(sample, |(known, _)| known.mul_f64(1.0 - WEIGHT) + sample.mul_f64(WEIGHT));
            replica.round_trip = Some((average, now));
        }
        // An ejected one that was asked for want of a better is back only by a probe.
        if replica.ejection.is_none() {
            replica.failures = 0;
        }
    }

    /// It could not give what was `asked`.
    pub(crate) fn failed(
        &mut self,
        endpoint: &Endpoint,
        why: Why,
        asked: &Consistency,
        now: Instant,
        dice: f64,
    ) {
        let Some(replica) = self.get(endpoint) else { return };
        // Calls that were under way when it was ejected tell nothing new. Whether it is back, only
        // probes tell.
        if replica.ejection.as_ref().is_some_and(|known| !why.exceeds(known.why)) {
            return;
        }
        self.eject(endpoint, why, asked, now, dice);
    }

    fn eject(
        &mut self,
        endpoint: &Endpoint,
        why: Why,
        asked: &Consistency,
        now: Instant,
        dice: f64,
    ) {
        let Some(replica) = self.get(endpoint) else { return };
        replica.failures += 1;
        let doubled = EJECTED.saturating_mul(1 << (replica.failures - 1).min(16)).min(EJECTED_MAX);
        let until = now + doubled.mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0);
        replica.ejection = Some(Ejection { why, until, asked: asked.clone() });
    }

    /// What came of a probe: the round trip, or nothing.
    pub(crate) fn probed(
        &mut self,
        endpoint: &Endpoint,
        outcome: Option<Duration>,
        now: Instant,
        dice: f64,
    ) {
        let Some(replica) = self.get(endpoint) else { return };
        replica.probing = false;
        let ejection = replica.ejection.take();
        let Some(round_trip) = outcome else {
            let (why, asked) = match ejection {
                Some(Ejection { why, asked, .. }) => (why, asked),
                None => (Why::Down, Consistency::eventual()),
            };
            return self.eject(endpoint, why, &asked, now, dice);
        };
        let mut sample = Some(round_trip);
        if let Some(Ejection { asked, .. }) = ejection {
            // What it was like before it failed says nothing about what it is like now.
            replica.round_trip = None;
            // Proofs are waited for.
            sample = sample.filter(|_| asked == Consistency::eventual());
        }
        self.answered(endpoint, sample, now);
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Spreads the bits (the finalizer of SplitMix64).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "replicas_tests.rs"]
mod tests;
