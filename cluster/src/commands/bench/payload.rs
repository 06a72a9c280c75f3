//! Values to send: random, so that nothing on the way can compress them.

use bytes::Bytes;
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};

/// Distinct values are windows into one buffer: making one costs no copy and no random numbers.
#[derive(Clone)]
pub struct Payload {
    pool: Bytes,
    size: usize,
}

/// Bytes of different windows.
const POOL_BYTES: usize = 1 << 20;

impl Payload {
    /// Values of `size` bytes.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let mut pool = vec![0; POOL_BYTES + size];
        SmallRng::from_os_rng().fill_bytes(&mut pool);
        Self { pool: pool.into(), size }
    }

    /// Bytes of a value.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The next value.
    pub fn next(&self, rng: &mut SmallRng) -> Bytes {
        self.window(rng.random_range(0..POOL_BYTES))
    }

    /// The value that belongs to key (or record) number `n`: always the same, so that what comes
    /// back can be checked against what was put.
    #[must_use]
    pub fn of(&self, n: u64) -> Bytes {
        // A prime stride visits every window before it repeats one.
        const STRIDE: u64 = 7919;
        self.window((n.wrapping_mul(STRIDE) % POOL_BYTES as u64) as usize)
    }

    fn window(&self, at: usize) -> Bytes {
        self.pool.slice(at..at + self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_value_and_neighbours_differ() {
        let payload = Payload::new(64);
        for n in [0, 1, 12_345, u64::MAX] {
            assert_eq!(payload.of(n), payload.of(n));
            assert_ne!(payload.of(n), payload.of(n.wrapping_add(1)));
        }
    }
}
