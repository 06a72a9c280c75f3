//! Who this node is, and how a cluster begins.
//!
//! - `identity`: the file that ties a data directory to one replica of one cluster, and the lock
//!   that ties it to one process.
//! - `bootstrap`: the pure rule for the first start.
pub mod bootstrap;
pub mod identity;
