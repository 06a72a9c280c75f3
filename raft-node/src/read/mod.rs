//! From a read request to a consistent view of the applied state.
//!
//! `levels` has the words of a question and its answer; `reader` decides what evidence a level needs.
//! Evidence comes from two places: `read_index` (the leader asks its quorum, one round shared by all
//! who wait) and `freshener` (any replica asks the leader, one probe shared by all groups and readers:
//! `prober` sends it, `evidence` keeps what it proved, `freshness` is the pure part that judges it).
//! `worst` is what an operator is told about it, and `probation` a load balancer. `recent` keeps what
//! was just applied for tails.
//!
//! Never here: gRPC, and any answer based on "I am the leader" or "I heard from the leader".
mod evidence;
pub mod forward;
pub mod freshener;
pub mod freshness;
pub mod levels;
pub mod probation;
mod prober;
pub mod read_index;
pub mod reader;
pub mod recent;
pub mod worst;

use std::time::Duration;

use quorate_state_machine::{types::LogIndex, view::ViewError};

use crate::raft::group::{Leader, ReadIndexFailure};

/// Why a read could not be served at the asked level. A read never has an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// The level can only be given by the leader.
    NotLeader(Option<Leader>),
    /// No quorum confirmed the leadership.
    NoQuorum,
    /// The caller's deadline came first.
    Deadline,
    /// The group stopped on this node.
    Stopped(String),
    /// This replica could not read its own data.
    Local(ViewError),
    /// The asked freshness can't be proven here right now.
    TooStale {
        /// The bound; `None` for a linearizable read.
        asked: Option<Duration>,
        /// What could have been offered; `None`: unknown.
        age: Option<Duration>,
        /// Who may do better.
        leader: Option<Leader>,
    },
    /// A position is not applied here yet.
    Behind {
        /// The position.
        asked: LogIndex,
        /// What is applied.
        applied: LogIndex,
        /// What could have been offered; `None`: unknown.
        age: Option<Duration>,
        /// Who may do better.
        leader: Option<Leader>,
    },
    /// A position token is not part of this group's history.
    LostPosition(String),
}

impl From<ReadIndexFailure> for ReadFailure {
    fn from(failure: ReadIndexFailure) -> Self {
        match failure {
            ReadIndexFailure::NotLeader(leader) => Self::NotLeader(leader),
            ReadIndexFailure::NoQuorum => Self::NoQuorum,
            ReadIndexFailure::Stopped(why) => Self::Stopped(why),
        }
    }
}
