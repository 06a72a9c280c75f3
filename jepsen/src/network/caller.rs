//! Which process is at the other end of a local connection.

use std::{collections::BTreeMap, fs, io, net::SocketAddr};

use quorate_jepsen_core::ids::Node;

use super::Caller;

/// Finds the caller of a connection by its socket's inode. `None` if it is gone already.
pub(super) fn find(
    from: SocketAddr,
    to: SocketAddr,
    pids: &BTreeMap<Node, u32>,
) -> io::Result<Option<Caller>> {
    let Some(inode) = inode(&fs::read_to_string("/proc/net/tcp")?, from, to) else {
        return Ok(None);
    };
    let wanted = format!("socket:[{inode}]");
    let holds = |pid: u32| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == &*wanted))
    };
    let node = pids.iter().find(|(_, pid)| holds(**pid)).map(|(node, _)| Caller::Node(*node));
    Ok(Some(node.unwrap_or(Caller::Clients)))
}

/// Addresses there are hexadecimal, the IP in the order of the machine's bytes.
fn hex(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}

fn inode(table: &str, from: SocketAddr, to: SocketAddr) -> Option<u64> {
    let (from, to) = (hex(from)?, hex(to)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        // Then: st, tx_queue:rx_queue, tr:when, retrnsmt, uid, timeout, inode.
        let inode = fields.nth(6)?;
        (local == from && remote == to).then(|| inode.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        process,
    };

    use super::*;

    #[test]
    fn this_process_is_found_by_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (from, to) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let here = BTreeMap::from([(Node(2), 1), (Node(7), process::id())]);
        assert_eq!(find(from, to, &here).unwrap(), Some(Caller::Node(Node(7))));
        let elsewhere = BTreeMap::from([(Node(2), u32::MAX)]);
        assert_eq!(find(from, to, &elsewhere).unwrap(), Some(Caller::Clients));
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(find(nobody, to, &here).unwrap(), None);
    }
}
