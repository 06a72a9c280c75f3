//! What can go wrong, in one type that says what to do about it.
//!
//! Servers say all of it themselves (`quorate.v1.ErrorDetail`, packed in the `google.rpc.Status`
//! of a failed call). A failure without that detail comes from something in between: a broken
//! connection, a proxy. It is [`ErrorKind::Unavailable`], and its effect depends on whether the
//! request was a write that may have reached a node.

mod from_wire;
mod kind;

use std::{error::Error as StdError, fmt, time::Duration};

use quorate_proto::v1 as wire;

pub use kind::ErrorKind;
pub use quorate_proto::v1::Stamp;

/// Short for a result with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What became of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It changed nothing and never will.
    None,
    /// It, or an earlier attempt of it, took effect.
    Applied,
    /// It may have taken effect, or may still.
    Unknown,
}

/// Who leads, according to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The leader's node id.
    pub node_id: u64,
    /// Its address for clients, e.g. `http://127.0.0.1:7101`.
    pub address: String,
    /// The term it leads.
    pub term: u64,
}

impl Leader {
    /// `None` for a hint without an address, which can't be followed.
    pub(crate) fn from_wire(hint: wire::LeaderHint) -> Option<Self> {
        let wire::LeaderHint { node_id, address, term } = hint;
        (!address.is_empty()).then_some(Self { node_id, address, term })
    }
}

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    retryable: bool,
    effect: Effect,
    message: String,
    leader: Option<Leader>,
    retry_after: Duration,
    limit: Option<(String, u64)>,
    start_offset: Option<u64>,
    next_offset: Option<u64>,
    writer_epoch: Option<u64>,
    next_sequence: Option<u64>,
    age: Option<Duration>,
    stamp: Option<Stamp>,
    header: Option<wire::ReadHeader>,
    endpoint: Option<String>,
    secondary: bool,
    from_node: bool,
}

/// A failed call: what was wrong, whether it took effect, whether trying again makes sense.
#[derive(Clone)]
pub struct Error(Box<Inner>);

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        retryable: bool,
        effect: Effect,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            retryable,
            effect,
            message: message.into(),
            leader: None,
            retry_after: Duration::ZERO,
            limit: None,
            start_offset: None,
            next_offset: None,
            writer_epoch: None,
            next_sequence: None,
            age: None,
            stamp: None,
            header: None,
            endpoint: None,
            secondary: false,
            from_node: false,
        }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, false, Effect::None, message)
    }

    pub(crate) fn over_limit(limit: &str, value: u64, message: impl Into<String>) -> Self {
        let mut error = Self::invalid(message);
        error.0.limit = Some((limit.to_owned(), value));
        error
    }

    pub(crate) fn deadline(effect: Effect, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Deadline, true, effect, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        // Another replica may have an undamaged copy.
        Self::new(ErrorKind::Corrupt, true, Effect::None, message)
    }

    /// The connection was lost. `effect` is unknown when a write may have been on it.
    pub(crate) fn broken(effect: Effect, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, true, effect, message)
    }

    /// What was wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later or elsewhere. With [`Effect::Unknown`] a repetition
    /// may also take effect twice, unless it carries a producer sequence.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// What became of the call.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// What was wrong and what to do, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Who leads, if the node knew.
    #[must_use]
    pub fn leader(&self) -> Option<&Leader> {
        self.0.leader.as_ref()
    }

    /// Wait at least this long before a retry; zero when the node has no wish.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.0.retry_after
    }

    /// Name and value of the limit that was exceeded.
    #[must_use]
    pub fn limit(&self) -> Option<(&str, u64)> {
        self.0.limit.as_ref().map(|(name, value)| (name.as_str(), *value))
    }

    /// The log's first readable offset.
    #[must_use]
    pub fn start_offset(&self) -> Option<u64> {
        self.0.start_offset
    }

    /// The log's next offset.
    #[must_use]
    pub fn next_offset(&self) -> Option<u64> {
        self.0.next_offset
    }

    /// The log's current writer epoch.
    #[must_use]
    pub fn writer_epoch(&self) -> Option<u64> {
        self.0.writer_epoch
    }

    /// The producer's next sequence according to the log.
    #[must_use]
    pub fn next_sequence(&self) -> Option<u64> {
        self.0.next_sequence
    }

    /// The age that could have been offered, or that of the state which decided a refusal.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let decided = || self.read_header()?.age_ms.map(Duration::from_millis);
        self.0.age.or_else(decided)
    }

    /// The state by which a read was refused (no such log, trimmed, beyond the end, recreated), and
    /// how old that may be; absent for errors that no read decided.
    #[must_use]
    pub fn read_header(&self) -> Option<&wire::ReadHeader> {
        self.0.header.as_ref()
    }

    /// Where in the group's history a refusal was decided; absent for errors that were not.
    #[must_use]
    pub fn stamp(&self) -> Option<&Stamp> {
        self.0.stamp.as_ref()
    }

    /// The node that was asked last.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    pub(crate) fn at(mut self, endpoint: &str) -> Self {
        self.0.endpoint = Some(endpoint.to_owned());
        self
    }

    pub(crate) fn with_effect(mut self, effect: Effect) -> Self {
        self.0.effect = effect;
        self
    }

    pub(crate) fn with_message(mut self, message: String) -> Self {
        self.0.message = message;
        self
    }

    /// The failure of somebody else, because of which this call failed, too.
    pub(crate) fn into_secondary(mut self, effect: Effect, message: String) -> Self {
        self.0.stamp = None;
        self.0.secondary = true;
        self.with_effect(effect).with_message(message)
    }

    /// Whether a node said so itself; otherwise nobody answered, or something in between.
    pub(crate) fn is_from_node(&self) -> bool {
        self.0.from_node
    }

    pub(crate) fn is_secondary(&self) -> bool {
        self.0.secondary
    }

    /// What the call as a whole came to, when an earlier attempt of it ended unknown. One refusal
    /// clears that doubt: repetitions are recognised before the writer epoch is looked at, and
    /// epochs only rise, so a *producer's* append that was judged FENCED was not appended before
    /// and can't be later.
    pub(crate) fn after_unknown(self, earlier_unknown: bool, producer: bool) -> Self {
        let cleared = producer && self.kind() == ErrorKind::Fenced && self.stamp().is_some();
        match self.effect() {
            Effect::None if earlier_unknown && !cleared => self.with_effect(Effect::Unknown),
            _ => self,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        if let Some(endpoint) = &self.0.endpoint {
            write!(f, " (from {endpoint})")?;
        }
        if self.0.effect == Effect::Unknown {
            write!(f, " [effect unknown]")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Error {}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
