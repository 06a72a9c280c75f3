//! Whole clusters in one thread, from one seed.
//!
//! A run is three or five nodes with several groups, their clients, and a schedule of faults, all
//! drawn from one number. What runs is the real thing: openraft, apply, the proposer, the read path
//! with its freshness, deduplication, fencing, snapshots, compaction, the peer protocol down to its
//! frames, the service for clients. Four things are not: the network, the disk under the Raft log,
//! the clocks, and the runtime's idea of time.
//!
//! Read in this order:
//! - [`world`]: time and the network; [`dice`]: randomness; [`trace`]: what happened.
//! - [`host`]: a runtime and a clock per host; [`disk`]: what a crash takes.
//! - [`transport`], [`node`]: the seams of `raft-node`, joined; [`cluster`]: the hosts of a run.
//! - [`rpc`], [`workload`], [`record`]: clients, and the history they tell.
//! - [`schedule`], [`nemesis`]: faults, drawn and carried out.
//! - [`settle`], [`invariants`], [`run`]: peace, the judgement, a run from its begin to its end.
//! - [`many`], [`shrink`], [`mutants`]: many runs, fewer faults, planted faults.
//!
//! Never here: a clock, a thread or a hash map's order that a run depends on. `sim meta` runs seeds
//! in two processes and compares what happened.
//!
//! Not simulated: see README.md.
pub mod cluster;
pub mod dice;
pub mod disk;
mod hasty;
pub mod host;
pub mod invariants;
pub mod many;
pub mod mutants;
pub mod nemesis;
pub mod node;
pub mod operator;
pub mod record;
pub mod rpc;
pub mod run;
pub mod schedule;
pub mod settle;
pub mod shrink;
pub mod trace;
pub mod transport;
pub mod workload;
pub mod world;
