//! What the state machine decided.

use quorate_proto::v1::{Effect, ErrorKind, Stamp};
use quorate_state_machine::{
    outcome::{Outcome, Refused},
    types::GroupId,
};

use super::ApiError;

/// The stamp of an outcome.
#[must_use]
pub fn stamp(group: GroupId, outcome: &Outcome) -> Stamp {
    Stamp {
        group: group.0,
        term: outcome.at.term.0,
        log_index: outcome.at.index.0,
        next_offset: outcome.next_offset.0,
        writer_epoch: outcome.writer_epoch.map_or(0, |e| e.0),
    }
}

/// A refusal decided by the state machine: final, and stamped with where it was decided.
#[must_use]
pub fn refused(group: GroupId, outcome: &Outcome, refused: &Refused) -> ApiError {
    let say = |kind, effect| ApiError::new(kind, false, effect, refused.to_string());
    let mut error = match refused {
        Refused::LogNotFound(_) => say(ErrorKind::LogNotFound, Effect::None),
        Refused::LogExists(_) => say(ErrorKind::LogExists, Effect::None),
        Refused::LogRecreated { .. } => say(ErrorKind::LogRecreated, Effect::None),
        Refused::OffsetMismatch { .. } => say(ErrorKind::OffsetMismatch, Effect::None),
        Refused::Fenced { .. } => say(ErrorKind::Fenced, Effect::None),
        Refused::EpochNotGranted { .. } => say(ErrorKind::EpochNotGranted, Effect::None),
        Refused::SequenceGap { .. } => say(ErrorKind::SequenceGap, Effect::None),
        Refused::SequenceReused { .. } => say(ErrorKind::SequenceReused, Effect::None),
        Refused::SequenceStale { .. } => say(ErrorKind::SequenceStale, Effect::Applied),
        // This call changed nothing; whether an earlier attempt did can no longer be told.
        Refused::ProducerUnknown { .. } => say(ErrorKind::ProducerUnknown, Effect::Unknown),
        Refused::TooManyProducers { .. } => say(ErrorKind::TooManyProducers, Effect::None),
        Refused::TrimBeyondEnd { .. } => say(ErrorKind::OutOfRange, Effect::None),
        Refused::TooManyLogs { .. } => say(ErrorKind::ResourceExhausted, Effect::None),
        Refused::DuplicateLog(_) | Refused::Overflow { .. } | Refused::Undecodable(_) => {
            say(ErrorKind::Invalid, Effect::None)
        }
    };
    match refused {
        Refused::SequenceGap { expected, .. } | Refused::SequenceStale { expected, .. } => {
            error.0.next_sequence = Some(expected.0);
        }
        Refused::TooManyProducers { limit, .. } => {
            error.0.limit = "MAX_PRODUCERS_PER_LOG".to_owned();
            error.0.limit_value = *limit;
        }
        Refused::TooManyLogs { limit } => {
            error.0.limit = "MAX_LOGS_PER_GROUP".to_owned();
            error.0.limit_value = *limit;
        }
        Refused::EpochNotGranted { current, .. } => error.0.writer_epoch = current.map(|e| e.0),
        Refused::Fenced { current, .. } => error.0.writer_epoch = Some(current.0),
        _ => {}
    }
    if !matches!(refused, Refused::LogNotFound(_) | Refused::TooManyLogs { .. }) {
        error.0.next_offset = Some(outcome.next_offset.0);
    }
    error.0.stamp = Some(stamp(group, outcome));
    error
}
