//! The mistakes of openraft 0.10.0-alpha.37 that this project works around, each as small as it
//! gets: openraft alone, three nodes in one thread, a store and a network in memory, no code of
//! Quorate. Run them with `cargo test --release --test openraft` in `jepsen/sim`.
//!
//! A test passes while openraft errs. When one fails after an upgrade, its message says which
//! workaround may go, and which must be looked at again.

mod cluster;
mod leader_restore;
mod lease_after_restart;
mod network;
mod old_answer;
mod store;
