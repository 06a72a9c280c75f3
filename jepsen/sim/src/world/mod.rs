//! The one world of a run: its time, its network, and which hosts are up. It belongs to the run's
//! thread; everything in it happens in the order of (tick, number).
//!
//! A tick is a millisecond of the world's time. Hosts have clocks of their own ([`crate::host`]).
//! What is posted is a closure that runs at the other end: at a later tick, if the link is not cut
//! and the host has not died meanwhile; while that host is paused, it waits.

mod arrival;
mod conn;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
};

use quorate_jepsen_core::{ids::Moment, seed::Seed};

use crate::trace::Trace;
pub use arrival::deliver;
use conn::Conn;
pub use conn::{ConnId, close, lost_host, on_break, open, send};

/// A host: 0 is where the clients are, the others are nodes.
pub type HostId = u64;

/// Where the clients are.
pub const CLIENTS: HostId = 0;

/// What runs at the other end.
pub type Deliver = Box<dyn FnOnce()>;

/// One direction between two hosts.
#[derive(Clone, Debug)]
pub struct Link {
    /// Nothing gets through.
    pub cut: bool,
    /// Of a thousand messages, so many are lost.
    pub loss_per_mille: u64,
    /// Of a thousand requests, so many arrive twice.
    pub twice_per_mille: u64,
    /// Shortest and longest way, in ticks.
    pub delay: (u64, u64),
}

impl Default for Link {
    fn default() -> Self {
        Self { cut: false, loss_per_mille: 0, twice_per_mille: 0, delay: (1, 2) }
    }
}

struct Packet {
    from: HostId,
    to: HostId,
    /// Of the receiver, when it was sent: a process that was started since gets nothing of it.
    life: Option<u64>,
    conn: Option<ConnId>,
    deliver: Deliver,
}

/// Whether a host is up.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    /// Its process runs.
    pub up: bool,
    /// It is powered: one that is not answers nothing, one that only died refuses connections.
    pub powered: bool,
    /// It is stopped until this tick.
    pub paused_until: Option<u64>,
    /// Counts its starts.
    pub life: u64,
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Messages delivered.
    pub delivered: u64,
    /// Messages that never arrived.
    pub lost: u64,
    /// Requests that arrived twice.
    pub twice: u64,
}

struct World {
    tick: u64,
    /// Moments given out within this tick.
    moments: u64,
    seed: Seed,
    queue: BTreeMap<(u64, u64), Packet>,
    number: u64,
    links: BTreeMap<(HostId, HostId), Link>,
    conns: BTreeMap<ConnId, Conn>,
    hosts: BTreeMap<HostId, Presence>,
    traffic: Traffic,
    trace: Trace,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    static CURRENT: Cell<HostId> = const { Cell::new(CLIENTS) };
}

fn with<T>(f: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(|world| f(world.as_mut().expect("the run's thread has a world")))
}

/// Begins a world in this thread.
pub fn begin(seed: &Seed, trace: Trace) {
    let world = World {
        tick: 0,
        moments: 0,
        seed: seed.fork("network"),
        queue: BTreeMap::new(),
        number: 0,
        links: BTreeMap::new(),
        conns: BTreeMap::new(),
        hosts: BTreeMap::new(),
        traffic: Traffic::default(),
        trace,
    };
    WORLD.set(Some(world));
}

/// Ends it, and answers with what happened.
#[must_use]
pub fn end() -> (Traffic, Trace) {
    let world = WORLD.take().expect("the run's thread has a world");
    (world.traffic, world.trace)
}

/// The world's time, in milliseconds.
#[must_use]
pub fn tick() -> u64 {
    with(|w| w.tick)
}

/// Now, later than every moment before.
#[must_use]
pub fn moment() -> Moment {
    with(|w| {
        w.moments += 1;
        assert!(w.moments < 1_000_000, "a tick has a million moments");
        Moment(w.tick * 1_000_000 + w.moments)
    })
}

/// Adds a line to the trace.
pub fn trace(what: fmt::Arguments<'_>) {
    with(|w| w.trace.line(w.tick, what));
}

/// Which host's code runs.
#[must_use]
pub fn current() -> HostId {
    CURRENT.get()
}

/// From here on that host's code runs.
pub fn enter(host: HostId) {
    CURRENT.set(host);
}

/// Changes what is known of a host.
pub fn set_presence(host: HostId, change: impl FnOnce(&mut Presence)) {
    with(|w| change(w.hosts.entry(host).or_default()));
}

/// What is known of a host.
#[must_use]
pub fn presence(host: HostId) -> Presence {
    with(|w| w.hosts.get(&host).cloned().unwrap_or_default())
}

/// Changes a link.
pub fn set_link(from: HostId, to: HostId, change: impl FnOnce(&mut Link)) {
    with(|w| change(w.links.entry((from, to)).or_default()));
}

/// All links are as at the beginning.
pub fn heal_links() {
    with(|w| w.links.clear());
}

impl World {
    fn link(&self, from: HostId, to: HostId) -> Link {
        self.links.get(&(from, to)).cloned().unwrap_or_default()
    }

    /// When something sent now arrives; `None` if it never does.
    fn way(&mut self, from: HostId, to: HostId) -> Option<u64> {
        let link = self.link(from, to);
        let lost = link.cut || self.seed.below(1000) < link.loss_per_mille;
        let (least, most) = link.delay;
        let takes = least + self.seed.below(most - least + 1);
        (!lost).then_some(self.tick + takes)
    }

    fn push(&mut self, at: u64, packet: Packet) {
        self.number += 1;
        self.queue.insert((at, self.number), packet);
    }

    fn life(&self, host: HostId) -> u64 {
        self.hosts.get(&host).map_or(0, |presence| presence.life)
    }
}

/// Sends a message on its own. It may get lost without a word.
pub fn post(from: HostId, to: HostId, deliver: impl FnOnce() + 'static) {
    with(|w| match w.way(from, to) {
        Some(at) => {
            let life = Some(w.life(to));
            let deliver = Box::new(deliver);
            w.push(at, Packet { from, to, life, conn: None, deliver });
        }
        None => w.traffic.lost += 1,
    });
}

/// Would a request sent now arrive twice?
#[must_use]
pub fn twice(from: HostId, to: HostId) -> bool {
    with(|w| {
        let per_mille = w.link(from, to).twice_per_mille;
        let twice = w.seed.below(1000) < per_mille;
        w.traffic.twice += u64::from(twice);
        twice
    })
}

/// Does something on `host` after so many ticks, if it lives on until then.
pub fn after(host: HostId, ticks: u64, what: impl FnOnce() + 'static) {
    with(|w| {
        let packet = Packet {
            from: host,
            to: host,
            life: Some(w.life(host)),
            conn: None,
            deliver: Box::new(what),
        };
        w.push(w.tick + ticks, packet);
    });
}

/// A random number below `bound`, of the network's and disks' dice.
#[must_use]
pub fn dice(bound: u64) -> u64 {
    with(|w| w.seed.below(bound))
}

/// A stopped process goes on. What waited for it is read socket by socket, each in its order, but
/// not all at once: what it does meanwhile comes before some of it. What a node sent outside of
/// connections is all in one socket; of clients there are many.
pub fn resumed(host: HostId) {
    /// Ticks until the last of its sockets has been read.
    const WITHIN: u64 = 6;
    with(|w| {
        let now = w.tick;
        let waits = |at: u64, packet: &Packet| {
            packet.to == host && packet.from != host && at <= now + WITHIN
        };
        let waiting: Vec<_> =
            w.queue.iter().filter(|((at, _), p)| waits(*at, p)).map(|(key, _)| *key).collect();
        let mut read_at: BTreeMap<(HostId, Option<ConnId>), u64> = BTreeMap::new();
        for key in waiting {
            let packet = w.queue.remove(&key).expect("found above");
            let later = now + w.seed.below(WITHIN + 1);
            let at = if packet.from == CLIENTS {
                later
            } else {
                *read_at.entry((packet.from, packet.conn)).or_insert(later)
            };
            w.queue.insert((at.max(key.0), key.1), packet);
        }
        for ((_, conn), at) in read_at {
            if let Some(conn) = conn.and_then(|conn| w.conns.get_mut(&conn)) {
                let side = usize::from(conn.ends[1].0 != host);
                conn.last[side] = conn.last[side].max(at);
            }
        }
    });
}

/// Moves time on by one tick.
pub fn advance() {
    with(|w| {
        w.tick += 1;
        w.moments = 0;
    });
}
