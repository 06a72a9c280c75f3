//! Every stored key.
//!
//! | table    | key                                                             | value                        |
//! |----------|-----------------------------------------------------------------|------------------------------|
//! | local    | `!` `f`                                                         | format version of the store  |
//! | local    | `!` `m`                                                         | Raft membership, opaque here |
//! | group    | `G`                                                             | [`crate::values::GroupMeta`] |
//! | log      | `L` name                                                        | [`crate::values::LogMeta`]   |
//! | name     | `N` incarnation                                                 | the log's name               |
//! | batch    | `B` incarnation, last offset, timestamp, bytes before           | part ([`crate::entry`])      |
//! | producer | `P` incarnation, producer id                                    | [`crate::dedupe`] head       |
//! | chunk    | `Q` incarnation, producer id, slot u8                           | [`crate::dedupe`] chunk      |
//! | expiry   | `X` incarnation, bucket, producer id                            | empty                        |
//! | mark     | `D` log index                                                   | [`crate::values::DigestMark`]|
//! | term     | `T` log index of the first entry of a term                      | the term, u64 big-endian     |
//!
//! Numbers are big-endian u64, so that byte order is number order. *Local* keys differ between
//! replicas and are in no digest; all others are functions of the entries applied.
//!
//! A batch is keyed by its *last* offset, so a seek to any offset lands on the batch that holds it;
//! what apply decided about a batch is in the key, because the value is a slice of the Raft entry.
//! "Bytes before" is the running total of batch bytes in the log before this batch, trimmed ones
//! included: what a trim frees is a difference of two totals, not a scan.

use smallvec::SmallVec;

use crate::{
    codec::{Input, Malformed},
    types::{Incarnation, LogIndex, Offset, ProducerId, TimestampMs},
};

/// A stored key. Only long log names leave the inline space.
pub type Key = SmallVec<[u8; 40]>;

/// Table of the local keys.
pub const LOCAL: u8 = b'!';
/// Table of the group's own row.
pub const GROUP: u8 = b'G';
/// Table of logs.
pub const LOG: u8 = b'L';
/// Table of names by incarnation.
pub const NAME: u8 = b'N';
/// Table of batches.
pub const BATCH: u8 = b'B';
/// Table of producers.
pub const PRODUCER: u8 = b'P';
/// Table of producers' older appends.
pub const CHUNK: u8 = b'Q';
/// Table of producers by expiry.
pub const EXPIRY: u8 = b'X';
/// Table of digest marks.
pub const MARK: u8 = b'D';
/// Table of terms by their first entry.
pub const TERM: u8 = b'T';

fn key<const N: usize>(table: u8, numbers: [u64; N]) -> Key {
    let mut key = Key::new();
    key.push(table);
    numbers.iter().for_each(|n| key.extend_from_slice(&n.to_be_bytes()));
    key
}

/// Where the store's format version is.
#[must_use]
pub fn format() -> Key {
    Key::from_slice(&[LOCAL, b'f'])
}

/// Where the Raft membership is.
#[must_use]
pub fn membership() -> Key {
    Key::from_slice(&[LOCAL, b'm'])
}

/// Where the group's row is.
#[must_use]
pub fn group() -> Key {
    Key::from_slice(&[GROUP])
}

/// Where the log of this name is. Any string is a fine place to start a range from.
#[must_use]
pub fn log(name: &str) -> Key {
    let mut key = Key::from_slice(&[LOG]);
    key.extend_from_slice(name.as_bytes());
    key
}

/// The first key behind the log of this name.
#[must_use]
pub fn behind_log(name: &str) -> Key {
    let mut key = log(name);
    key.push(0);
    key
}

/// The first key behind all logs whose names start with `prefix`.
#[must_use]
pub fn behind_logs(prefix: &str) -> Key {
    let mut key = log(prefix);
    // UTF-8 never contains 0xff, and `LOG` is smaller, so the last byte can be incremented.
    let last = key.last_mut().expect("the table byte is there");
    assert!(*last < u8::MAX, "no byte of a str or a table is 0xff");
    *last += 1;
    key
}

/// The name in a log's key.
///
/// # Errors
/// [`Malformed`] if it is none.
pub fn parse_log(key: &[u8]) -> Result<&str, Malformed> {
    match key.split_first() {
        Some((&LOG, name)) => {
            std::str::from_utf8(name).map_err(|_| Malformed("the key of a log is not UTF-8"))
        }
        _ => Err(Malformed("not the key of a log")),
    }
}

/// Where the name of an incarnation that exists is.
#[must_use]
pub fn name(incarnation: Incarnation) -> Key {
    key(NAME, [incarnation.0])
}

/// What the key of a batch says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchKey {
    /// The log.
    pub incarnation: Incarnation,
    /// Offset of the batch's last record.
    pub last_offset: Offset,
    /// The batch's timestamp.
    pub timestamp: TimestampMs,
    /// Bytes of all batches of the log before this one, trimmed ones included.
    pub bytes_before: u64,
}

impl BatchKey {
    /// The stored form.
    #[must_use]
    pub fn key(&self) -> Key {
        key(BATCH, [self.incarnation.0, self.last_offset.0, self.timestamp.0, self.bytes_before])
    }

    /// Reads a stored key.
    ///
    /// # Errors
    /// [`Malformed`] if it is not the key of a batch.
    pub fn parse(key: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input(key);
        if input.u8()? != BATCH {
            return Err(Malformed("not the key of a batch"));
        }
        let this = Self {
            incarnation: Incarnation(input.u64_be()?),
            last_offset: Offset(input.u64_be()?),
            timestamp: TimestampMs(input.u64_be()?),
            bytes_before: input.u64_be()?,
        };
        input.end()?;
        Ok(this)
    }
}

/// The first possible key of a batch that ends at or behind `offset`.
#[must_use]
pub fn batches_from(incarnation: Incarnation, offset: Offset) -> Key {
    key(BATCH, [incarnation.0, offset.0])
}

/// The first key behind an incarnation's rows in one of the tables that begin with it.
#[must_use]
pub fn behind_incarnation(table: u8, incarnation: Incarnation) -> Key {
    // u64::MAX is no incarnation (its log index would be beyond any log), but be exact all the same.
    match incarnation.0.checked_add(1) {
        Some(next) => key(table, [next]),
        None => Key::from_slice(&[table + 1]),
    }
}

/// The first key of an incarnation's rows in one of the tables that begin with it.
#[must_use]
pub fn of_incarnation(table: u8, incarnation: Incarnation) -> Key {
    key(table, [incarnation.0])
}

/// Where a producer is.
#[must_use]
pub fn producer(incarnation: Incarnation, id: ProducerId) -> Key {
    let mut key = key(PRODUCER, [incarnation.0]);
    key.extend_from_slice(&id.0);
    key
}

/// Where a chunk of a producer's older appends is.
#[must_use]
pub fn chunk(incarnation: Incarnation, id: ProducerId, slot: u8) -> Key {
    let mut key = key(CHUNK, [incarnation.0]);
    key.extend_from_slice(&id.0);
    key.push(slot);
    key
}

/// The first possible key of a producer of `bucket` or a later one.
#[must_use]
pub fn expiry_from(incarnation: Incarnation, bucket: u64) -> Key {
    key(EXPIRY, [incarnation.0, bucket])
}

/// Where the expiry entry of a producer is.
#[must_use]
pub fn expiry(incarnation: Incarnation, bucket: u64, id: ProducerId) -> Key {
    let mut key = expiry_from(incarnation, bucket);
    key.extend_from_slice(&id.0);
    key
}

/// Bucket and producer of an expiry entry.
///
/// # Errors
/// [`Malformed`] if it is none.
pub fn parse_expiry(key: &[u8]) -> Result<(Incarnation, u64, ProducerId), Malformed> {
    let mut input = Input(key);
    if input.u8()? != EXPIRY {
        return Err(Malformed("not the key of an expiry entry"));
    }
    let parsed = (Incarnation(input.u64_be()?), input.u64_be()?, ProducerId(input.array()?));
    input.end()?;
    Ok(parsed)
}

/// Where the term that begins with the entry at `first` is.
#[must_use]
pub fn term(first: LogIndex) -> Key {
    key(TERM, [first.0])
}

/// Where the term under a key begins.
///
/// # Errors
/// [`Malformed`] if it is not the key of a term.
pub fn parse_term(key: &[u8]) -> Result<LogIndex, Malformed> {
    let mut input = Input(key);
    if input.u8()? != TERM {
        return Err(Malformed("not the key of a term"));
    }
    let first = LogIndex(input.u64_be()?);
    input.end()?;
    Ok(first)
}

/// The first key behind the terms that begin at or below `index`.
#[must_use]
pub fn behind_terms(index: LogIndex) -> Key {
    let mut key = term(index);
    key.push(0);
    key
}

/// Where the digests recorded at a log index are.
#[must_use]
pub fn mark(index: LogIndex) -> Key {
    key(MARK, [index.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_number_order() {
        let at = |last, ts| BatchKey {
            incarnation: Incarnation(7),
            last_offset: Offset(last),
            timestamp: TimestampMs(ts),
            bytes_before: 1,
        };
        assert!(at(255, 9).key() < at(256, 1).key());
        assert!(batches_from(Incarnation(7), Offset(5)) <= at(5, 0).key());
        assert!(batches_from(Incarnation(7), Offset(6)) > at(5, u64::MAX).key());
        assert!(behind_incarnation(BATCH, Incarnation(7)) > at(u64::MAX, u64::MAX).key());
        assert_eq!(BatchKey::parse(&at(3, 4).key()), Ok(at(3, 4)));
        assert!(!at(3, 4).key().spilled(), "the key of a batch is kept in place");
        let id = ProducerId([0xff; 16]);
        assert!(expiry(Incarnation(7), 3, id) < expiry_from(Incarnation(7), 4));
        assert_eq!(parse_expiry(&expiry(Incarnation(7), 3, id)), Ok((Incarnation(7), 3, id)));
    }

    #[test]
    fn ranges_of_names() {
        assert!(log("a") < behind_log("a") && behind_log("a") < log("a-"));
        assert!(log("ab") < behind_logs("a") && behind_logs("a") <= log("b"));
        assert!(log("zzz") < behind_logs(""));
        assert_eq!(parse_log(&log("x")), Ok("x"));
    }
}
