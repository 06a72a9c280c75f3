//! Fault tests on real processes: a cluster of `quorate-node` binaries on loopback, real clients,
//! real kills, and a verdict by the checkers of `quorate-jepsen-core`.
//!
//! Read in this order:
//! - [`cluster`]: nodes as processes, in a folder of their own: start, kill, terminate, wait.
//! - [`network`]: links between processes that can be cut, one direction at a time.
//! - [`hosts`]: hosts of the user's over ssh, one a node.
//! - [`node_api`]: one question to one node, past the SDK's routing.
//! - [`endpoints`]: whom clients call, while nodes come and go.
//! - [`direct`]: a client without the SDK, one request and its answer.
//! - [`workload`]: clients that keep a cluster busy and note every answer.
//! - [`disk`]: a disk that fails on command, and damage to what lies on it.
//! - [`nemesis`]: faults as data, drawn from a seed, and done to a cluster.
//! - [`run`]: all of it together, from the seed to the verdict.
//! - [`record`]: the history, written while it happens.
//! - [`readback`]: after the run, everything every replica serves, and its digest.
//! - [`report`]: a run as one page with pictures.
//! - [`suite`]: what the `jepsen` program runs: options, runs, their store and their results.
//!
//! The tests in `tests/` are the scenarios. Nothing here links the server: it is tested as the
//! binary that is shipped.

pub mod cluster;
pub mod direct;
pub mod disk;
pub mod endpoints;
pub mod hosts;
pub mod nemesis;
pub mod network;
pub mod node_api;
pub mod readback;
pub mod record;
pub mod report;
pub mod run;
pub mod suite;
pub mod workload;
