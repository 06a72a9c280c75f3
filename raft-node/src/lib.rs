//! The machinery that replicates logs.
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash;
pub mod gate;
pub mod log_store;
pub mod membership;
pub mod node;
pub mod observe;
pub mod peer;
pub mod program;
pub mod raft;
pub mod read;
mod remove;
pub mod runtime;
pub mod shutdown;
pub mod write;
