//! Failures of what is below this edge.

use quorate_proto::v1::{Effect, ErrorKind};
use quorate_state_machine::{batch::BatchError, limits::LimitExceeded, view::ViewError};

use super::{ApiError, OVERLOAD_RETRY_MS};
use crate::{raft::group::WriteFailure, read::ReadFailure, write::admission::Overloaded};

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

impl From<ViewError> for ApiError {
    /// Only a read can find that out, and a read changes nothing.
    fn from(error: ViewError) -> Self {
        tracing::error!(%error, "a read failed on this replica");
        match error {
            ViewError::Corrupt { .. } => Self::corrupt(format!(
                "this replica could not read its own data ({error}); ask another node, and run \
                 `quorate verify --deep`"
            )),
            ViewError::Storage(_) => Self::internal(format!(
                "this replica could not read its own data ({error}); the read had no effect, and \
                 the data need not be damaged. Ask another node, and look at the disk of this one"
            )),
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
            ReadFailure::Local(why) => why.into(),
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

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;

    #[test]
    fn a_disk_that_fails_is_not_damage() {
        let failed = || ViewError::Storage("IO error: While pread".to_owned());
        let damaged = || ViewError::Corrupt { what: "a batch".to_owned(), why: "CRC".to_owned() };
        let table = [
            (failed(), ErrorKind::Internal, Code::Internal, "IO error: While pread"),
            (damaged(), ErrorKind::Corrupt, Code::DataLoss, "a batch: CRC"),
        ];
        for (error, kind, code, why) in table {
            for said in [ApiError::from(error.clone()), ReadFailure::Local(error.clone()).into()] {
                assert_eq!((said.0.kind(), said.0.effect()), (kind, Effect::None), "{error}");
                assert!(said.0.retryable && said.0.message.contains(why), "{said:?}");
                let deep = said.0.message.contains("verify --deep");
                assert_eq!(deep, kind == ErrorKind::Corrupt, "{said:?}");
                assert_eq!(Status::from(said).code(), code);
            }
        }
    }
}
