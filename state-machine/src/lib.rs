//! What a log means.
//!
//! Pure: [`apply`](mod@apply) maps (view, entry) to (writes, outcomes) with no clock, no randomness,
//! no async, no hash-order iteration. Reading order: `types`, `limits`, `command`, `outcome`,
//! `batch`, `keys`, `view`, `apply`, `memory`, `rocks`.
pub mod command;
pub mod limits;
pub mod outcome;
pub mod types;
