//! All hosts together: what a cluster wants of them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen_core::ids::Node;

use super::{
    Host, HostError, HostErrors, Request, Sockets, Why, hash, keeper::Heart, own_address, reach,
    rules,
};
use crate::network::{
    Caller, Condition, Traffic,
    firewall::{self, Hosts, Set},
};

const NODE: &str = include_str!("node.sh");

/// Hosts of the user's, in the order of their nodes' ids. When this is dropped nothing of ours runs or
/// filters there any more.
#[derive(Debug)]
pub struct Fleet {
    // Dropped in this order: signs of life, keepers and connections, sockets.
    _heart: Heart,
    pub(super) hosts: Vec<Host>,
    _sockets: Sockets,
    port: u16,
    /// Whom clients' calls seem to come from, seen from here and from there.
    clients: Vec<Ipv4Addr>,
    links: Mutex<BTreeMap<Hosts, Condition>>,
    hashes: Mutex<BTreeMap<PathBuf, String>>,
}

impl Fleet {
    /// Connects to hosts, makes sure that they will do, and leaves a keeper on each. The thread that
    /// calls this must outlive all use of them.
    ///
    /// # Errors
    /// Some will not do: [`HostErrors`] says which, why, and what to do.
    pub fn connect(request: &Request) -> Result<Self> {
        let sockets = Sockets::make().context("a folder for ssh's sockets")?;
        let hosts = super::hosts(request, &sockets.0)?;
        let heart = Heart::start(hosts.iter().map(|host| host.keeper.clone()).collect());
        let seen = hosts.iter().flat_map(|host| [own_address(host.address), host.survey.from()]);
        let mut clients: Vec<_> = seen.flatten().collect();
        clients.sort_unstable();
        clients.dedup();
        let mut fleet = Self {
            _heart: heart,
            hosts,
            _sockets: sockets,
            port: request.port,
            clients,
            links: Mutex::default(),
            hashes: Mutex::default(),
        };
        // A host that we hop over is no client.
        let nodes = fleet.addresses();
        fleet.clients.retain(|client| !nodes.contains(client));
        fleet.set_up().map_err(|HostError { host, why }| HostError {
            host,
            why: match why {
                Why::Failed { said, .. } => Why::OldFilter(said),
                why => why,
            },
        })?;
        Ok(fleet)
    }

    /// How many nodes there is room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.hosts.len()
    }

    /// Each host in few words, for people.
    #[must_use]
    pub fn described(&self) -> Vec<(String, String)> {
        let describe = |host: &Host| {
            let said = |key| host.survey.get(key);
            let root = if said("root") == "sudo" { "by sudo" } else { "root" };
            let (machine, nft, on) = (said("machine"), said("nft"), said("on"));
            let what = format!("{}, {machine}, {root}, {nft}, {} on {on}", host.address, host.base);
            (host.name.clone(), what)
        };
        self.hosts.iter().map(describe).collect()
    }

    fn host(&self, node: Node) -> &Host {
        &self.hosts[node.0 as usize - 1]
    }

    fn addresses(&self) -> Vec<Ipv4Addr> {
        self.hosts.iter().map(|host| host.address).collect()
    }

    /// One of the three ports of a node: for clients, for nodes, for HTTP.
    ///
    /// # Panics
    /// There is no such node.
    #[must_use]
    pub fn of_node(&self, node: Node, which: u16) -> SocketAddr {
        (self.host(node).address, self.port + which).into()
    }

    /// Where the runner asks a node, past all faults.
    ///
    /// # Panics
    /// There is no such node.
    #[must_use]
    pub fn observed(&self, node: Node) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.host(node).observed).into()
    }

    /// A node's data on its host.
    ///
    /// # Panics
    /// There is no such node.
    #[must_use]
    pub fn data_dir(&self, node: Node) -> PathBuf {
        format!("{}/run/data", self.host(node).base).into()
    }

    /// Sees to it that every host has this program; its name there, which is its hash.
    ///
    /// # Errors
    /// It does not run on a host.
    pub fn install(&self, program: &Path) -> Result<String> {
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hash) = hashes.get(program) {
            return Ok(hash.clone());
        }
        let hash = hash(program)?;
        let mut errors = Vec::new();
        for host in &self.hosts {
            if let Err(why) = host.install(program, &hash) {
                errors.push(HostError { host: host.name.clone(), why });
            }
        }
        ensure!(errors.is_empty(), HostErrors(errors));
        // Hosts keep one program.
        *hashes = BTreeMap::from([(program.to_owned(), hash.clone())]);
        Ok(hash)
    }

    /// Makes room for a run: empty folders, whole links.
    ///
    /// # Errors
    /// A host cannot.
    pub fn begin(&self) -> Result<()> {
        self.same("emptying its folder", "begin")?;
        self.set(None)
    }

    /// A life of a node. Its config is to come on standard input; when the command ends, the node has.
    ///
    /// # Panics
    /// There is no such node.
    #[must_use]
    pub fn node(&self, node: Node, program: &str, env: &[(String, String)]) -> Command {
        let host = self.host(node);
        let env: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let words = ["sh", "-c", NODE, "quorate-jepsen-node", &host.base, program];
        host.ssh
            .command(&words.into_iter().chain(env.iter().map(String::as_str)).collect::<Vec<_>>())
    }

    /// Sends a signal to a node's process, once it has one.
    ///
    /// # Errors
    /// No process runs, or the host is gone.
    pub fn signal(&self, nodes: &[Node], signal: i32) -> Result<()> {
        let name = match signal {
            libc::SIGKILL => "KILL",
            libc::SIGTERM => "TERM",
            libc::SIGSTOP => "STOP",
            libc::SIGCONT => "CONT",
            other => anyhow::bail!("no name for signal {other}"),
        };
        let line = format!("signal {name}");
        let hosts = nodes.iter().map(|node| (self.host(*node), line.clone())).collect();
        Ok(at_once("signalling its node", hosts).map(drop)?)
    }

    /// What the kernel of its host says of a node's process: see `State` in proc(5).
    ///
    /// # Errors
    /// No process runs, or the host is gone.
    pub fn state(&self, node: Node) -> Result<String> {
        let host = self.host(node);
        Ok(host.keeper.ask("asking for its process", "state").map_err(|why| host.error(why))?)
    }

    /// Waits until every node can be called by all others, and by clients from here.
    ///
    /// # Errors
    /// One can't.
    pub fn reachable(&self, nodes: usize) -> Result<(), HostError> {
        reach::all(&self.hosts[..nodes.min(self.hosts.len())], self.port)
    }

    /// Tries each cut of a link on nodes that run; what was seen.
    ///
    /// # Errors
    /// What did not work.
    pub fn try_cuts(&self) -> Result<Vec<(&'static str, String)>> {
        reach::try_cuts(self)
    }

    /// Removes the data of all nodes.
    ///
    /// # Errors
    /// A host cannot.
    pub fn remove_data(&self) -> Result<()> {
        self.same("removing data", "remove")
    }

    /// Sets the data of all nodes aside, where it stays: where, or why not.
    #[must_use]
    pub fn keep_data(&self, name: &str) -> Vec<Result<String, HostError>> {
        let line = format!("aside kept-{name}");
        let keep = |host: &Host| match host.keeper.ask("setting data aside", &line) {
            Ok(_) => Ok(format!("{}:{}/kept-{name}", host.name, host.base)),
            Err(why) => Err(host.error(why)),
        };
        self.hosts.iter().map(keep).collect()
    }

    fn same(&self, what: &'static str, line: &str) -> Result<()> {
        let all = self.hosts.iter().map(|host| (host, line.to_owned())).collect();
        Ok(at_once(what, all).map(drop)?)
    }

    fn callers(&self, caller: Caller) -> Vec<Ipv4Addr> {
        match caller {
            Caller::Node(node) => vec![self.host(node).address],
            Caller::Clients => self.clients.clone(),
        }
    }

    fn hosts_of(&self, link: &(Caller, Node)) -> Vec<Hosts> {
        let to = self.host(link.1).address;
        self.callers(link.0).into_iter().map(|from| (from, to)).collect()
    }

    /// Our table on each host, empty.
    fn set_up(&self) -> Result<(), HostError> {
        let ports = format!("{{ {}, {} }}", self.port, self.port + 1);
        let line = format!("rules {}", rules::table(&ports));
        at_once("setting up rules", self.hosts.iter().map(|host| (host, line.clone())).collect())
            .map(drop)
    }

    /// Puts links into this condition; `None` for all links as good as new.
    ///
    /// # Errors
    /// A host cannot, or the condition is one that packet filters have no word for.
    pub fn set(&self, changed: Option<(&[(Caller, Node)], &Condition)>) -> Result<()> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        match changed {
            None => links.clear(),
            Some((changed, condition)) => {
                for hosts in changed.iter().flat_map(|link| self.hosts_of(link)) {
                    links.insert(hosts, condition.clone());
                }
            }
        }
        let elements = firewall::elements(&links);
        ensure!(
            !elements.keys().any(|(set, _)| *set == Set::Slow),
            "packet filters of hosts make no link slow"
        );
        let nodes = self.addresses();
        let rules = |host: &Host| rules::commands(&elements, host.address, &nodes);
        let all = self.hosts.iter().map(|host| (host, format!("rules {}", rules(host)))).collect();
        Ok(at_once("changing its rules", all).map(drop)?)
    }

    /// What the conditions of these links have done since links were last changed.
    ///
    /// # Errors
    /// A host does not say.
    pub fn traffic(&self, links: &[(Caller, Node)]) -> Result<Vec<Traffic>> {
        let all = self.hosts.iter().map(|host| (host, "counters".to_owned())).collect();
        let mut counted: BTreeMap<(Set, Hosts), u64> = BTreeMap::new();
        for said in at_once("asking for its counters", all)? {
            for (element, packets) in firewall::counted(&said)? {
                *counted.entry(element).or_default() += packets;
            }
        }
        let packets = |set, hosts| counted.get(&(set, hosts)).copied().unwrap_or_default();
        let of_link = |link: &(Caller, Node)| {
            let mut traffic = Traffic::default();
            for (from, to) in self.hosts_of(link) {
                traffic.held_calls +=
                    packets(Set::Calls, (from, to)) + packets(Set::Apart, (from, to));
                traffic.held_replies += packets(Set::Replies, (to, from));
                traffic.reset += packets(Set::Refused, (from, to));
            }
            traffic
        };
        Ok(links.iter().map(of_link).collect())
    }
}

impl Host {
    fn error(&self, why: Why) -> HostError {
        HostError { host: self.name.clone(), why }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The keeper tidies up while it is connected.
        self.keeper.talk().end();
    }
}

/// Says a line to each of these hosts before it waits for any of them; their answers.
fn at_once(what: &'static str, all: Vec<(&Host, String)>) -> Result<Vec<String>, HostError> {
    let mut talks: Vec<_> = all.iter().map(|(host, _)| host.keeper.talk()).collect();
    let mut first = None;
    let mut answers = Vec::new();
    let mut said = Vec::new();
    for (talk, (host, line)) in talks.iter_mut().zip(&all) {
        said.push(talk.say(line).map_err(|why| host.error(why)));
    }
    // Whoever was told something answers, whatever became of the others.
    for ((talk, (host, _)), said) in talks.iter_mut().zip(&all).zip(said) {
        match said.and_then(|()| talk.answer(what).map_err(|why| host.error(why))) {
            Ok(answer) => answers.push(answer),
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        None => Ok(answers),
        Some(error) => Err(error),
    }
}
