//! A fault for the whole life of a process: what real binaries need to be hunted in.

use std::{sync::OnceLock, time::Duration};

/// The environment variable that names the fault.
pub const VARIABLE: &str = "QUORATE_PLANTED";

/// Every fault that a real node can have, and what it does. Simulations have more.
pub const FAULTS: &[(&str, &str)] = &[
    ("skip_log_fsync", "the Raft log says that entries are durable when they are only written"),
    ("skip_vote_fsync", "a vote is answered for before it is on the disk"),
    ("leader_restore", "a leader that starts again leads on, without an election"),
    ("ack_on_send", "a leader counts an entry as stored by a follower once it is sent"),
    ("stale_leader_read", "a leader answers linearizable reads without asking whether it leads"),
    ("lease_ignores_pause", "a leader's lease doesn't count the time its process was stopped"),
    ("no_dedupe", "a producer's retry is stored as a new batch"),
    ("ignore_fence", "an append under a lower writer epoch goes through"),
    ("fence_not_persisted", "writer epochs are gone when a node starts again"),
    ("batch_split_on_retry", "a batch that is sent again is stored as two"),
    ("no_checksum_check", "stored batches are served without a look at their checksums"),
    ("expected_offset_by_leader", "an expected offset is judged before the append is ordered"),
    ("age_from_receive_time", "a follower counts the age of its state from the leader's answer"),
    ("no_leadership_confirmation", "a leader vouches for ages without asking whether it leads"),
    ("no_wait_for_apply", "a read doesn't wait until what it must show is applied"),
    ("token_ignored", "a read doesn't wait for the position that its client has seen"),
];

static FAULT: OnceLock<&'static str> = OnceLock::new();

/// Which fault is planted.
#[must_use]
pub fn planted() -> Option<&'static str> {
    FAULT.get().copied()
}

/// Plants a fault, once.
///
/// # Errors
/// There is no such fault; the message names those there are.
pub fn plant(name: &str) -> Result<&'static str, String> {
    let Some((known, _)) = FAULTS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = FAULTS.iter().map(|(known, _)| *known).collect();
        return Err(format!("{VARIABLE}: no fault {name:?}; there are: {}", names.join(", ")));
    };
    Ok(FAULT.get_or_init(|| *known))
}

static UNSEEN: OnceLock<fn() -> Duration> = OnceLock::new();

/// Says who knows how long the process was stopped so far. There is no clock in this crate.
pub fn watch_stops(unseen: fn() -> Duration) {
    UNSEEN.get_or_init(|| unseen);
}

/// How long the process was stopped so far, if anybody looks.
pub(super) fn unseen() -> Duration {
    UNSEEN.get().map_or(Duration::ZERO, |unseen| unseen())
}
