//! A failed request: what was wrong, and what became of it.

use prost::Message as _;
use quorate_jepsen_core::{
    ids::{Epoch, Offset, Stamp},
    op::Answer,
};
use quorate_proto::v1::{Effect, ErrorDetail, ErrorKind};
use tonic::Status;

/// The kind of a failure that no node stated: the connection broke, or the deadline passed.
pub const NO_ANSWER: &str = "NO_ANSWER";

/// A failed request, as far as a test looks at it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was wrong; `Unavailable` when no node said.
    pub kind: ErrorKind,
    /// What became of the request.
    pub effect: Effect,
    /// All the node said.
    pub detail: Option<Box<ErrorDetail>>,
    /// For people.
    pub message: String,
}

impl Failure {
    pub(crate) fn of(status: &Status) -> Self {
        let detail = tonic_types::pb::Status::decode(status.details()).ok().and_then(|status| {
            let any =
                status.details.into_iter().find(|any| any.type_url.ends_with("ErrorDetail"))?;
            ErrorDetail::decode(&any.value[..]).ok()
        });
        match detail {
            Some(detail) => Self::stated(detail),
            None => Self {
                kind: ErrorKind::Unavailable,
                effect: if never_sent(status) { Effect::None } else { Effect::Unknown },
                message: format!("{:?}: {}", status.code(), status.message()),
                detail: None,
            },
        }
    }

    /// As a node said it.
    pub(super) fn stated(detail: ErrorDetail) -> Self {
        Self {
            kind: detail.kind(),
            effect: match detail.effect() {
                // A node that does not say cannot be trusted to have done nothing.
                Effect::Unspecified => Effect::Unknown,
                said => said,
            },
            message: detail.message.clone(),
            detail: Some(Box::new(detail)),
        }
    }

    /// The failure as the answer of an operation.
    #[must_use]
    pub fn answer(&self) -> Answer {
        // Told apart, because what a connection lost was no node's word.
        let kind = match self.detail {
            Some(_) => self.kind.as_str_name().trim_start_matches("ERROR_KIND_").to_owned(),
            None => NO_ANSWER.to_owned(),
        };
        match self.effect {
            Effect::None => Answer::Refused {
                kind,
                next_offset: self.detail.as_ref().and_then(|detail| detail.next_offset).map(Offset),
                stamp: self.detail.as_ref().and_then(|detail| detail.stamp).map(stamp_of),
            },
            Effect::Applied => Answer::AppliedUnplaced { kind },
            Effect::Unknown | Effect::Unspecified => Answer::Unknown { kind },
        }
    }
}

/// Nobody listened: the request cannot have arrived anywhere.
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    false
}

/// A stamp in a history's words.
#[must_use]
pub fn stamp_of(stamp: quorate_proto::v1::Stamp) -> Stamp {
    Stamp {
        group: stamp.group,
        term: stamp.term,
        log_index: stamp.log_index,
        next_offset: Offset(stamp.next_offset),
        writer_epoch: Epoch(stamp.writer_epoch),
    }
}
