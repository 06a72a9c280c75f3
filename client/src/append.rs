//! Appends one at a time: with conditions, and to several logs at once. For throughput, and for
//! exactly-once without thinking, see [`Client::append`] and [`Producer`](crate::Producer).

use quorate_proto::v1 as wire;

use crate::{
    batch::{Batch, Record},
    call::Call,
    client::Client,
    errors::{Result, Stamp},
    logs::present,
    position::{Position, ProducerId},
    retry::Safety,
};

/// Anything that can be appended: a [`Batch`], or records (or what converts into them).
pub trait IntoBatch {
    /// The batch.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): no record, or over a limit.
    fn into_batch(self) -> Result<Batch>;
}

impl IntoBatch for Batch {
    fn into_batch(self) -> Result<Batch> {
        Ok(self)
    }
}

impl<I: IntoIterator<Item: Into<Record>>> IntoBatch for I {
    fn into_batch(self) -> Result<Batch> {
        Batch::of(self)
    }
}

/// Conditions of an append, judged in the moment it takes effect. All that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// The log's next offset must be this.
    pub expected_offset: Option<u64>,
    /// The log's current writer epoch must be this, as [`Client::fence`] returned it.
    pub writer_epoch: Option<u64>,
    /// Who appends, and its number for this batch (0 for the first one, then one more each). A
    /// repetition is recognised by it, which makes the append safe to retry.
    pub producer: Option<(ProducerId, u64)>,
    /// The log's incarnation must be this: protects against a log deleted and created again.
    pub incarnation: Option<u64>,
}

impl AppendOptions {
    pub(crate) fn to_wire(&self) -> wire::AppendConditions {
        wire::AppendConditions {
            expected_offset: self.expected_offset,
            writer_epoch: self.writer_epoch,
            producer: self
                .producer
                .map(|(id, sequence)| wire::Producer { id: id.0.to_vec().into(), sequence }),
            incarnation: self.incarnation,
        }
    }
}

/// Where records were appended.
#[derive(Clone, Debug, PartialEq)]
pub struct Appended {
    /// Offset of the first record.
    pub first_offset: u64,
    /// One past the offset of the last record.
    pub next_offset: u64,
    /// The leader's time for the batch, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// It had been appended before, by the same producer under the same sequence; the offsets are
    /// the original ones.
    pub deduplicated: bool,
    /// The log's incarnation.
    pub incarnation: u64,
    /// Hand it to a read ([`Consistency::at_least`](crate::Consistency::at_least)) to see at least
    /// this append.
    pub position: Position,
    /// Term and log index of the decision.
    pub stamp: Option<Stamp>,
}

impl Appended {
    pub(crate) fn from_wire(answer: wire::AppendResponse) -> Result<Self> {
        let part = present(answer.part, "part")?;
        Ok(Self {
            first_offset: part.first_offset,
            next_offset: part.next_offset,
            timestamp_ms: part.timestamp_ms,
            deduplicated: part.deduplicated,
            incarnation: part.incarnation,
            position: Position::from_bytes(answer.position),
            stamp: answer.stamp,
        })
    }
}

/// One log's part of an atomic append.
#[derive(Clone, Debug)]
pub struct AppendPart {
    /// The log.
    pub log: String,
    /// What is appended to it.
    pub batch: Batch,
    /// Under which conditions.
    pub options: AppendOptions,
}

impl Client {
    /// Appends one batch, in one call, under conditions. It is repeated only when that is safe:
    /// when nothing happened, or when `options.producer` makes repetitions harmless. Otherwise a
    /// lost answer is an error whose [`Error::effect`](crate::Error::effect) is unknown.
    ///
    /// # Errors
    /// Conditions that don't hold: [`OffsetMismatch`](crate::ErrorKind::OffsetMismatch),
    /// [`Fenced`](crate::ErrorKind::Fenced),
    /// [`EpochNotGranted`](crate::ErrorKind::EpochNotGranted),
    /// [`LogRecreated`](crate::ErrorKind::LogRecreated), the sequence kinds; and
    /// [`LogNotFound`](crate::ErrorKind::LogNotFound).
    pub async fn append_with(
        &self,
        log: &str,
        batch: impl IntoBatch,
        options: &AppendOptions,
    ) -> Result<Appended> {
        let part = batch.into_batch()?.into_part(log, options.to_wire());
        let request = wire::AppendRequest { part: Some(part), ack: wire::Ack::Quorum.into() };
        let call = append_call("Append", log, options.producer.is_some());
        let (answer, endpoint) = self
            .call(call, |transport, to, timeout| {
                let request = request.clone();
                async move { transport.append(&to, request, timeout).await }
            })
            .await?;
        self.confirm(log, &endpoint, answer.stamp.as_ref());
        Appended::from_wire(answer)
    }

    /// Appends to several logs of one group in one atomic step: all parts or none. Logs whose
    /// names share a `{tag}` are in one group. Repeated when that is safe, as
    /// [`Self::append_with`]: every part must carry a producer for that.
    ///
    /// # Errors
    /// As [`Self::append_with`], and [`CrossGroup`](crate::ErrorKind::CrossGroup).
    pub async fn append_multi(&self, parts: Vec<AppendPart>) -> Result<Vec<Appended>> {
        let Some(log) = parts.first().map(|part| part.log.clone()) else {
            return Err(crate::Error::invalid("an atomic append needs at least one part"));
        };
        let repeatable = parts.iter().all(|part| part.options.producer.is_some());
        let asked = parts.len();
        let request = wire::AppendMultiRequest {
            parts: parts
                .into_iter()
                .map(|part| part.batch.into_part(&part.log, part.options.to_wire()))
                .collect(),
            ack: wire::Ack::Quorum.into(),
        };
        let (answer, endpoint) = self
            .call(append_call("AppendMulti", &log, repeatable), |transport, to, timeout| {
                let request = request.clone();
                async move { transport.append_multi(&to, request, timeout).await }
            })
            .await?;
        self.confirm(&log, &endpoint, answer.stamp.as_ref());
        present((answer.parts.len() == asked).then_some(()), "answer to every part")?;
        let (position, stamp) = (answer.position, answer.stamp);
        let each = |part| {
            Appended::from_wire(wire::AppendResponse {
                part: Some(part),
                position: position.clone(),
                stamp,
            })
        };
        answer.parts.into_iter().map(each).collect()
    }
}

fn append_call<'a>(rpc: &'static str, log: &'a str, producer: bool) -> Call<'a> {
    let safety = if producer { Safety::Repeatable } else { Safety::Once };
    Call { producer, ..Call::write(rpc, log, safety) }
}
