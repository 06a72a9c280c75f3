//! A network of hosts on one machine: a namespace each, joined by a router in a namespace of its
//! own, which drops, refuses and slows packets as a real one would. Needs root, `ip` and `nft`.
//!
//! A router and not a bridge, because a bridge's packet filter cannot answer with a reset on many
//! kernels, and a router's can. No address here is known outside: the machine's own network is
//! neither used nor changed.
//!
//! The runner itself is a host, too, with two addresses: its clients' calls come from one and meet
//! faults; its own questions come from the other and never do.

mod namespace;
pub mod probe;
mod slow;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen_core::ids::Node;

use self::{namespace::Namespace, slow::SlowLane};
use super::{
    Caller, Condition, Traffic,
    firewall::{self, Hosts, Set},
};

/// Where every node answers clients.
pub const CLIENT_PORT: u16 = 7101;
/// Where every node answers nodes.
pub const PEER_PORT: u16 = 7102;
/// Where every node answers HTTP.
pub const HTTP_PORT: u16 = 7103;

/// The router's table.
const TABLE: &str = "quorate";

/// The runner's host; nodes count from 1.
const RUNNER: u8 = 100;

/// Of 198.18.0.0/15, which is set aside for tests of networks: `host` is the third byte.
const fn address(host: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, host, last)
}

/// Hosts and the router between them. They last as long as this value or a process in them.
#[derive(Debug)]
pub struct Lab {
    router: Namespace,
    runner: Namespace,
    hosts: Vec<Namespace>,
    links: Mutex<BTreeMap<Hosts, Condition>>,
    /// Opened when links are slow for the first time.
    slow: OnceLock<SlowLane>,
}

impl Lab {
    /// Builds a network of so many hosts for nodes.
    ///
    /// # Errors
    /// Not root, or a tool or something of the kernel is missing.
    pub fn build(hosts: u8) -> Result<Self> {
        ensure!(hosts < RUNNER, "a lab has room for {} hosts", RUNNER - 1);
        let lab = Self {
            router: Namespace::new()?,
            runner: Namespace::new()?,
            hosts: (0..hosts).map(|_| Namespace::new()).collect::<Result<_>>()?,
            links: Mutex::default(),
            slow: OnceLock::new(),
        };
        let forward = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        lab.router.within(forward)?.context("letting the router forward packets")?;
        lab.router.run("ip", &["-batch", "-"], &lab.cables())?;
        for (host, namespace) in lab.all() {
            let more = if host == RUNNER { vec![address(host, 3)] } else { Vec::new() };
            let mut text = "link set lo up\nlink set eth0 up\n".to_owned();
            // The first address is the one that calls come from unless they ask for another.
            for own in [vec![address(host, 2)], more].concat() {
                writeln!(text, "addr add {own}/29 dev eth0").expect("a String takes everything");
            }
            writeln!(text, "route add default via {}", address(host, 1))
                .expect("a String takes everything");
            namespace.run("ip", &["-batch", "-"], &text)?;
        }
        lab.router.run("nft", &["-f", "-"], &table())?;
        Ok(lab)
    }

    fn all(&self) -> impl Iterator<Item = (u8, &Namespace)> {
        (1..).zip(&self.hosts).chain([(RUNNER, &self.runner)])
    }

    /// A cable from the router to each host, and the router's addresses.
    fn cables(&self) -> String {
        let mut text = "link set lo up\n".to_owned();
        for (host, namespace) in self.all() {
            let (end, own) = (namespace.path(), address(host, 1));
            write!(
                text,
                "link add h{host} type veth peer name eth0 netns {end}\n\
                 addr add {own}/29 dev h{host}\nlink set h{host} up\n"
            )
            .expect("a String takes everything");
        }
        text
    }

    /// Moves this thread to the runner's host, and with it all threads it starts from now on: to be
    /// called before there are others.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(&self) -> Result<()> {
        self.runner.enter().context("entering the runner's network")
    }

    /// Lets a command run on a node's host.
    ///
    /// # Panics
    /// There is no such host.
    pub fn hold(&self, node: Node, command: &mut Command) {
        self.hosts[node.0 as usize - 1].hold(command);
    }

    /// How many nodes there is room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.hosts.len()
    }

    /// A port of a node.
    ///
    /// # Panics
    /// There is no such node.
    #[must_use]
    pub fn of_node(&self, node: Node, port: u16) -> SocketAddr {
        assert!((1..=self.hosts.len() as u64).contains(&node.0), "the lab has no host n{node}");
        (Self::host(Caller::Node(node)), port).into()
    }

    /// Where the runner's own questions come from: no fault hits them.
    #[must_use]
    pub fn observer(&self) -> IpAddr {
        address(RUNNER, 3).into()
    }

    fn host(caller: Caller) -> Ipv4Addr {
        match caller {
            Caller::Node(node) => address(node.0 as u8, 2),
            Caller::Clients => address(RUNNER, 2),
        }
    }

    /// Makes sure that links can be slow; they can't on every kernel.
    ///
    /// # Errors
    /// Here they can't.
    pub fn open_slow_lane(&self) -> Result<()> {
        if self.slow.get().is_none() {
            let lane = SlowLane::open(&self.router)?;
            self.slow.get_or_init(|| lane);
        }
        Ok(())
    }

    /// Puts links into this condition, all at once; `None` for all links as good as new.
    pub(super) fn set(&self, changed: Option<(&[(Caller, Node)], &Condition)>) -> Result<()> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        match changed {
            None => links.clear(),
            Some((changed, condition)) => {
                for (from, to) in changed {
                    let hosts = (Self::host(*from), Self::host(Caller::Node(*to)));
                    links.insert(hosts, condition.clone());
                }
            }
        }
        let elements = firewall::elements(&links);
        if elements.keys().any(|(set, _)| *set == Set::Slow) {
            self.open_slow_lane()?;
        }
        if let Some(lane) = self.slow.get() {
            let slow = |c: &Condition| c.bytes_per_s > 0 || !(c.delay + c.jitter).is_zero();
            let slow = links.iter().filter(|(_, condition)| slow(condition));
            lane.set(slow.map(|(hosts, condition)| (*hosts, condition.clone())).collect());
        }
        self.router.run("nft", &["-f", "-"], &firewall::commands(TABLE, &elements))?;
        Ok(())
    }

    /// What the conditions of these links have done since links were last changed.
    pub(super) fn traffic(&self, links: &[(Caller, Node)]) -> Result<Vec<Traffic>> {
        let said = self.router.run("nft", &["-j", "list", "table", "inet", TABLE], "")?;
        let counted = firewall::counted(&said)?;
        let packets = |set, hosts| counted.get(&(set, hosts)).copied().unwrap_or_default();
        let of_link = |(from, to): &(Caller, Node)| -> Result<Traffic> {
            let link = (Self::host(*from), Self::host(Caller::Node(*to)));
            let delayed = self.slow.get().map(|lane| lane.delayed(link)).transpose()?;
            Ok(Traffic {
                passed: 0,
                held_calls: packets(Set::Calls, link) + packets(Set::Apart, link),
                held_replies: packets(Set::Replies, (link.1, link.0)),
                delayed: delayed.unwrap_or_default(),
                reset: packets(Set::Refused, link),
            })
        };
        links.iter().map(of_link).collect()
    }
}

/// What the router does with what it forwards: with empty sets, nothing.
fn table() -> String {
    let ports = format!("{{ {CLIENT_PORT}, {PEER_PORT} }}");
    // Marks come first: the slow lane's rule sits at priority 0, behind all of this.
    let chain = format!(
        "chain forward {{ type filter hook forward priority -10; policy accept;\n\
         ip saddr . ip daddr @apart drop\n{}\
         ip saddr . ip daddr @slow meta mark set {}\n}}\n",
        firewall::one_way(&ports),
        firewall::SLOW_MARK,
    );
    firewall::table(TABLE, &chain)
}

#[cfg(test)]
mod tests;
