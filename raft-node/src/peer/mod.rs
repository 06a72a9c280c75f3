//! Node-to-node transport: three lanes to every peer, so that bulk never delays heartbeats.
//!
//! ```text
//! openraft ─ network ─┬─ append_stream ─┐                        ┌─ append_lane ──┬─ handler ─ openraft
//!                     ├─ (control)      ├─ client ═ transport ═ endpoint ─ control_lane ─┤
//!                     └─ snapshot_send ─┘      (THE SEAM)        └─ snapshot_receive ┘
//! ```
//! Left the calling side, right the called side. `transport` is a trait: `grpc` (with `lane`,
//! `append_pipe`, `channel`) and `service` implement it over HTTP/2, and are the only files that
//! know tonic; a simulation joins the two sides in another way.
//!
//! What always holds:
//! - No frame is acted on unless it names this cluster, this node, a known group, and a sender on
//!   the disk that its id was first seen with (`identity`, `book`); no reply either.
//! - Nothing waits for ever: every request has a deadline or a stall limit, and a broken
//!   connection fails all its waiters at once.
//! - Memory is bounded by bytes: per (peer, group) on the append lane, per transfer on the snapshot
//!   lane, by count on the control lane.
//! - A message that would make openraft panic is refused first (`wire`).
//!
//! Not here: discovery and membership (callers say where a peer is), TLS (one place is ready for
//! it: `channel`), what a read probe answers (`handler::PeerHandler::read_index`).
//!
//! Reading order: `options`, `identity`, `transport`, `handler`, `wire`, `client`, `network`,
//! `append_stream`, `pace`, `confirmed`, `endpoint`, `append_lane`, `lane`, `append_pipe`, `snapshot_send`,
//! `snapshot_receive`.

mod append_lane;
mod append_pipe;
mod append_stream;
pub mod book;
mod channel;
pub mod client;
mod confirmed;
pub mod contact;
mod control_lane;
pub mod disk;
pub mod endpoint;
pub mod grpc;
pub mod handler;
pub mod host;
pub mod identity;
mod lane;
pub mod network;
pub mod options;
mod pace;
pub mod probe;
mod raft_handler;
pub mod refusals;
pub mod service;
mod silence;
pub mod snapshot_files;
pub mod snapshot_receive;
mod snapshot_send;
pub mod stats;
pub mod transport;
pub mod wire;
