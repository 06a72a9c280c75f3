//! Rolling digests. They are chains: equal digests mean equal histories, and the first difference
//! stays visible for ever after.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::{
    keys::BatchKey,
    types::{Digest, LogPoint},
};

fn of(hasher: &Xxh3) -> Digest {
    Digest(hasher.digest128().to_be_bytes())
}

/// Of some bytes on their own.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> Digest {
    Digest(xxh3_128(bytes).to_be_bytes())
}

/// The group's digest behind an entry: `decided` is what its commands asked and came to, with the
/// rows of the logs they changed.
#[must_use]
pub fn of_entry(before: Digest, at: LogPoint, decided: &[u8]) -> Digest {
    let mut hasher = Xxh3::new();
    hasher.update(&before.0);
    hasher.update(&at.term.0.to_le_bytes());
    hasher.update(&at.index.0.to_le_bytes());
    hasher.update(decided);
    of(&hasher)
}

/// A log's digest behind a batch: where it went, and every byte of it.
#[must_use]
pub fn of_batch(before: Digest, key: &BatchKey, stored: &[u8]) -> Digest {
    let mut hasher = Xxh3::new();
    hasher.update(&before.0);
    hasher.update(&key.key());
    // One pass over the large part with the fast one-shot function.
    hasher.update(&xxh3_128(stored).to_le_bytes());
    of(&hasher)
}
