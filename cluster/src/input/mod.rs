//! From a stream of bytes to batches of records.
//!
//! [`split`] finds the records, [`batches`] decides which of them travel together, [`source`] opens
//! files and pipes. The first two are pure over [`std::io::Read`]: the same bytes with the same
//! settings always give the same batches, which is what makes an interrupted `quorate append`
//! resumable (batch number n always has the same content).

pub mod batches;
pub mod source;
pub mod split;
