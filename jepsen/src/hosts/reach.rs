//! Whether packets get where they are to go: a firewall of the user's looks like a dead cluster.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen_core::ids::Node;

use super::{
    Fleet, Host,
    error::{HostError, Why},
    ssh::{Dialled, GREETING},
};
use crate::network::{Caller, Condition, Gate};

/// Within one host an answer comes at once, or never.
pub(super) const LOCAL_ANSWER: Duration = Duration::from_secs(5);

/// A node that was just started may take so long to listen, and a packet to be sent again.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

/// Waits until every node can be called by all others, and by clients from here.
pub(super) fn all(hosts: &[Host], port: u16) -> Result<(), HostError> {
    let start = Instant::now();
    let left = || LISTENS_WITHIN.saturating_sub(start.elapsed()).max(LOCAL_ANSWER);
    for to in hosts {
        let blocked = |from: &str, port: u16, said: String| HostError {
            host: to.name.clone(),
            why: Why::Blocked { from: from.to_owned(), to: format!("{}:{port}", to.address), said },
        };
        // First from itself: what fails there is no firewall's doing.
        let others = hosts.iter().filter(|from| from.name != to.name);
        for from in std::iter::once(to).chain(others) {
            loop {
                let dialled = from.ssh.dial(to.address, port + 1, left());
                match dialled.map_err(|why| HostError { host: from.name.clone(), why })? {
                    Dialled::Answered => break,
                    Dialled::Failed(_) if start.elapsed() < LISTENS_WITHIN => {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    Dialled::Failed(said) => return Err(blocked(&from.name, port + 1, said)),
                    Dialled::Silent => {
                        let said = "it hears nothing".to_owned();
                        return Err(blocked(&from.name, port + 1, said));
                    }
                }
            }
        }
        dial(to.address, port, left())
            .map_err(|error| blocked("this machine", port, error.to_string()))?;
    }
    Ok(())
}

/// Calls from here, as clients do.
fn dial(address: Ipv4Addr, port: u16, within: Duration) -> std::io::Result<()> {
    dial_at((address, port).into(), within)
}

fn dial_at(address: SocketAddr, within: Duration) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, within)?;
    stream.set_read_timeout(Some(within))?;
    stream.write_all(GREETING)?;
    stream.read_exact(&mut [0])
}

/// What is dropped does not arrive within this.
const SOON: Duration = Duration::from_millis(1500);

/// Each cut of a link, tried on the packets of nodes that run: between the first two hosts, and between
/// the first and this machine. What worked, or what did not.
pub(super) fn try_cuts(fleet: &Fleet) -> Result<Vec<(&'static str, String)>> {
    let (there, back) = ((Caller::Node(Node(1)), Node(2)), (Caller::Node(Node(2)), Node(1)));
    let clients = (Caller::Clients, Node(1));
    let calls = |gate| Condition { calls: gate, ..Condition::default() };
    let lost = Condition { replies: Gate::Lose, ..Condition::default() };
    let port = fleet.of_node(Node(1), 1).port();
    let call = |(from, to): (Caller, Node)| -> Result<Dialled, Why> {
        let address = fleet.hosts[to.0 as usize - 1].address;
        match from {
            Caller::Node(from) => fleet.hosts[from.0 as usize - 1].ssh.dial(address, port, SOON),
            Caller::Clients => Ok(match dial(address, port - 1, SOON) {
                Ok(()) => Dialled::Answered,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    Dialled::Failed(error.to_string())
                }
                Err(_) => Dialled::Silent,
            }),
        }
    };
    let mut worked = Vec::new();

    fleet.set(Some((&[there], &calls(Gate::Hold))))?;
    ensure!(call(there)? == Dialled::Silent, "a call passed that was to be dropped");
    ensure!(call(back)? == Dialled::Answered, "the other direction's calls were dropped, too");
    ensure!(fleet.traffic(&[there])?[0].held_calls > 0, "the counters saw nothing");
    worked.push(("one direction's calls", "dropped, and the other's answered".to_owned()));

    fleet.set(None)?;
    fleet.set(Some((&[there, back], &calls(Gate::Hold))))?;
    for link in [there, back] {
        ensure!(call(link)? == Dialled::Silent, "a call passed between two that were cut off");
    }
    fleet.set(None)?;
    fleet.set(Some((&[there], &calls(Gate::Reset))))?;
    let refused = call(there)?;
    ensure!(matches!(refused, Dialled::Failed(_)), "a call was to be refused: {refused:?}");
    ensure!(fleet.traffic(&[there])?[0].reset > 0, "the counters saw nothing");
    worked.push(("partitions", "dropped both ways, and refused with a reset".to_owned()));

    fleet.set(None)?;
    fleet.set(Some((&[there, clients], &lost)))?;
    for link in [there, clients] {
        ensure!(call(link)? == Dialled::Silent, "an answer passed that was to be lost");
        ensure!(fleet.traffic(&[link])?[0].held_replies > 0, "the counters saw nothing");
    }
    dial_at(fleet.observed(Node(1)), LISTENS_WITHIN)
        .context("the runner's own way was cut, too")?;
    worked.push(("lost replies", "to a node and to clients here, not to the runner".to_owned()));

    fleet.set(None)?;
    for link in [there, back, clients] {
        ensure!(call(link)? == Dialled::Answered, "a link was not whole again");
    }
    worked.push(("healing", "all calls answered again".to_owned()));
    Ok(worked)
}
