//! Loopback ports for a cluster.
//!
//! Taken in blocks, as many as it takes side by side, below the range from which the kernel draws client ports, so that no connection
//! sits on a port while its node is down; a locked file a block keeps other test processes off.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::AsRawFd as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use quorate_jepsen_core::ids::Node;

const FIRST: u16 = 12_000;
const BLOCK: u16 = 32;
const BLOCKS: u16 = 600;
/// Of a node: client, peer, HTTP, and a proxy for each of the first two.
const EACH: u16 = 5;

/// Ports that are this cluster's for as long as it lives.
#[derive(Debug)]
pub(super) struct PortBlock {
    base: u16,
    _locks: Vec<File>,
}

impl PortBlock {
    /// Takes blocks in which every port of `nodes` nodes is free.
    pub(super) fn take(nodes: usize) -> Result<Self> {
        let ports = EACH * u16::try_from(nodes).context("so many nodes")?;
        let blocks = ports.div_ceil(BLOCK);
        // A folder a user: what root has made, others cannot open.
        // SAFETY: geteuid always succeeds and touches no memory.
        let user = unsafe { libc::geteuid() };
        let locks = std::env::temp_dir().join(format!("quorate-jepsen-ports-{user}"));
        std::fs::create_dir_all(&locks).with_context(|| format!("creating {}", locks.display()))?;
        // Starting at different places keeps parallel runs from queueing at the first locks.
        let start = (std::process::id() % u32::from(BLOCKS)) as u16;
        for number in (0..BLOCKS).map(|n| (start + n) % BLOCKS) {
            if number + blocks > BLOCKS {
                continue;
            }
            let taken = (number..number + blocks).map(|block| lock(&locks, block));
            let Some(taken) = taken.collect::<Result<Option<Vec<_>>>>()? else { continue };
            let base = FIRST + number * BLOCK;
            if (base..base + ports).all(is_free) {
                return Ok(Self { base, _locks: taken });
            }
        }
        bail!("no free block of ports between {FIRST} and {}", FIRST + BLOCKS * BLOCK)
    }

    fn address(&self, node: Node, which: u16) -> SocketAddr {
        let port = self.base + EACH * (node.0 as u16 - 1) + which;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    pub(super) fn client(&self, node: Node) -> SocketAddr {
        self.address(node, 0)
    }

    pub(super) fn peer(&self, node: Node) -> SocketAddr {
        self.address(node, 1)
    }

    pub(super) fn http(&self, node: Node) -> SocketAddr {
        self.address(node, 2)
    }

    pub(super) fn client_proxy(&self, node: Node) -> SocketAddr {
        self.address(node, 3)
    }

    pub(super) fn peer_proxy(&self, node: Node) -> SocketAddr {
        self.address(node, 4)
    }
}

/// The lock of a block; none, if another process has it.
fn lock(locks: &Path, block: u16) -> Result<Option<File>> {
    let path = locks.join(block.to_string());
    let lock = File::options().create(true).write(true).truncate(false).open(&path)?;
    // SAFETY: the descriptor is open and owned by `lock`.
    let taken = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    Ok(taken.then_some(lock))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_never_share_a_port() {
        let (a, b) = (PortBlock::take(3).unwrap(), PortBlock::take(3).unwrap());
        assert!(a.base.abs_diff(b.base) >= BLOCK);
        let many = PortBlock::take(18).unwrap();
        let (first, last) = (many.client(Node(1)).port(), many.peer_proxy(Node(18)).port());
        for other in [a.base, b.base] {
            assert!(other + BLOCK <= first || other > last, "{other} in {first}..={last}");
        }
    }
}
