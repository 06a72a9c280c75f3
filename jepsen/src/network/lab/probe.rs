//! Each fault of a lab, tried on real packets between two hosts: for `doctor`, and for the tests of
//! the lab itself.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen_core::ids::Node;

use super::{Caller, Lab, PEER_PORT};
use crate::network::{Condition, Gate};

/// A link of the pair, or its opposite.
pub(super) type Link = (Caller, Node);
pub(super) const THERE: Link = (Caller::Node(Node(1)), Node(2));
pub(super) const BACK: Link = (Caller::Node(Node(2)), Node(1));

/// What is dropped does not arrive within this.
pub(super) const SOON: Duration = Duration::from_millis(300);
/// What is not dropped arrives within this, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two hosts, each with somebody who says back what he hears.
#[derive(Debug)]
pub(super) struct Pair(pub Lab);

impl Pair {
    pub(super) fn new() -> Result<Self> {
        let lab = Lab::build(2)?;
        for node in [Node(1), Node(2)] {
            let address = lab.of_node(node, PEER_PORT);
            let listen = || TcpListener::bind(address);
            let listener = lab.hosts[node.0 as usize - 1].within(listen)??;
            // Its threads end with the program, which is soon.
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    std::thread::spawn(move || say_back(stream));
                }
            });
        }
        Ok(Self(lab))
    }

    pub(super) fn dial(&self, link: Link) -> Result<TcpStream> {
        Ok(self.dial_within(link, PATIENCE)?)
    }

    pub(super) fn dial_within(&self, link: Link, within: Duration) -> std::io::Result<TcpStream> {
        let (Caller::Node(from), to) = link else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let address = self.0.of_node(to, PEER_PORT);
        let dial = || TcpStream::connect_timeout(&address, within);
        self.0.hosts[from.0 as usize - 1].within(dial).map_err(std::io::Error::other)?
    }

    pub(super) fn set(&self, links: &[Link], condition: &Condition) -> Result<()> {
        self.0.set(Some((links, condition)))
    }

    pub(super) fn held(&self, link: Link) -> Result<u64> {
        Ok(self.0.traffic(&[link])?[0].held_calls)
    }
}

fn say_back(mut stream: TcpStream) {
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
}

pub(super) fn echo(stream: &mut TcpStream) -> std::io::Result<Duration> {
    echo_within(stream, PATIENCE)
}

pub(super) fn echo_within(stream: &mut TcpStream, within: Duration) -> std::io::Result<Duration> {
    let start = Instant::now();
    stream.set_read_timeout(Some(within))?;
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])?;
    Ok(start.elapsed())
}

pub(super) fn timed_out(result: std::io::Result<impl Sized>) -> bool {
    let kind = result.err().map(|why| why.kind());
    matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

pub(super) fn calls(gate: Gate) -> Condition {
    Condition { calls: gate, ..Condition::default() }
}

/// Calls of one direction are dropped, those of the other pass, and healing heals.
///
/// # Errors
/// What does not work.
pub fn one_way() -> Result<String> {
    let pair = Pair::new()?;
    let mut open = pair.dial(THERE)?;
    echo(&mut open)?;
    pair.set(&[THERE], &calls(Gate::Hold))?;
    ensure!(timed_out(echo_within(&mut open, SOON)), "a call passed that was to be dropped");
    ensure!(timed_out(pair.dial_within(THERE, SOON)), "a connection was made");
    echo(&mut pair.dial(BACK)?).context("the other direction")?;
    ensure!(pair.held(THERE)? >= 2 && pair.held(BACK)? == 0, "the counters say otherwise");
    pair.0.set(None)?;
    // What was written in vain is sent again by TCP.
    open.set_read_timeout(Some(PATIENCE))?;
    open.read_exact(&mut [0; 5]).context("after healing")?;
    pair.dial(THERE)?;
    Ok("calls of one direction were dropped, and arrived after healing".to_owned())
}

/// A pair is cut both ways; and calls are refused at once.
///
/// # Errors
/// What does not work.
pub fn partition() -> Result<String> {
    let pair = Pair::new()?;
    let mut open = pair.dial(THERE)?;
    pair.set(&[THERE, BACK], &calls(Gate::Hold))?;
    for link in [THERE, BACK] {
        ensure!(timed_out(pair.dial_within(link, SOON)), "a connection was made");
        ensure!(pair.held(link)? > 0, "the counters saw nothing");
    }
    pair.0.set(None)?;
    pair.set(&[THERE], &calls(Gate::Reset))?;
    let refused = pair.dial_within(THERE, PATIENCE).err().map(|why| why.kind());
    ensure!(refused == Some(ErrorKind::ConnectionRefused), "dialling gave {refused:?}");
    let reset = echo(&mut open).err().map(|why| why.kind());
    ensure!(reset == Some(ErrorKind::ConnectionReset), "an open connection gave {reset:?}");
    ensure!(pair.0.traffic(&[THERE])?[0].reset >= 2, "the counters saw nothing");
    Ok("packets were dropped both ways, and refused with a reset".to_owned())
}

/// Replies are dropped, calls arrive.
///
/// # Errors
/// What does not work.
pub fn reply_loss() -> Result<String> {
    let pair = Pair::new()?;
    let mut open = pair.dial(THERE)?;
    pair.set(&[THERE], &Condition { replies: Gate::Lose, ..Condition::default() })?;
    ensure!(timed_out(echo_within(&mut open, SOON)), "a reply arrived");
    echo(&mut pair.dial(BACK)?).context("the other direction")?;
    pair.dial(THERE).context("a handshake carries no data")?;
    let traffic = pair.0.traffic(&[THERE, BACK])?;
    ensure!(traffic[0].held_replies > 0 && traffic[1].held_replies == 0, "counters: {traffic:?}");
    Ok("a call was answered and the answer dropped".to_owned())
}

/// Packets of a slow link take longer, and no longer when it is healed.
///
/// # Errors
/// What does not work.
pub fn slow() -> Result<String> {
    let pair = Pair::new()?;
    let mut open = pair.dial(THERE)?;
    let delay = Duration::from_millis(40);
    pair.set(&[THERE], &Condition { delay, ..Condition::default() })?;
    let took = echo(&mut open)?;
    ensure!(took >= 2 * delay, "40 ms each way took only {took:?}");
    ensure!(pair.0.traffic(&[THERE])?[0].delayed >= 2, "the counters saw nothing");
    pair.0.set(None)?;
    let mut best = PATIENCE;
    for _ in 0..20 {
        best = best.min(echo(&mut open)?);
    }
    ensure!(best < delay, "a healed link took {best:?}");
    Ok(format!("40 ms each way took {} ms, healed {} us", took.as_millis(), best.as_micros()))
}
