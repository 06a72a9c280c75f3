//! Reads: what one is to promise, and what it showed.

use bytes::Bytes;
use quorate_jepsen_core::{
    ids::{Incarnation, Node, Offset},
    op::Answer,
};
use quorate_proto::v1::{
    Consistency, Level, OnUnmet, ReadAnswer, ReadFrom, ReadManyRequest, ReadRequest, ReadResponse,
    TaggedRead, read_answer::Result as OnStream, read_from::From as WireFrom,
};
use tonic::Status;

use super::{Direct, Failure, LATE};
use crate::node_api::{batch_of, header_stamp};

/// What a read is to promise.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How fresh.
    pub level: Level,
    /// With the bounded level: how old it may be.
    pub bound_ms: Option<u64>,
    /// It must show what was there at this position.
    pub at_least: Option<Bytes>,
    /// What the node does if it cannot.
    pub on_unmet: OnUnmet,
}

impl Asked {
    /// Everything acknowledged before.
    #[must_use]
    pub fn linearizable() -> Self {
        let (level, on_unmet) = (Level::Linearizable, OnUnmet::Wait);
        Self { level, bound_ms: None, at_least: None, on_unmet }
    }
}

/// What a read showed.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The offset it began at.
    pub from: Offset,
    /// The log's end as of what was read.
    pub next_offset: Offset,
    /// For the history.
    pub answer: Answer,
    /// Who answered.
    pub node: Node,
    /// The age it stated.
    pub age_ms: Option<u64>,
    /// The position it read at.
    pub position: Bytes,
    /// Which of the logs of a name it showed.
    pub incarnation: Option<Incarnation>,
}

impl Direct {
    /// Reads the last records of a log.
    ///
    /// # Errors
    /// The failure.
    pub async fn read_last(
        &mut self,
        log: &str,
        records: u64,
        asked: &Asked,
    ) -> Result<Shown, Failure> {
        let message = ReadRequest {
            log: log.to_owned(),
            from: Some(ReadFrom { from: Some(WireFrom::Last(records)) }),
            consistency: Some(Consistency {
                level: asked.level.into(),
                max_staleness_ms: asked.bound_ms,
                at_least: asked.at_least.iter().cloned().collect(),
                on_unmet: asked.on_unmet.into(),
            }),
            ..ReadRequest::default()
        };
        match self.read(message).await {
            Ok(read) => Ok(read),
            Err(failure) => Err(self.learn(failure)),
        }
    }

    /// On a stream of reads and by a call of its own, in turns: clients do both.
    async fn read(&mut self, message: ReadRequest) -> Result<Shown, Failure> {
        self.reads += 1;
        let whole = match self.reads.is_multiple_of(2) {
            true => self.read_on_stream(message.clone()).await?,
            false => None,
        };
        let shown = match whole {
            Some(whole) => shown(vec![whole]),
            None => self.read_by_call(message).await.and_then(shown),
        };
        shown.map_err(|status| Failure::of(&status))
    }

    async fn read_by_call(&self, message: ReadRequest) -> Result<Vec<ReadResponse>, Status> {
        let mut stream = self.client().read(self.request(message)).await?.into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// `None`: the node wants a call.
    async fn read_on_stream(&self, message: ReadRequest) -> Result<Option<ReadResponse>, Failure> {
        const TAG: u64 = 7;
        let answered = async {
            let timeout_ms = self.deadline.as_millis().try_into().unwrap_or(u64::MAX);
            let reads = vec![TaggedRead { tag: TAG, read: Some(message), timeout_ms }];
            let requests = futures::stream::iter([ReadManyRequest { reads }]);
            let mut stream = self.client().read_many(requests).await?.into_inner();
            let first = stream.message().await?;
            let answers = first.map(|message| message.answers).unwrap_or_default();
            match <[ReadAnswer; 1]>::try_from(answers) {
                Ok([ReadAnswer { tag: TAG, result: Some(result) }]) => Ok(result),
                // A node that stops.
                Err(none) if none.is_empty() => Err(Status::unavailable("the stream ended")),
                other => {
                    let why = format!("one read on a stream was answered with {other:?}");
                    Err(Status::data_loss(why))
                }
            }
        };
        // A stream has no deadline of its own, and a node that is stopped says nothing.
        let limit = self.deadline + LATE;
        let late = |_| Err(Status::deadline_exceeded("no answer on a stream of reads"));
        let answered = tokio::time::timeout(limit, answered).await.unwrap_or_else(late);
        match answered.map_err(|status| Failure::of(&status))? {
            OnStream::Ok(whole) => Ok(Some(whole)),
            OnStream::Error(detail) => Err(Failure::stated(detail)),
            OnStream::CallRead(_) => Ok(None),
        }
    }
}

/// What the messages of a read show.
fn shown(messages: Vec<ReadResponse>) -> Result<Shown, Status> {
    let (mut batches, mut first) = (Vec::new(), None);
    for message in messages {
        first = first.or(message.header);
        for stored in message.batches {
            batches.push(batch_of(stored).map_err(|why| Status::data_loss(why.to_string()))?);
        }
    }
    let header = first.ok_or_else(|| Status::data_loss("a read without a header"))?;
    let next_offset = Offset(header.next_offset);
    let from = batches.first().map_or(next_offset, |batch| batch.first_offset);
    let stamp = header_stamp(&header);
    Ok(Shown {
        from,
        next_offset,
        answer: Answer::Read { batches, next_offset, stamp: Some(stamp) },
        node: Node(header.served_by),
        age_ms: header.age_ms,
        position: header.position,
        incarnation: Some(Incarnation(header.incarnation)),
    })
}
