//! What a log remembers of its producers, so that a repeated append answers with the original
//! offsets.
//!
//! A producer's last [`PRODUCER_WINDOW`] appends are remembered in two pieces: the newest ones
//! (fewer than [`CHUNK`]) in the *head*, which every append rewrites, and the older ones in
//! [`SLOTS`] *chunks* of [`CHUNK`] each, a ring, each written once. So an append rewrites tens of
//! bytes, not the whole window.
//!
//! A producer that appends nothing for [`PRODUCER_TTL_MS`] of log time is forgotten: an index by
//! hour of last use says who is due. Whether somebody has expired is decided by log time alone,
//! never by whether the sweep has come by.

use crate::{
    codec::{Input, Malformed, put_varint},
    limits::{PRODUCER_BUCKET_MS, PRODUCER_TTL_MS, PRODUCER_WINDOW},
    types::{Offset, Sequence, TimestampMs},
};

/// Appends in a chunk.
pub const CHUNK: u64 = 16;

/// Chunks in the ring.
pub const SLOTS: u64 = PRODUCER_WINDOW / CHUNK;

const FORMAT: u8 = 1;

/// One remembered append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Its records.
    pub count: u32,
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// CRC32C of its batch, to tell a retry from another batch under the same number.
    pub crc32c: u32,
}

/// The hour of `time`.
#[must_use]
pub fn bucket(time: TimestampMs) -> u64 {
    time.0 / PRODUCER_BUCKET_MS
}

/// Buckets below this are expired at `log_time`.
#[must_use]
pub fn first_live_bucket(log_time: TimestampMs) -> u64 {
    bucket(log_time).saturating_sub(PRODUCER_TTL_MS / PRODUCER_BUCKET_MS)
}

/// A producer's head row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The next sequence to come.
    pub next: u64,
    /// The hour of its last append; its place in the expiry index.
    pub bucket: u64,
    /// The appends since the last full chunk, oldest first: `next % CHUNK` of them.
    pub recent: Vec<Remembered>,
}

/// Where a remembered append is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the head, at this position.
    Head(usize),
    /// In this slot of the ring, at this position.
    Slot(u8, usize),
    /// Forgotten: below the window.
    Forgotten,
}

impl Head {
    /// Where the append with a sequence below `next` is.
    #[must_use]
    pub fn place(&self, sequence: Sequence) -> Place {
        assert!(sequence.0 < self.next, "only what was appended has a place");
        if self.next - sequence.0 > PRODUCER_WINDOW {
            return Place::Forgotten;
        }
        let position = (sequence.0 % CHUNK) as usize;
        if sequence.0 / CHUNK == self.next / CHUNK {
            Place::Head(position)
        } else {
            Place::Slot((sequence.0 / CHUNK % SLOTS) as u8, position)
        }
    }

    /// Remembers the append with sequence `next`. Answers with the chunk that is full now, and its
    /// slot.
    pub fn push(&mut self, append: Remembered) -> Option<(u8, Vec<u8>)> {
        let slot = (self.next / CHUNK % SLOTS) as u8;
        self.recent.push(append);
        self.next += 1;
        (self.next.is_multiple_of(CHUNK)).then(|| {
            let mut out = vec![FORMAT];
            put_all(&mut out, &self.recent);
            self.recent.clear();
            (slot, out)
        })
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.recent.len() * 16);
        out.push(FORMAT);
        put_varint(&mut out, self.next);
        put_varint(&mut out, self.bucket);
        put_all(&mut out, &self.recent);
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`Malformed`] if it is damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        input.version(FORMAT)?;
        let (next, bucket) = (input.varint()?, input.varint()?);
        let recent = all(&mut input, (next % CHUNK) as usize)?;
        input.end()?;
        Ok(Self { next, bucket, recent })
    }
}

/// Reads a stored chunk.
///
/// # Errors
/// [`Malformed`] if it is damaged or of another version.
pub fn decode_chunk(bytes: &[u8]) -> Result<Vec<Remembered>, Malformed> {
    let mut input = Input(bytes);
    input.version(FORMAT)?;
    let appends = all(&mut input, CHUNK as usize)?;
    input.end()?;
    Ok(appends)
}

/// Offsets and timestamps never fall from one append of a producer to its next, so differences are
/// small.
fn put_all(out: &mut Vec<u8>, appends: &[Remembered]) {
    let (mut offset, mut time) = (0, 0);
    for append in appends {
        put_varint(out, append.first_offset.0 - offset);
        put_varint(out, u64::from(append.count));
        put_varint(out, append.timestamp.0 - time);
        out.extend_from_slice(&append.crc32c.to_le_bytes());
        (offset, time) = (append.first_offset.0, append.timestamp.0);
    }
}

fn all(input: &mut Input<'_>, count: usize) -> Result<Vec<Remembered>, Malformed> {
    const RANGE: Malformed = Malformed("a remembered append beyond its range");
    let mut appends = Vec::with_capacity(count);
    let (mut offset, mut time) = (0_u64, 0_u64);
    for _ in 0..count {
        offset = offset.checked_add(input.varint()?).ok_or(RANGE)?;
        let count = u32::try_from(input.varint()?).map_err(|_| RANGE)?;
        time = time.checked_add(input.varint()?).ok_or(RANGE)?;
        offset.checked_add(u64::from(count)).ok_or(RANGE)?;
        appends.push(Remembered {
            first_offset: Offset(offset),
            count,
            timestamp: TimestampMs(time),
            crc32c: input.u32()?,
        });
    }
    Ok(appends)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn append(n: u64) -> Remembered {
        Remembered {
            first_offset: Offset(n * 3),
            count: 3,
            timestamp: TimestampMs(1000 + n),
            crc32c: n as u32,
        }
    }

    #[test]
    fn the_window_is_remembered_exactly() {
        let mut head = Head::default();
        let mut ring = BTreeMap::new();
        for n in 0..300 {
            if let Some((slot, chunk)) = head.push(append(n)) {
                ring.insert(slot, chunk);
            }
            let back = Head::decode(&head.encode()).unwrap();
            assert_eq!(back, head);
            for sequence in 0..head.next {
                let found = match head.place(Sequence(sequence)) {
                    Place::Head(at) => Some(head.recent[at]),
                    Place::Slot(slot, at) => Some(decode_chunk(&ring[&slot]).unwrap()[at]),
                    Place::Forgotten => None,
                };
                let expected = (sequence + PRODUCER_WINDOW >= head.next).then(|| append(sequence));
                assert_eq!(found, expected, "sequence {sequence} of {}", head.next);
            }
        }
        assert!(ring.len() as u64 <= SLOTS);
        assert!(head.encode().len() < 200);
    }

    #[test]
    fn expiry_is_rounded_up_to_whole_hours() {
        let day = PRODUCER_TTL_MS;
        let used = TimestampMs(10 * PRODUCER_BUCKET_MS + 1);
        let live = |now: u64| bucket(used) >= first_live_bucket(TimestampMs(now));
        assert!(live(used.0 + day), "a whole day");
        assert!(live(11 * PRODUCER_BUCKET_MS + day - 1));
        assert!(!live(11 * PRODUCER_BUCKET_MS + day));
    }

    #[test]
    fn cut_rows_are_refused() {
        let mut head = Head::default();
        (0..5).for_each(|n| drop(head.push(append(n))));
        let bytes = head.encode();
        for cut in 0..bytes.len() {
            assert!(Head::decode(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}
