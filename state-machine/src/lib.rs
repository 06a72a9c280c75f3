//! What a log means.
//!
//! Pure: [`apply`](mod@apply) maps (view, entry) to (writes, outcomes) with no clock, no randomness,
//! no async, no hash-order iteration. Reading order: `types`, `limits`, `command`, `outcome`,
//! `batch`, `keys`, `view`, `apply`, `memory`, `rocks`, `image`, `store`.
pub mod apply;
pub mod batch;
mod codec;
pub mod command;
pub mod dedupe;
pub mod digest;
pub mod entry;
pub mod image;
pub mod keys;
pub mod limits;
pub mod memory;
pub mod outcome;
pub mod planted;
pub mod read;
#[cfg(feature = "rocksdb")]
pub mod rocks;
pub mod seen;
pub mod store;
pub mod types;
pub mod values;
pub mod view;

pub use codec::Malformed;
