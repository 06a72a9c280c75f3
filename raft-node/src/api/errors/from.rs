//! Failures of what is below this edge.

use quorate_proto::v1::{Effect, ErrorKind};
use quorate_state_machine::{batch::BatchError, limits::LimitExceeded};

use super::{ApiError, OVERLOAD_RETRY_MS};
use crate::{
    api::read, raft::group::WriteFailure, read::ReadFailure, write::admission::Overloaded,
};

impl From<LimitExceeded> for ApiError {
    fn from(e: LimitExceeded) -> Self {
        let mut error = Self::invalid(e.to_string());
        error.0.limit = e.limit.to_owned();
        error.0.limit_value = e.value;
        error
    }
}

impl From<BatchError> for ApiError {
    fn from(e: BatchError) -> Self {
        match e {
            BatchError::Limit(limit) => limit.into(),
            other => Self::invalid(format!("the batch is refused: {other}")),
        }
    }
}

impl From<Overloaded> for ApiError {
    fn from(e: Overloaded) -> Self {
        let mut error = Self::new(
            ErrorKind::ResourceExhausted,
            true,
            Effect::None,
            format!("{e}; nothing was appended, try again shortly"),
        );
        error.0.limit = "limits.inflight_mb".to_owned();
        error.0.limit_value = e.limit_bytes;
        error.0.retry_after_ms = OVERLOAD_RETRY_MS;
        error
    }
}

impl From<WriteFailure> for ApiError {
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::NotLeader(leader) => Self::not_leader(leader, Effect::None),
            WriteFailure::Discarded(leader) => Self::not_leader(leader, Effect::Unknown),
            WriteFailure::Stopped(why) => Self::write_lost(&why),
        }
    }
}

impl From<ReadFailure> for ApiError {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::NotLeader(leader) => Self::not_leader(leader, Effect::None),
            ReadFailure::NoQuorum => Self::new(
                ErrorKind::Unavailable,
                true,
                Effect::None,
                "no quorum confirmed this node's leadership in time, so it serves no linearizable \
                 read; ask another node or retry",
            ),
            ReadFailure::Deadline => Self::deadline(Effect::None),
            ReadFailure::Local(why) => read::local_failure(&why),
            ReadFailure::TooStale { asked, age, leader } => Self::too_stale(asked, age, leader),
            ReadFailure::Behind { asked, applied, age, leader } => {
                Self::behind(asked, applied, age, leader)
            }
            ReadFailure::LostPosition(why) => Self::bad_position(&why),
            ReadFailure::Stopped(why) => Self::new(
                ErrorKind::Unavailable,
                true,
                Effect::None,
                format!("the group stopped on this node ({why}); ask another node"),
            ),
        }
    }
}
