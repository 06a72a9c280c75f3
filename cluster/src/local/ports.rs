//! Free ports on loopback.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

use rand::Rng;

/// Below the range from which the kernel draws ports for outgoing connections (32768 and up), so
/// that none of those sits on a port while its server is being started again.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// Places tried before giving up: most of the range is free on any machine.
const ATTEMPTS: usize = 1000;

/// What this process was given already; servers bind late, so looking alone would give the same
/// ports twice.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// The first of `count` consecutive ports that nobody listens on. Between the look and the server's
/// own bind somebody else could take one; the random place makes that unlikely.
#[must_use]
pub fn free(count: u16) -> Option<u16> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let first = (0..ATTEMPTS)
        .map(|_| rand::rng().random_range(RANGE.start..RANGE.end - count))
        .find(|&first| (first..first + count).all(|p| !taken.contains(&p) && is_free(p)))?;
    taken.extend(first..first + count);
    Some(first)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let blocks: Vec<u16> = (0..20).map(|_| free(50).expect("room for 50 ports")).collect();
        for (i, a) in blocks.iter().enumerate() {
            assert!(blocks[..i].iter().all(|b| a.abs_diff(*b) >= 50), "{blocks:?}");
        }
    }

    #[test]
    fn a_port_in_use_is_not_given() {
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        assert!(!is_free(busy.local_addr().expect("its address").port()));
    }
}
