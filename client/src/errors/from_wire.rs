//! What a failed call says: the detail of a node, or less, if something in between failed.

use std::{error::Error as StdError, time::Duration};

use prost::Message;
use quorate_proto::v1 as wire;
use tonic::{Code, Status};

use super::{Effect, Error, ErrorKind, Inner, Leader};

/// Type URL of the detail inside `google.rpc.Status`.
pub(super) const DETAIL_TYPE: &str = "type.googleapis.com/quorate.v1.ErrorDetail";

impl Error {
    /// From the detail that a node sent.
    #[must_use]
    pub fn from_detail(detail: wire::ErrorDetail) -> Self {
        let effect = match detail.effect() {
            wire::Effect::None => Effect::None,
            wire::Effect::Applied => Effect::Applied,
            // A node that does not say can't be trusted to have done nothing.
            wire::Effect::Unknown | wire::Effect::Unspecified => Effect::Unknown,
        };
        // A kind of a newer version: its flags still say what to do.
        let kind = wire::ErrorKind::try_from(detail.kind)
            .ok()
            .and_then(ErrorKind::from_wire)
            .unwrap_or(ErrorKind::Internal);
        Self(Box::new(Inner {
            kind,
            retryable: detail.retryable,
            effect,
            message: detail.message,
            leader: detail.leader.and_then(Leader::from_wire),
            retry_after: Duration::from_millis(detail.retry_after_ms),
            limit: (!detail.limit.is_empty()).then_some((detail.limit, detail.limit_value)),
            start_offset: detail.start_offset,
            next_offset: detail.next_offset,
            writer_epoch: detail.writer_epoch,
            next_sequence: detail.next_sequence,
            age: detail.age_ms.map(Duration::from_millis),
            stamp: detail.stamp,
            header: detail.header,
            endpoint: None,
            secondary: false,
            from_node: true,
        }))
    }

    /// From a failed call. `write` says whether the call would have changed something.
    #[must_use]
    pub fn from_status(status: &Status, write: bool) -> Self {
        if let Some(detail) = detail_of(status) {
            return Self::from_detail(detail);
        }
        let effect = match write && !never_sent(status) {
            true => Effect::Unknown,
            false => Effect::None,
        };
        let message = describe(status);
        match status.code() {
            Code::Unimplemented => Self::new(ErrorKind::Unsupported, false, Effect::None, message),
            Code::Unauthenticated | Code::PermissionDenied => {
                Self::new(ErrorKind::Invalid, false, Effect::None, message)
            }
            // Larger than the one who was to read it takes, and so it would be again. It may be the
            // answer to a write.
            Code::OutOfRange => Self::new(ErrorKind::Invalid, false, effect, message),
            // Our own timer, or one in between; tonic calls its own CANCELLED.
            Code::DeadlineExceeded | Code::Cancelled => Self::deadline(effect, message),
            _ => Self::broken(effect, message),
        }
    }
}

fn detail_of(status: &Status) -> Option<wire::ErrorDetail> {
    let packed = tonic_types::pb::Status::decode(status.details()).ok()?;
    let any = packed.details.iter().find(|any| any.type_url == DETAIL_TYPE)?;
    wire::ErrorDetail::decode(any.value.as_slice()).ok()
}

/// Whether the connection was never made, so that nothing can have arrived.
fn never_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The status and its innermost cause, which is the part that tells something.
fn describe(status: &Status) -> String {
    let mut innermost = None;
    let mut cause = status.source();
    while let Some(error) = cause {
        innermost = Some(error.to_string());
        cause = error.source();
    }
    match innermost {
        Some(cause) if cause != status.message() => format!("{}: {cause}", status.message()),
        _ if status.message().is_empty() => status.code().description().to_owned(),
        _ => status.message().to_owned(),
    }
}
