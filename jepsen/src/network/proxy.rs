//! One listener, and the two pumps of each of its connections.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quorate_jepsen_core::{ids::Node, seed::Seed};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    Shared, caller,
    link::{Condition, Gate, Link, Way},
};

/// Largest read.
const CHUNK: usize = 64 * 1024;

/// Chunks on their way; more than the product of any delay here and what a test sends.
const ON_THE_WAY: usize = 256;

pub(super) async fn run(listener: TcpListener, node: Node, to: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // A connection that cannot be accepted was reset by its caller, or descriptors ran out
        // for a moment; either way the next one may do.
        let Ok((stream, from)) = listener.accept().await else { continue };
        let shared = shared.clone();
        connections.spawn(async move {
            // Whatever goes wrong with a connection, both ends see it closed.
            let _ = connection(stream, from, node, to, &shared).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    node: Node,
    to: SocketAddr,
    shared: &Shared,
) -> std::io::Result<()> {
    let local = stream.local_addr()?;
    let Some(caller) = caller::find(from, local, &shared.pids())? else { return Ok(()) };
    let Some(link) = shared.link(caller, node) else { return Ok(()) };
    let mut condition = link.watch();
    // A handshake whose packets are dropped does not reach the other side.
    if !open(&mut condition, Way::Calls, &link).await {
        return refuse(&stream, &link);
    }
    let onward = match TcpStream::connect(to).await {
        Ok(onward) => onward,
        // The node is down: the caller is to see what it would see without a proxy.
        Err(_) => return refuse(&stream, &link),
    };
    stream.set_nodelay(true)?;
    onward.set_nodelay(true)?;
    let (from_caller, to_caller) = stream.into_split();
    let (from_node, to_node) = onward.into_split();
    let reset = {
        let mut condition = link.watch();
        async move { condition.wait_for(Condition::is_reset).await.is_ok() }
    };
    tokio::select! {
        _ = pump(from_caller, to_node, &link, Way::Calls) => {}
        _ = pump(from_node, to_caller, &link, Way::Replies) => {}
        true = reset => {
            link.counters.reset.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Closes with a reset, as a host does where nobody listens.
fn refuse(stream: &TcpStream, link: &Link) -> std::io::Result<()> {
    link.counters.reset.fetch_add(1, Ordering::Relaxed);
    stream.set_zero_linger()
}

/// Waits until the gate is open; false if the connection is to be reset instead.
async fn open(condition: &mut watch::Receiver<Condition>, way: Way, link: &Link) -> bool {
    let now = condition.borrow_and_update().clone();
    if now.is_reset() {
        return false;
    }
    if now.gate(way) == Gate::Open {
        return true;
    }
    held(link, way).fetch_add(1, Ordering::Relaxed);
    if now.gate(way) == Gate::Lose {
        // Its end, by another gate or by the proxy's own.
        let _ = condition.wait_for(|c| c.gate(way) != Gate::Lose).await;
        return false;
    }
    match condition.wait_for(|c| c.is_reset() || c.gate(way) == Gate::Open).await {
        Ok(condition) => !condition.is_reset(),
        Err(_) => false,
    }
}

fn held(link: &Link, way: Way) -> &AtomicU64 {
    match way {
        Way::Calls => &link.counters.held_calls,
        Way::Replies => &link.counters.held_replies,
    }
}

/// Carries one direction until either end is closed.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: &Link,
    way: Way,
) -> std::io::Result<()> {
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let mut condition = link.watch();
    let mut reads = link.watch();
    let reading = async move {
        // Jitter needs no replay: it has no say in what is done, only in when.
        let mut seed = Seed::new(std::ptr::from_ref(link) as u64);
        let mut last = Instant::now();
        loop {
            let mut bytes = vec![0; CHUNK];
            let count = from.read(&mut bytes).await?;
            bytes.truncate(count);
            let now = reads.borrow_and_update().clone();
            let mut wait = now.delay;
            if !now.jitter.is_zero() {
                wait += Duration::from_micros(seed.below(now.jitter.as_micros() as u64 + 1));
            }
            // In order, whatever the jitter.
            let mut at = last.max(Instant::now() + wait);
            if now.bytes_per_s > 0 {
                at += Duration::from_secs_f64(count as f64 / now.bytes_per_s as f64);
            }
            if !wait.is_zero() || now.bytes_per_s > 0 {
                link.counters.delayed.fetch_add(1, Ordering::Relaxed);
            }
            last = at;
            if queue.send((at, bytes)).await.is_err() || count == 0 {
                return Ok::<(), std::io::Error>(());
            }
        }
    };
    let writing = async {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if bytes.is_empty() || !open(&mut condition, way, link).await {
                break;
            }
            to.write_all(&bytes).await?;
            link.counters.passed.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), std::io::Error>(())
    };
    // The end of one direction is the end of the connection: HTTP/2 uses no half-closed ones. What
    // was read before it is still delivered.
    tokio::pin!(writing);
    tokio::select! {
        written = &mut writing => return written,
        read = reading => read?,
    }
    writing.await
}
