//! Each setting that keeps openraft from a known divergence, on three real nodes: with ours the
//! scenario does no harm, with the unsafe one the same scenario does (which also shows that the
//! scenario still reaches what it is about).

mod busy_disks;
mod cluster;
mod disk;
mod durable_quorum;
mod leader_restore;
mod lost_suffix;
mod network;
mod node;
mod one_leader_per_term;
mod one_way_link;
mod pre_vote;
mod stale_reads;
mod state_ahead;
