//! A serialized `quorate.v1.RecordBatch`: checked by walking its protobuf wire format in place,
//! never decoded into messages, never re-encoded. The bytes that arrive are the bytes that are
//! stored and sent back.
//!
//! `walk` reads, `encode` writes; the dialect is proto3 as every protobuf library writes it, minus
//! what would make two readers disagree: unknown fields, duplicate fields, anything behind the end.

mod encode;
mod walk;

use bytes::Bytes;

pub use self::{
    encode::{RecordRef, encode},
    walk::{Headers, RecordView, Records, records},
};
use crate::{
    limits::{LimitExceeded, check_batch_bytes, check_batch_records},
    types::Batch,
};

/// Why bytes are no acceptable batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no record in it.
    #[error("an empty batch")]
    Empty,
    /// Something in it is too large.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The bytes are no `RecordBatch`.
    #[error("no valid RecordBatch: {what} at byte {at}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where, bytes from the start of the batch.
        at: usize,
    },
    /// The checksum that came with the bytes is not theirs: they were damaged on the way.
    #[error("the batch has CRC32C {actual:#010x}, not {expected:#010x} as stated")]
    Checksum {
        /// As stated by the sender.
        expected: u32,
        /// Of the bytes.
        actual: u32,
    },
}

impl Batch {
    /// Checks `bytes` in one pass without copying them, and computes their CRC32C. `crc32c` is what
    /// the sender says it is.
    ///
    /// # Errors
    /// [`BatchError`]; the checksum is judged first, because damaged bytes prove nothing else.
    pub fn validate(bytes: Bytes, crc32c: Option<u32>) -> Result<Self, BatchError> {
        check_batch_bytes(bytes.len())?;
        let actual = crc32c::crc32c(&bytes);
        if let Some(expected) = crc32c
            && expected != actual
        {
            return Err(BatchError::Checksum { expected, actual });
        }
        let mut count = 0;
        for record in records(&bytes) {
            record?.check_limits()?;
            count += 1;
            check_batch_records(count)?;
        }
        match u32::try_from(count) {
            Ok(0) => Err(BatchError::Empty),
            Ok(count) => Ok(Self { bytes, count, crc32c: actual }),
            Err(_) => unreachable!("MAX_BATCH_RECORDS fits 32 bits"),
        }
    }
}
