//! The planted faults of real servers, each with the run that must find it.

use quorate_jepsen_core::check::Kind as Anomaly;

use super::{mutants::Mutant, options::Workload};
use crate::{
    nemesis::{
        fault::{Fault, Target},
        schedule::Window,
        shape::Shape,
    },
    network::Gate,
};

const fn window(at_ms: u64, for_ms: u64, fault: Fault) -> Window {
    Window { at_ms, for_ms, fault }
}

const LEADER_ALONE: Fault = Fault::Partition { shape: Shape::LeaderAlone, gate: Gate::Hold };
const PAUSED_LEADER: Fault = Fault::Pause { target: Target::Leader, delay_ms: 0 };
const PAUSED_FOLLOWER: Fault = Fault::Pause { target: Target::Follower(0), delay_ms: 0 };
const LOST_REPLIES: Fault = Fault::ReplyLoss { target: Target::Leader, clients: true };
const PULLED_PLUG: Fault = Fault::PowerAll;
const KILLED_LEADER: Fault = Fault::Kill { target: Target::Leader };
const ROTTEN_FOLLOWER: Fault = Fault::BitRot { target: Target::Follower(0) };
const RESTARTED_LEADER: Fault = Fault::QuickRestart { target: Target::Leader, stall_ms: 300 };
const SLOW_FOLLOWER: Fault = Fault::SlowDisk { target: Target::Follower(0), stall_ms: 300 };

/// An acknowledged append is gone, or another is where it was.
const LOST: &[Anomaly] = &[Anomaly::LostAppend, Anomaly::MovedAppend];

/// All of them.
pub const ALL: &[Mutant] = &[
    Mutant {
        name: "skip_log_fsync",
        what: "the Raft log calls entries durable that are only written",
        breaks: "P3",
        workload: Workload::Idempotent,
        concurrency: 12,
        rate: 500,
        windows: &[window(3_000, 1_500, Fault::PowerAll), window(9_000, 1_500, Fault::PowerAll)],
        time_limit: 14,
        caught_as: LOST,
    },
    Mutant {
        name: "skip_vote_fsync",
        what: "a vote is answered for before it is on the disk",
        breaks: "P1, P3, P12",
        workload: Workload::Idempotent,
        concurrency: 12,
        rate: 500,
        windows: &[
            window(3_000, 1_500, PULLED_PLUG),
            window(7_500, 1_500, PULLED_PLUG),
            window(12_000, 1_500, PULLED_PLUG),
        ],
        time_limit: 16,
        caught_as: &[
            Anomaly::ReplicasDiffer,
            Anomaly::DigestsDiffer,
            Anomaly::LostAppend,
            Anomaly::MovedAppend,
        ],
    },
    Mutant {
        name: "leader_restore",
        what: "a leader that starts again leads on, without an election",
        breaks: "P6",
        workload: Workload::Append,
        concurrency: 24,
        rate: 1000,
        windows: &[
            window(2_500, 1_500, RESTARTED_LEADER),
            window(6_000, 1_500, RESTARTED_LEADER),
            window(9_500, 1_500, RESTARTED_LEADER),
            window(13_000, 1_500, RESTARTED_LEADER),
        ],
        time_limit: 17,
        caught_as: &[
            Anomaly::StaleRead,
            Anomaly::PositionBackwards,
            Anomaly::LostAppend,
            Anomaly::MovedAppend,
        ],
    },
    Mutant {
        name: "ack_on_send",
        what: "a leader counts an entry as stored by a follower once it is sent",
        breaks: "P3, P6",
        workload: Workload::Append,
        concurrency: 12,
        rate: 500,
        windows: &[window(3_000, 5_000, LEADER_ALONE)],
        time_limit: 12,
        caught_as: LOST,
    },
    Mutant {
        name: "stale_leader_read",
        what: "a leader answers linearizable reads without asking whether it still leads",
        breaks: "P6",
        workload: Workload::Append,
        concurrency: 24,
        rate: 500,
        windows: &[window(3_000, 6_000, LEADER_ALONE)],
        time_limit: 12,
        caught_as: &[Anomaly::StaleRead],
    },
    Mutant {
        name: "lease_ignores_pause",
        what: "a leader's lease doesn't count the time its process was stopped",
        breaks: "P6",
        workload: Workload::Append,
        // Few enough that what they give up meanwhile does not make the server close their
        // connection: what waits in the sockets of a stopped leader is what it answers wrongly.
        concurrency: 18,
        rate: 2000,
        windows: &[
            window(2_500, 3_000, PAUSED_LEADER),
            window(8_500, 3_000, PAUSED_LEADER),
            window(14_500, 3_000, PAUSED_LEADER),
            window(20_500, 3_000, PAUSED_LEADER),
        ],
        time_limit: 26,
        caught_as: &[Anomaly::StaleRead],
    },
    Mutant {
        name: "no_dedupe",
        what: "a producer's retry is stored as a new batch",
        breaks: "P4",
        workload: Workload::Idempotent,
        concurrency: 12,
        rate: 500,
        windows: &[window(2_500, 3_000, LOST_REPLIES)],
        time_limit: 9,
        caught_as: &[Anomaly::DuplicateRecord],
    },
    Mutant {
        name: "batch_split_on_retry",
        what: "a batch that is sent again is stored as two",
        breaks: "P2, P3",
        workload: Workload::Idempotent,
        concurrency: 12,
        rate: 500,
        windows: &[window(2_500, 2_500, KILLED_LEADER), window(7_500, 2_500, KILLED_LEADER)],
        time_limit: 14,
        caught_as: &[Anomaly::TornBatch],
    },
    Mutant {
        name: "no_checksum_check",
        what: "stored batches are served without a look at their checksums",
        breaks: "P14",
        workload: Workload::Append,
        concurrency: 12,
        rate: 500,
        windows: &[window(3_000, 4_000, ROTTEN_FOLLOWER)],
        time_limit: 10,
        caught_as: &[Anomaly::DamagedRecord, Anomaly::ReadRewritten],
    },
    Mutant {
        name: "ignore_fence",
        what: "an append under a lower writer epoch goes through",
        breaks: "P8",
        workload: Workload::Fencing,
        concurrency: 6,
        rate: 500,
        windows: &[],
        time_limit: 6,
        caught_as: &[Anomaly::FencedAppend, Anomaly::StaleEpoch],
    },
    Mutant {
        name: "fence_not_persisted",
        what: "writer epochs are gone when a node starts again",
        breaks: "P8",
        workload: Workload::Fencing,
        concurrency: 6,
        rate: 500,
        windows: &[window(3_000, 3_000, Fault::RollingRestart)],
        time_limit: 12,
        caught_as: &[
            Anomaly::EpochGrantedTwice,
            Anomaly::EpochBackwards,
            Anomaly::FencedAppend,
            Anomaly::StaleEpoch,
        ],
    },
    Mutant {
        name: "expected_offset_by_leader",
        what: "an expected offset is judged before the append has its place in the order",
        breaks: "P7",
        workload: Workload::ExpectedOffset,
        concurrency: 12,
        rate: 500,
        windows: &[],
        time_limit: 6,
        caught_as: &[Anomaly::ExpectedOffsetIgnored],
    },
    Mutant {
        name: "age_from_receive_time",
        what: "a follower counts its age from the leader's answer, not from its own question",
        breaks: "P10",
        workload: Workload::FollowerRead,
        concurrency: 16,
        rate: 500,
        // The leader's answer to a probe waits in the socket of a node that is stopped, while the
        // others go on; and on a slow link.
        windows: &[
            window(2_500, 700, PAUSED_FOLLOWER),
            window(4_000, 700, PAUSED_FOLLOWER),
            window(5_500, 700, PAUSED_FOLLOWER),
            window(7_000, 5_000, Fault::Delay { delay_ms: 150, jitter_ms: 75 }),
        ],
        time_limit: 14,
        caught_as: &[Anomaly::StaleBeyondBound],
    },
    Mutant {
        name: "no_leadership_confirmation",
        what: "a leader vouches for the age of a state without asking whether it still leads",
        breaks: "P10",
        workload: Workload::FollowerRead,
        concurrency: 16,
        rate: 500,
        windows: &[window(2_500, 6_000, LEADER_ALONE)],
        time_limit: 11,
        caught_as: &[Anomaly::StaleBeyondBound],
    },
    Mutant {
        name: "no_wait_for_apply",
        what: "a read doesn't wait until what proves its age is applied",
        breaks: "P10",
        workload: Workload::FollowerRead,
        concurrency: 16,
        rate: 500,
        windows: &[window(2_500, 6_000, SLOW_FOLLOWER)],
        time_limit: 11,
        caught_as: &[Anomaly::StaleBeyondBound],
    },
    Mutant {
        name: "token_ignored",
        what: "a read doesn't wait for the position that its client has seen",
        breaks: "P11",
        workload: Workload::Session,
        concurrency: 12,
        rate: 500,
        windows: &[window(2_500, 6_000, SLOW_FOLLOWER)],
        time_limit: 11,
        caught_as: &[Anomaly::SessionBroken],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run needs before, between and after its faults, as drawn schedules have it.
    const QUIET_MS: u64 = 2_000;

    #[test]
    fn faults_fit_into_their_runs() {
        for mutant in ALL {
            let mut free_from = QUIET_MS;
            for window in mutant.windows {
                assert!(window.at_ms >= free_from, "{}", mutant.name);
                free_from = window.at_ms + window.for_ms;
            }
            assert!(free_from + QUIET_MS <= mutant.time_limit * 1000, "{}", mutant.name);
        }
    }

    #[test]
    fn names_are_names_of_one_mutant_each() {
        for (at, mutant) in ALL.iter().enumerate() {
            assert!(ALL[at + 1..].iter().all(|other| other.name != mutant.name));
            assert!(!mutant.caught_as.is_empty(), "{}", mutant.name);
        }
    }
}
