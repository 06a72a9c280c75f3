//! The one place where failures become `ErrorDetail` and gRPC status.
//!
//! Every error says: retryable or not, effect (none, applied, unknown), what was wrong and what to
//! do (G10).

mod from;
mod refused;

use prost::Message;
use quorate_proto::v1::{Effect, ErrorDetail, ErrorKind, LeaderHint, ReadHeader};
use quorate_state_machine::types::{GroupId, LogIndex};
use tonic::{Code, Status};

pub use self::refused::{refused, stamp};
use super::metadata;
use crate::{raft::group::Leader, read::forward::NotForwarded};

/// Type URL of our detail inside `google.rpc.Status`.
const DETAIL_TYPE: &str = "type.googleapis.com/quorate.v1.ErrorDetail";

/// Wait before asking again when no leader is known: about one heartbeat.
const NO_LEADER_RETRY_MS: u64 = 50;

/// Wait before coming back to an overloaded node.
pub(super) const OVERLOAD_RETRY_MS: u64 = 20;

/// A failure as the caller will see it.
#[derive(Clone, Debug)]
pub struct ApiError(pub Box<ErrorDetail>);

impl ApiError {
    pub(super) fn new(
        kind: ErrorKind,
        retryable: bool,
        effect: Effect,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(ErrorDetail {
            kind: kind.into(),
            retryable,
            effect: effect.into(),
            message: message.into(),
            ..ErrorDetail::default()
        }))
    }

    /// A malformed request.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, false, Effect::None, message)
    }

    /// A stream ends here because its next request could not be read: too large, or none that this
    /// version knows. Those before it are answered, so it stands for what was left without an answer,
    /// none of which was looked at. To send the same again would end the next stream, too.
    pub fn unread(why: &Status) -> Self {
        Self::invalid(format!(
            "a request on this stream could not be read ({}); it and what was sent behind it had no \
             effect",
            why.message()
        ))
    }

    /// Something this version or this replica does not offer.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, false, Effect::None, message)
    }

    /// A failure inside this node; another replica may well serve the request.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, true, Effect::None, message)
    }

    /// The parts of a multi-append live in different groups.
    pub fn cross_group(first: (&str, GroupId), other: (&str, GroupId)) -> Self {
        Self::new(
            ErrorKind::CrossGroup,
            false,
            Effect::None,
            format!(
                "log {:?} is in group {} but log {:?} is in group {}; an atomic append stays in \
                 one group: give the logs a common {{tag}} in their names",
                first.0, first.1, other.0, other.1
            ),
        )
    }

    /// The deadline came first. `effect` is unknown for a write that was handed to Raft.
    pub fn deadline(effect: Effect) -> Self {
        let message = match effect {
            Effect::Unknown => {
                "the deadline passed while the request waited for a quorum; it may \
                                have taken effect, or may still"
            }
            _ => "the deadline passed before the request could be served",
        };
        Self::new(ErrorKind::Deadline, true, effect, message)
    }

    /// The asked freshness can't be proven here right now. Carries what could have been offered.
    pub fn too_stale(
        asked: Option<std::time::Duration>,
        age: Option<std::time::Duration>,
        leader: Option<Leader>,
    ) -> Self {
        let offered = match age {
            Some(age) => format!("its state may be up to {} ms old", age_ms(age)),
            None => "the age of its state is unknown".to_owned(),
        };
        let asked = match asked {
            Some(max) => format!("at most {} ms old", max.as_millis()),
            None => "linearizable".to_owned(),
        };
        let mut error = Self::new(
            ErrorKind::TooStale,
            true,
            Effect::None,
            format!(
                "this replica can't prove an answer that is {asked}: {offered}. Wait \
                 (ON_UNMET_WAIT), ask the leader, or allow more"
            ),
        );
        error.0.age_ms = age.map(age_ms);
        error.0.leader = leader.map(hint);
        error
    }

    /// A position that was asked for is not applied here yet.
    pub fn behind(
        asked: LogIndex,
        applied: LogIndex,
        age: Option<std::time::Duration>,
        leader: Option<Leader>,
    ) -> Self {
        let mut error = Self::new(
            ErrorKind::TooStale,
            true,
            Effect::None,
            format!(
                "this replica has applied entry {applied}, and the position that was asked for is \
                 entry {asked}. Wait (ON_UNMET_WAIT), or ask the leader"
            ),
        );
        error.0.age_ms = age.map(age_ms);
        error.0.leader = leader.map(hint);
        error
    }

    /// The refusal of a read that was to be forwarded, and was not.
    pub fn not_forwarded(mut self, why: NotForwarded) -> Self {
        let why = match why {
            NotForwarded::Budget => {
                self.0.limit = "forwarded_reads".to_owned();
                self.0.limit_value = crate::read::forward::MAX_FORWARDED as u64;
                self.0.retry_after_ms = OVERLOAD_RETRY_MS;
                "as many reads are being forwarded as may be"
            }
            NotForwarded::Open => "the last forwarded reads failed",
        };
        self.0.message += &format!(". It was not forwarded: {why}");
        self
    }

    /// The same of one that was forwarded in vain.
    pub fn forwarded_in_vain(mut self, why: &Status) -> Self {
        self.0.message += &format!(". It was forwarded in vain: {}", why.message());
        self
    }

    /// A read found that out, of the state that `header` describes.
    pub fn decided_by(mut self, header: ReadHeader) -> Self {
        self.0.header = Some(header);
        self
    }

    /// A position token that can't be honoured.
    pub fn bad_position(why: &str) -> Self {
        Self::new(ErrorKind::BadPosition, false, Effect::None, format!("position token: {why}"))
    }

    /// The node is stopping.
    pub fn shutting_down() -> Self {
        Self::new(
            ErrorKind::ShuttingDown,
            true,
            Effect::None,
            "this node is shutting down and takes no new requests; ask another node",
        )
    }

    /// This node does not lead the group.
    pub fn not_leader(leader: Option<Leader>, effect: Effect) -> Self {
        let message = match (&leader, effect) {
            (_, Effect::Unknown) => {
                "this node lost its leadership before the request was committed; it may have \
                 taken effect, or may still"
                    .to_owned()
            }
            (Some(l), _) => {
                format!("this node is not the leader; node {} at {} is", l.id, l.client_address)
            }
            (None, _) => "this node is not the leader, and knows of none right now".to_owned(),
        };
        let mut error = Self::new(ErrorKind::NotLeader, true, effect, message);
        if leader.is_none() {
            error.0.retry_after_ms = NO_LEADER_RETRY_MS;
        }
        error.0.leader = leader.map(hint);
        error
    }

    /// A write whose answer will never come from this node.
    pub fn write_lost(why: &str) -> Self {
        Self::new(
            ErrorKind::Unavailable,
            true,
            Effect::Unknown,
            format!("the group stopped on this node ({why}); the request may have taken effect"),
        )
    }

    /// Damaged data was found and is not served.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, true, Effect::None, message)
    }

    /// No log of that name (decided by a read).
    pub fn log_not_found(name: &str) -> Self {
        Self::new(
            ErrorKind::LogNotFound,
            false,
            Effect::None,
            format!("no log is named {name:?}; create it first"),
        )
    }

    /// The name has another incarnation now (decided by a read).
    pub fn log_recreated(name: &str, asked: u64, actual: u64) -> Self {
        Self::new(
            ErrorKind::LogRecreated,
            false,
            Effect::None,
            format!(
                "log {name:?} was deleted and created again: its incarnation is {actual}, not \
                 {asked}; nothing of the old log carries over"
            ),
        )
    }

    /// Reading below the trim point.
    pub fn trimmed(name: &str, asked: u64, start: u64, next: u64) -> Self {
        let mut error = Self::new(
            ErrorKind::Trimmed,
            false,
            Effect::None,
            format!(
                "offset {asked} of log {name:?} was trimmed; the first readable one is {start}"
            ),
        );
        error.0.start_offset = Some(start);
        error.0.next_offset = Some(next);
        error
    }

    /// Reading beyond the end.
    pub fn out_of_range(name: &str, asked: u64, start: u64, next: u64) -> Self {
        let mut error = Self::new(
            ErrorKind::OutOfRange,
            false,
            Effect::None,
            format!(
                "offset {asked} is beyond the end of log {name:?}, whose next offset is {next}"
            ),
        );
        error.0.start_offset = Some(start);
        error.0.next_offset = Some(next);
        error
    }

    /// What became of a read, as metrics name it.
    #[must_use]
    pub fn outcome_of_read(&self) -> &'static str {
        match self.0.kind() {
            ErrorKind::TooStale => "too_stale",
            ErrorKind::NotLeader => "not_leader",
            ErrorKind::Deadline => "deadline",
            ErrorKind::BadPosition => "bad_position",
            ErrorKind::Unavailable | ErrorKind::ShuttingDown => "unavailable",
            _ => "failed",
        }
    }

    /// As a gRPC status, the detail packed in `google.rpc.Status`.
    #[must_use]
    pub fn into_status(self) -> Status {
        let code = code_of(self.0.kind(), self.0.effect());
        let status = tonic_types::pb::Status {
            code: code as i32,
            message: self.0.message.clone(),
            details: vec![prost_types::Any {
                type_url: DETAIL_TYPE.to_owned(),
                value: self.0.encode_to_vec(),
            }],
        };
        let mut answer = Status::with_details(code, self.0.message, status.encode_to_vec().into());
        match &self.0.header {
            Some(header) => metadata::say(answer.metadata_mut(), header),
            None => metadata::say_age(answer.metadata_mut(), self.0.age_ms),
        }
        answer
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        error.into_status()
    }
}

/// An age on the wire: rounded up, as a bound must never be below the truth.
#[must_use]
pub fn age_ms(age: std::time::Duration) -> u64 {
    u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Leader hint on the wire.
#[must_use]
pub fn hint(leader: Leader) -> LeaderHint {
    let address = if leader.client_address.is_empty() {
        String::new()
    } else {
        format!("http://{}", leader.client_address)
    };
    LeaderHint { node_id: leader.id, address, term: leader.term.0 }
}

fn code_of(kind: ErrorKind, effect: Effect) -> Code {
    match kind {
        ErrorKind::Unspecified | ErrorKind::Internal => Code::Internal,
        ErrorKind::Invalid | ErrorKind::BadPosition | ErrorKind::CrossGroup => {
            Code::InvalidArgument
        }
        ErrorKind::LogNotFound => Code::NotFound,
        ErrorKind::LogExists => Code::AlreadyExists,
        ErrorKind::LogRecreated
        | ErrorKind::OffsetMismatch
        | ErrorKind::Fenced
        | ErrorKind::EpochNotGranted
        | ErrorKind::SequenceGap
        | ErrorKind::SequenceStale
        | ErrorKind::SequenceReused
        | ErrorKind::ProducerUnknown => Code::FailedPrecondition,
        ErrorKind::TooManyProducers | ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Trimmed | ErrorKind::OutOfRange => Code::OutOfRange,
        // UNAVAILABLE invites generic clients to retry: only where nothing happened.
        ErrorKind::NotLeader | ErrorKind::Unavailable | ErrorKind::TooStale => match effect {
            Effect::Unknown => Code::Aborted,
            _ => Code::Unavailable,
        },
        ErrorKind::ShuttingDown => Code::Unavailable,
        ErrorKind::Deadline => Code::DeadlineExceeded,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Unsupported => Code::Unimplemented,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_state_machine::types::Term;

    use super::*;

    #[test]
    fn an_age_is_never_below_the_truth() {
        let table =
            [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2), (40_000_999, 41)];
        for (ns, ms) in table {
            assert_eq!(age_ms(Duration::from_nanos(ns)), ms, "{ns} ns");
        }
        assert_eq!(age_ms(Duration::MAX), u64::MAX);
    }

    #[test]
    fn a_refused_forwarding_keeps_its_reason_to_be_asked_for() {
        let age = Duration::from_millis(700);
        let leader = Leader { id: 2, client_address: "127.0.0.1:1".to_owned(), term: Term(3) };
        let refusal = || ApiError::too_stale(None, Some(age), Some(leader.clone()));
        let vain = refusal().forwarded_in_vain(&Status::cancelled("Timeout expired"));
        let over = refusal().not_forwarded(NotForwarded::Budget);
        let open = refusal().not_forwarded(NotForwarded::Open);
        assert_eq!((over.0.limit.as_str(), over.0.limit_value), ("forwarded_reads", 64));
        for error in [vain, over, open] {
            assert_eq!((error.0.kind(), error.0.effect()), (ErrorKind::TooStale, Effect::None));
            assert_eq!((error.0.age_ms, error.0.retryable), (Some(700), true));
            assert_eq!(error.0.leader.as_ref().map(|leader| leader.node_id), Some(2));
            assert!(error.0.message.contains("forwarded"), "{}", error.0.message);
            let status = error.into_status();
            assert_eq!(status.metadata().get(metadata::AGE).unwrap(), "700");
        }
    }
}
