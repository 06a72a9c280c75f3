//! Fault tests on real processes: a cluster of `quorate-node` binaries on loopback, real clients,
//! real kills, and a verdict by the checkers of `quorate-jepsen-core`.
//!
//! Read in this order:
//! - [`cluster`]: nodes as processes, in a folder of their own: start, kill, terminate, wait.
//! - [`node_api`]: one question to one node, past the SDK's routing.
//! - [`direct`]: a client without the SDK, one request and its answer.
//! - [`workload`]: clients that keep a cluster busy and note every answer.
//! - [`disk`]: a disk that fails on command, and damage to what lies on it.
//! - [`run`]: all of it together, from the seed to the verdict.
//! - [`record`]: the history, written while it happens.
//! - [`readback`]: after the run, everything every replica serves, and its digest.
//!
//! The tests in `tests/` are the scenarios. Nothing here links the server: it is tested as the
//! binary that is shipped.

pub mod cluster;
pub mod direct;
pub mod disk;
pub mod node_api;
pub mod readback;
pub mod record;
pub mod run;
pub mod workload;
