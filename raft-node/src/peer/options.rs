//! Bounds and deadlines of the peer transport.

use std::time::Duration;

/// Largest message either side accepts. An AppendEntries holds about 2 MiB of entries, or one
/// entry of at most 8 MiB; the rest is headroom for framing and for a larger limit some day.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Most bytes of entries in one append frame (a single larger entry goes alone). The log store
/// hands out less; this is the second belt.
pub const MAX_FRAME_ENTRY_BYTES: usize = 8 * 1024 * 1024;

const _: () = assert!(
    // A frame holds at most the cap, or one entry, which is at most as large; the rest is the
    // framing of thousands of small entries.
    MAX_FRAME_ENTRY_BYTES + MAX_FRAME_ENTRY_BYTES / 2 < MAX_MESSAGE_BYTES,
    "a full append frame must fit into a message"
);

/// Smallest append window of one group, so that many groups on one lane still pipeline.
const MIN_GROUP_WINDOW_BYTES: usize = 1024 * 1024;

/// Settings, the same for every peer.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// Bytes of AppendEntries sent to one peer and not yet answered, split evenly between the
    /// groups. Each group has its own share, so a group that is slow on the peer holds up nobody
    /// else; and memory for a peer that does not answer stays bounded.
    pub append_window_bytes: usize,
    /// An AppendEntries without an answer for this long fails. Covers the follower's fsync, so it
    /// is generous; a dead connection is noticed earlier, by the keep-alive.
    pub append_deadline: Duration,
    /// For TCP connect plus opening a stream.
    pub connect_timeout: Duration,
    /// HTTP/2 ping interval on every connection, idle ones included.
    pub keepalive_interval: Duration,
    /// A ping without an answer for this long breaks the connection.
    pub keepalive_timeout: Duration,
    /// First and longest pause between attempts to reconnect a lane (doubling in between).
    pub reconnect_backoff: (Duration, Duration),
    /// Requests on the control lane without an answer yet, per peer.
    pub control_in_flight: usize,
    /// Bytes per snapshot chunk.
    pub snapshot_chunk_bytes: usize,
    /// Bytes of snapshot sent and not yet reported as written.
    pub snapshot_window_bytes: u64,
    /// A transfer without any progress or sign of life for this long fails. Not a bound on the
    /// whole transfer, which may take hours.
    pub snapshot_stall: Duration,
    /// Free disk space that must be left after a snapshot was received.
    pub snapshot_reserve_bytes: u64,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            append_window_bytes: 8 * 1024 * 1024,
            append_deadline: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
            reconnect_backoff: (Duration::from_millis(20), Duration::from_millis(500)),
            control_in_flight: 1024,
            snapshot_chunk_bytes: 512 * 1024,
            snapshot_window_bytes: 8 * 1024 * 1024,
            snapshot_stall: Duration::from_secs(30),
            snapshot_reserve_bytes: 256 * 1024 * 1024,
        }
    }
}

impl PeerOptions {
    /// One group's share of the append window. A frame larger than the share travels alone.
    #[must_use]
    pub fn group_window_bytes(&self, groups: u32) -> usize {
        (self.append_window_bytes / groups.max(1) as usize).max(MIN_GROUP_WINDOW_BYTES)
    }
}
