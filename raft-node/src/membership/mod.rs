//! Who this node is, how a cluster begins, and how its members change.
//!
//! - `identity`: the file that ties a data directory to one replica of one cluster, and the lock
//!   that ties it to one process.
//! - `bootstrap`: the pure rule for the first start.
//! - `change`: the pure rule for later changes of the members.
pub mod bootstrap;
pub mod change;
pub mod identity;
