//! The gRPC edge: one RPC family a file. Requests are validated here, and nowhere else; errors are
//! mapped in `errors`, and nowhere else.
//!
//! Reading order: `crowd` (the door), `context`, `route`, `append`, `append_stream`, `logs`, `read`, `admin`, `members`, `errors`.
//!
//! Never here: any decision about a log's content (state-machine) or about leadership (raft).
pub mod admin;
pub mod append;
pub mod append_stream;
pub mod context;
pub mod crowd;
pub mod errors;
pub mod forward;
pub mod logs;
mod members;
mod metadata;
pub mod position;
pub mod read;
pub mod route;
pub mod service;
#[cfg(feature = "planted")]
mod split;
