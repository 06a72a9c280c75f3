//! Histories of what clients did and saw, and the checkers that judge them.
//!
//! Pure: no clock, no runtime, no network, no RocksDB, so that the runner on real processes and
//! the simulation share it, and a stored history can be judged again anywhere.
//!
//! Read in this order:
//! - [`ids`]: offsets, epochs, record ids; the words of a history.
//! - [`op`]: a call, its answer, and the three kinds of outcome (done, refused, unknown).
//! - [`history`]: events as JSON lines, and their pairing into operations.
//! - [`payload`]: record bytes that say who they are, so that a reader can tell damage.
//! - [`check`]: the checkers, one property a file, and the verdict.
//! - [`seed`]: the one source of randomness; [`plan`]: fault rounds drawn from a seed.
//! - [`edn`]: a history for other people's checkers.
//!
//! [`named!`] makes an enum of what has a name and a meaning: anomalies here, faults there.
//!
//! Every check is a sort and a sweep, n log n in the number of records, which works because every
//! answer of the service says where in the order of its group it was decided.
//!
//! A log's name stands for one log, unless a history says for each call which of several it was about
//! ([`op::Identity`]).

pub mod check;
pub mod edn;
pub mod history;
pub mod ids;
mod named;
pub mod op;
pub mod payload;
pub mod plan;
pub mod seed;
