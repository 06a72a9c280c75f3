//! What every RPC needs of the node.

use std::{sync::Arc, time::Duration};

use quorate_proto::v1::Effect;
use quorate_state_machine::{
    command::Command,
    outcome::{Accepted, Outcome},
    types::{GroupId, Incarnation, LogName, LogPoint},
};
use tokio::sync::oneshot;
use tonic::metadata::MetadataMap;

use super::{
    errors::{self, ApiError},
    forward::Forwarder,
    position::Position,
    route,
};
use crate::{
    gate::Gate,
    observe::Metrics,
    read::{levels::Level, reader::Reader},
    runtime,
    write::{
        admission::{Admission, Permit},
        proposer::{Answer, Proposer},
    },
};

/// Without a deadline of the caller's own, a request is answered within this.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A caller's deadline is ours less a twentieth, within these limits, so that our typed answer
/// reaches him before his own library gives up: also where both machines are busy.
const ANSWER_MARGIN: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

/// One group's two sides.
#[derive(Clone)]
pub struct GroupSides {
    /// Writing.
    pub proposer: Proposer,
    /// Reading.
    pub reader: Reader,
}

/// Shared by all services of the node.
pub struct Context {
    /// Cluster id.
    pub cluster: [u8; 16],
    /// This node's id.
    pub node_id: u64,
    /// All groups, by number.
    pub groups: Vec<GroupSides>,
    /// The bound on commands in flight.
    pub admission: Admission,
    /// Closed when the node begins to stop.
    pub gate: Gate,
    /// For reads that ask to be forwarded.
    pub forwarder: Forwarder,
    /// The level that no read goes below.
    pub floor: Level,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// When a caller stops waiting.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    timeout: Duration,
    started: runtime::Instant,
}

impl Deadline {
    /// From the `grpc-timeout` header (gRPC over HTTP/2, "Timeout"), or the default.
    #[must_use]
    pub fn of(metadata: &MetadataMap) -> Self {
        let asked = metadata.get("grpc-timeout").and_then(|v| parse_timeout(v.to_str().ok()?));
        asked.map_or_else(Self::default_for_streams, Self::within)
    }

    /// Of a caller who waits this long.
    #[must_use]
    pub fn within(asked: Duration) -> Self {
        Self { timeout: asked.saturating_sub(margin(asked)), started: runtime::now() }
    }

    /// No deadline of its own (streams).
    #[must_use]
    pub fn default_for_streams() -> Self {
        Self { timeout: DEFAULT_TIMEOUT, started: runtime::now() }
    }

    /// What is left of it.
    #[must_use]
    pub fn left(self) -> Duration {
        self.timeout.saturating_sub(self.started.elapsed())
    }

    /// Runs `work` until the deadline.
    ///
    /// # Errors
    /// What `late` makes of a missed deadline.
    pub async fn run<T>(
        self,
        work: impl Future<Output = Result<T, ApiError>>,
        effect_if_late: Effect,
    ) -> Result<T, ApiError> {
        match runtime::timeout(self.left(), work).await {
            Ok(result) => result,
            Err(_) => Err(ApiError::deadline(effect_if_late)),
        }
    }
}

fn margin(timeout: Duration) -> Duration {
    let [least, most] = ANSWER_MARGIN;
    (timeout / 20).clamp(least, most)
}

fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

impl Context {
    /// Checks a name and finds its group.
    ///
    /// # Errors
    /// The name breaks a rule.
    pub fn locate(&self, name: &str) -> Result<(LogName, GroupId), ApiError> {
        let name = LogName::new(name)?;
        let group = route::group_of(&name, self.groups.len() as u32);
        Ok((name, group))
    }

    /// One group's sides.
    #[must_use]
    pub fn sides(&self, group: GroupId) -> &GroupSides {
        &self.groups[group.0 as usize]
    }

    /// Admits and queues a command.
    ///
    /// # Errors
    /// The node is stopping, or the bound is reached: no effect.
    pub fn submit(
        &self,
        group: GroupId,
        command: Command,
    ) -> Result<oneshot::Receiver<Answer>, ApiError> {
        if self.gate.is_closed() {
            return Err(ApiError::shutting_down());
        }
        let permit: Permit = self
            .admission
            .admit(command.encoded_len())
            .inspect_err(|_| self.metrics.admission_refused())?;
        Ok(self.sides(group).proposer.submit(command, permit))
    }

    /// Submits a command and waits for what it came to. A missed deadline leaves the effect
    /// unknown: the command stays on its way.
    ///
    /// # Errors
    /// As [`Self::submit`], the write's failure, or the state machine's refusal.
    pub async fn execute(
        &self,
        group: GroupId,
        command: Command,
        deadline: Deadline,
    ) -> Result<(Outcome, Accepted), ApiError> {
        let receiver = self.submit(group, command)?;
        deadline.run(accept(group, receiver), Effect::Unknown).await
    }

    /// The token of a point.
    #[must_use]
    pub fn position(&self, group: GroupId, at: LogPoint, incarnation: Incarnation) -> bytes::Bytes {
        Position { cluster: self.cluster, group, at, incarnation }.encode()
    }
}

/// Waits for an answer and splits acceptance from refusal.
///
/// # Errors
/// The write's failure, or the state machine's refusal.
pub async fn accept(
    group: GroupId,
    receiver: oneshot::Receiver<Answer>,
) -> Result<(Outcome, Accepted), ApiError> {
    let outcome = receiver.await.map_err(|_| ApiError::write_lost("its core is gone"))??;
    match &outcome.result {
        Ok(accepted) => {
            let accepted = accepted.clone();
            Ok((outcome, accepted))
        }
        Err(refused) => Err(errors::refused(group, &outcome, refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_time_to_arrive() {
        let left = |timeout: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", timeout.parse().unwrap());
            Deadline::of(&metadata).timeout.as_millis()
        };
        let table =
            [("3m", 0), ("20m", 15), ("200m", 190), ("1S", 950), ("3S", 2_900), ("1M", 59_900)];
        for (timeout, expected) in table {
            assert_eq!(left(timeout), expected, "{timeout}");
        }
        assert_eq!(Deadline::of(&MetadataMap::new()).timeout, DEFAULT_TIMEOUT);
    }

    #[test]
    fn grpc_timeouts() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "S", "1", "123456789S", "-1S", "1x", "é", "1é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}
