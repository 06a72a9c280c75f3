//! openraft's settings, each with its reason. Two of its defaults are unsafe for us.

use openraft::{Config, SnapshotPolicy, StepDownPolicy};
use quorate_state_machine::planted;

/// Timing of elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Leader's heartbeat interval, and how long an answer may take. It does not wait for the
    /// follower's disk (`peer::raft_handler`).
    pub heartbeat_ms: u64,
    /// Lower end of the randomised election timeout.
    pub election_min_ms: u64,
    /// Upper end; also the leader lease.
    pub election_max_ms: u64,
}

/// Most entries of one AppendEntries. The byte cap of [`super::log_storage`] is what bounds the
/// message; this only keeps many tiny entries from one huge vector.
const MAX_ENTRIES_PER_MESSAGE: u64 = 4096;

/// openraft's configuration for one group.
///
/// # Errors
/// What openraft itself finds inconsistent (election range, heartbeat).
pub fn openraft_config(
    cluster_name: &str,
    timing: Timing,
) -> Result<Config, openraft::ConfigError> {
    let Timing { heartbeat_ms, election_min_ms, election_max_ms } = timing;
    Config {
        cluster_name: cluster_name.to_owned(),
        heartbeat_interval: heartbeat_ms,
        election_timeout_min: election_min_ms,
        election_timeout_max: election_max_ms,

        // UNSAFE DEFAULT A. A leader need not be in the quorum that commits. Restored as leader of
        // the same term after it lost its own unflushed tail, it would give an index away twice.
        // It must stand for election again (raft_settings test `restarted_leader_...`).
        enable_leader_restore: Some(planted::is("leader_restore")),
        // UNSAFE DEFAULT B is not a setting: reads use ReadPolicy::ReadIndex only (see group.rs).

        // Off by default upstream: an isolated node would inflate its term and depose a healthy
        // leader when it comes back.
        enable_pre_vote: Some(true),
        // A follower whose log went backwards has lost acknowledged entries: never paper over it
        // (peer/confirmed.rs says so, and keeps openraft from trying without a pause).
        allow_log_reversion: None,
        // A leader without quorum stops sending for a while, so that its followers may be won by
        // another; must be at least leader lease + election_timeout_max.
        quorum_loss_probe_interval: Some(2 * election_max_ms),
        removed_leader_step_down: StepDownPolicy::After(150),

        // Snapshots and purges follow our own rule (bytes, floor for slow followers): compaction.rs.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A follower is served by snapshot only when the log no longer reaches back to it.
        replication_lag_threshold: u64::MAX,
        // The transfer has its own per-progress deadlines; this one would cut a healthy transfer.
        install_snapshot_timeout: 30 * 60 * 1000,

        max_payload_entries: MAX_ENTRIES_PER_MESSAGE,
        // Entries are packed to about 1 MiB each: the proposer bounds what is in flight in bytes.
        api_channel_size: Some(4096),
        // First retry soon (a restarting peer is back within tens of milliseconds), then back off.
        backoff: "20ms 50ms 100ms ...500ms".to_owned(),
        ..Config::default()
    }
    .validate()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_defaults_are_off() {
        let timing = Timing { heartbeat_ms: 100, election_min_ms: 500, election_max_ms: 1000 };
        let config = openraft_config("c", timing).unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.allow_log_reversion, None);
        assert!(config.quorum_loss_probe_interval.unwrap() >= 2 * timing.election_max_ms);
    }

    #[test]
    fn inconsistent_timing_is_refused() {
        let timing = Timing { heartbeat_ms: 1000, election_min_ms: 500, election_max_ms: 400 };
        assert!(openraft_config("c", timing).is_err());
    }
}
