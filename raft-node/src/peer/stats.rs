//! Counters of the peer transport, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Rising counters, all lanes and peers together.
#[derive(Debug, Default)]
pub struct PeerStats {
    /// Connections of a lane that came up.
    pub connected: AtomicU64,
    /// Connections of a lane that broke or could not be made.
    pub broken: AtomicU64,
    /// Append frames sent.
    pub append_frames: AtomicU64,
    /// Their bytes.
    pub append_bytes: AtomicU64,
    /// Control requests sent.
    pub control_requests: AtomicU64,
    /// Requests without an answer in time.
    pub timeouts: AtomicU64,
    /// Frames and Hellos of others that were refused for their identity.
    pub refused_callers: AtomicU64,
    /// Attempts to replicate to a peer that lacks entries which it had confirmed.
    pub lost_confirmed: AtomicU64,
    /// Bytes of snapshot files sent.
    pub snapshot_bytes_sent: AtomicU64,
    /// Bytes of snapshot files received and written.
    pub snapshot_bytes_received: AtomicU64,
}

impl PeerStats {
    pub(super) fn count(counter: &AtomicU64) {
        Self::add(counter, 1);
    }

    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
