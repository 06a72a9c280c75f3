//! The slow lane: packets of slow links leave the kernel, wait here, and go back in order.
//!
//! The kernel of many machines has no `netem`. A queue of the packet filter is in all of them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::Ipv4Addr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nfq::{Message, Queue, Verdict};
use quorate_jepsen_core::seed::Seed;

use super::{CLIENT_PORT, PEER_PORT, namespace::Namespace};
use crate::network::{
    Condition,
    firewall::{self, Hosts},
};

/// The queue of the packet filter; namespaces have queues of their own.
pub(super) const QUEUE: u16 = 51;

/// Enough of a packet for addresses and ports.
const HEAD: u16 = 80;

/// Packets that may wait: some seconds of a busy cluster. Beyond, the kernel drops, as a real link.
const ROOM: u32 = 1 << 16;

/// Between two looks at the queue while links are slow: what delays may be off by.
const LOOK_EVERY: Duration = Duration::from_micros(300);

/// Packets may sit in the kernel's queue when the last slow link is healed.
const LINGER: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
struct State {
    links: BTreeMap<Hosts, Condition>,
    delayed: BTreeMap<Hosts, u64>,
    /// Why nothing is carried any more.
    broken: Option<String>,
    ending: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries packets of slow links until it is dropped.
#[derive(Debug)]
pub(super) struct SlowLane {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl SlowLane {
    /// Opens the queue in the router.
    ///
    /// # Errors
    /// The kernel has no such queues, or it cannot be fed.
    pub(super) fn open(router: &Namespace) -> Result<Self> {
        let queue = router.within(|| -> std::io::Result<Queue> {
            let mut queue = Queue::open()?;
            queue.bind(QUEUE)?;
            queue.set_copy_range(QUEUE, HEAD)?;
            queue.set_queue_max_len(QUEUE, ROOM)?;
            // What the kernel keeps in one piece stays in one piece.
            queue.set_recv_gso(QUEUE, true)?;
            queue.set_nonblocking(true);
            Ok(queue)
        })?;
        let queue = queue.context("a queue of the packet filter")?;
        let mark = format!("{:#x}", firewall::SLOW_MARK);
        let number = QUEUE.to_string();
        let rule = ["-A", "FORWARD", "-m", "mark", "--mark", &mark, "-j", "NFQUEUE"];
        router.run("iptables", &[&rule[..], &["--queue-num", &number]].concat(), "")?;
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let thread = std::thread::spawn(move || {
            if let Err(why) = carry(queue, &seen) {
                seen.state().broken = Some(format!("{why:#}"));
            }
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now on these links are slow, and no others.
    pub(super) fn set(&self, links: BTreeMap<Hosts, Condition>) {
        self.shared.state().links = links;
        self.shared.changed.notify_all();
    }

    /// Packets of a link, of either way, that waited so far.
    ///
    /// # Errors
    /// The lane broke down.
    pub(super) fn delayed(&self, link: Hosts) -> Result<u64> {
        let state = self.shared.state();
        if let Some(why) = &state.broken {
            bail!("slow links: {why}");
        }
        Ok(state.delayed.get(&link).copied().unwrap_or_default())
    }
}

impl Drop for SlowLane {
    fn drop(&mut self) {
        self.shared.state().ending = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It ends without a word, or with one that nobody asks for any more.
            let _ = thread.join();
        }
    }
}

/// A packet on its way.
struct Waiting {
    due: Instant,
    /// In the order in which they came, where due at once.
    number: u64,
    packet: Message,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

fn carry(mut queue: Queue, shared: &Shared) -> Result<()> {
    // Jitter needs no replay: it has no say in what is done, only in when.
    let mut seed = Seed::new(u64::from(std::process::id()));
    let mut waiting: BinaryHeap<Reverse<Waiting>> = BinaryHeap::new();
    let mut last: BTreeMap<Hosts, Instant> = BTreeMap::new();
    let mut number = 0;
    let mut idle_since = Instant::now();
    loop {
        {
            let mut state = shared.state();
            while state.links.is_empty() && waiting.is_empty() && idle_since.elapsed() > LINGER {
                if state.ending {
                    return Ok(());
                }
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                idle_since = Instant::now();
            }
            if state.ending {
                return Ok(());
            }
        }
        loop {
            let packet = match queue.recv() {
                Ok(packet) => packet,
                Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(why) => return Err(why).context("receiving packets"),
            };
            idle_since = Instant::now();
            number += 1;
            let now = Instant::now();
            let due = match addressed(packet.get_payload()) {
                None => now,
                Some((ends, link)) => {
                    let mut state = shared.state();
                    let at = match state.links.get(&link) {
                        None => now,
                        Some(condition) => {
                            let at = now + wait(condition, packet.get_original_len(), &mut seed);
                            *state.delayed.entry(link).or_default() += 1;
                            at
                        }
                    };
                    // In order, whatever the jitter; and bytes queue up behind bytes.
                    let after = last.get(&ends).copied().unwrap_or(at);
                    let slowed = state.links.get(&link).map_or(0, |c| c.bytes_per_s);
                    let busy = transmission(packet.get_original_len(), slowed);
                    let at = at.max(after + busy);
                    last.insert(ends, at);
                    at
                }
            };
            waiting.push(Reverse(Waiting { due, number, packet }));
        }
        while waiting.peek().is_some_and(|Reverse(first)| first.due <= Instant::now()) {
            let Some(Reverse(mut first)) = waiting.pop() else { break };
            first.packet.set_verdict(Verdict::Accept);
            queue.verdict(first.packet).context("passing a packet on")?;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn wait(condition: &Condition, bytes: usize, seed: &mut Seed) -> Duration {
    let mut wait = condition.delay + transmission(bytes, condition.bytes_per_s);
    if !condition.jitter.is_zero() {
        wait += Duration::from_micros(seed.below(condition.jitter.as_micros() as u64 + 1));
    }
    wait
}

fn transmission(bytes: usize, bytes_per_s: u64) -> Duration {
    match bytes_per_s {
        0 => Duration::ZERO,
        rate => Duration::from_secs_f64(bytes as f64 / rate as f64),
    }
}

/// Source and destination of a TCP packet, and the link it is part of: who called whom.
fn addressed(packet: &[u8]) -> Option<(Hosts, Hosts)> {
    let first = *packet.first()?;
    let tcp = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || *packet.get(9)? != libc::IPPROTO_TCP as u8 {
        return None;
    }
    let address = |at: usize| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(octets.into())
    };
    let port = |at: usize| -> Option<u16> {
        Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
    };
    let (from, to) = (address(12)?, address(16)?);
    let serves = |port: u16| port == CLIENT_PORT || port == PEER_PORT;
    if serves(port(tcp + 2)?) {
        Some(((from, to), (from, to)))
    } else if serves(port(tcp)?) {
        Some(((from, to), (to, from)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from_port: u16, to_port: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend(from_port.to_be_bytes());
        packet.extend(to_port.to_be_bytes());
        packet
    }

    #[test]
    fn calls_and_replies_are_of_the_same_link() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(addressed(&packet(40_000, PEER_PORT)), Some(((a, b), (a, b))));
        assert_eq!(addressed(&packet(CLIENT_PORT, 40_000)), Some(((a, b), (b, a))));
        assert_eq!(addressed(&packet(40_000, 40_001)), None);
        assert_eq!(addressed(&packet(40_000, PEER_PORT)[..20]), None, "too short");
        assert_eq!(addressed(&[]), None);
    }

    #[test]
    fn a_narrow_link_takes_its_time() {
        let narrow = Condition { bytes_per_s: 1000, ..Condition::default() };
        let mut seed = Seed::new(1);
        assert_eq!(wait(&narrow, 500, &mut seed), Duration::from_millis(500));
        let far = Condition { delay: Duration::from_millis(20), ..Condition::default() };
        assert_eq!(wait(&far, 500, &mut seed), Duration::from_millis(20));
    }
}
