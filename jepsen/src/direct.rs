//! A client without the SDK: one request to one node, and its answer in a history's words.
//!
//! The tests need it beside the SDK, because a client that retries by itself cannot show what a
//! single answer was worth.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use prost::Message as _;
use quorate_jepsen_core::{
    ids::{Epoch, Incarnation, Node, Offset, Stamp},
    op::{Answer, Append},
    payload,
};
use quorate_proto::v1::{
    AppendConditions, AppendPart, AppendRequest, Consistency, CreateLogRequest, DeleteLogRequest,
    Effect, ErrorDetail, ErrorKind, FenceRequest, Level, OnUnmet, Producer, ReadFrom, ReadRequest,
    Record, TrimLogRequest, log_service_client::LogServiceClient, read_from::From as WireFrom,
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    endpoints::Endpoints,
    node_api::{batch_of, header_stamp},
};

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
    fn of(status: &Status) -> Self {
        let detail = tonic_types::pb::Status::decode(status.details()).ok().and_then(|status| {
            let any =
                status.details.into_iter().find(|any| any.type_url.ends_with("ErrorDetail"))?;
            ErrorDetail::decode(&any.value[..]).ok()
        });
        match detail {
            Some(detail) => Self {
                kind: detail.kind(),
                effect: match detail.effect() {
                    // A node that does not say cannot be trusted to have done nothing.
                    Effect::Unspecified => Effect::Unknown,
                    said => said,
                },
                message: detail.message.clone(),
                detail: Some(Box::new(detail)),
            },
            None => Self {
                kind: ErrorKind::Unavailable,
                effect: if never_sent(status) { Effect::None } else { Effect::Unknown },
                message: format!("{:?}: {}", status.code(), status.message()),
                detail: None,
            },
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

/// A connection to each node, and the node last known to answer.
#[derive(Clone, Debug)]
pub struct Direct {
    endpoints: Endpoints,
    /// To each of them.
    channels: Vec<Channel>,
    current: usize,
    deadline: Duration,
    position: Bytes,
    incarnation: Option<Incarnation>,
}

impl Direct {
    /// Connects when first used.
    ///
    /// # Errors
    /// An address is no URL.
    pub fn new(endpoints: &Endpoints, deadline: Duration) -> Result<Self> {
        let channel = |url: &String| -> Result<Channel> {
            let endpoint = Endpoint::from_shared(url.clone())?
                .connect_timeout(Duration::from_secs(1))
                // Longer than what the server is told, so that it can still answer.
                .timeout(deadline + Duration::from_millis(500));
            Ok(endpoint.connect_lazy())
        };
        let channels = endpoints.urls().iter().map(channel).collect::<Result<_>>()?;
        let endpoints = endpoints.clone();
        Ok(Self {
            channels,
            current: endpoints.nth(0),
            endpoints,
            deadline,
            position: Bytes::new(),
            incarnation: None,
        })
    }

    /// Asks another node next time.
    pub fn rotate(&mut self) {
        self.current = self.endpoints.after(self.current);
    }

    /// Asks this one next time, counted from 0 around those that are called now.
    pub fn aim(&mut self, number: usize) {
        self.current = self.endpoints.nth(number);
    }

    /// Who is asked next; the addresses are those of the nodes, in order.
    #[must_use]
    pub fn aimed(&self) -> Node {
        Node(self.current as u64 + 1)
    }

    fn client(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channels[self.current].clone())
            .max_decoding_message_size(64 << 20)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    /// Follows the hint of a failure, or goes on to the next node.
    fn failed(&mut self, status: &Status) -> Failure {
        let failure = Failure::of(status);
        let hint = failure.detail.as_ref().and_then(|detail| detail.leader.as_ref());
        let hinted = hint
            .and_then(|hint| self.endpoints.urls().iter().position(|url| *url == hint.address))
            .filter(|hinted| *hinted != self.current);
        match hinted {
            Some(hinted) => self.current = hinted,
            None if failure.detail.is_none()
                || matches!(
                    failure.kind,
                    ErrorKind::NotLeader
                        | ErrorKind::ShuttingDown
                        | ErrorKind::Unavailable
                        | ErrorKind::Deadline
                ) =>
            {
                self.rotate();
            }
            None => {}
        }
        failure
    }

    /// Creates a log if it is absent.
    ///
    /// # Errors
    /// The failure; asking again is safe.
    pub async fn create(&mut self, log: &str) -> Result<Answer, Failure> {
        let message = CreateLogRequest {
            name: log.to_owned(),
            if_absent: true,
            ..CreateLogRequest::default()
        };
        match self.client().create_log(self.request(message)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let info = answer.log.unwrap_or_default();
                self.incarnation = Some(Incarnation(info.incarnation));
                Ok(Answer::Created {
                    created: answer.created,
                    next_offset: Offset(info.next_offset),
                    stamp: answer.stamp.map(stamp_of),
                })
            }
            Err(status) => Err(self.failed(&status)),
        }
    }

    /// Deletes a log: this incarnation only, or whichever has the name.
    ///
    /// # Errors
    /// The failure.
    pub async fn delete(
        &mut self,
        log: &str,
        only: Option<Incarnation>,
    ) -> Result<Answer, Failure> {
        let incarnation = only.map(|only| only.0);
        let message = DeleteLogRequest { name: log.to_owned(), incarnation };
        match self.client().delete_log(self.request(message)).await {
            Ok(answer) => Ok(Answer::Deleted { stamp: answer.into_inner().stamp.map(stamp_of) }),
            Err(status) => Err(self.failed(&status)),
        }
    }

    /// Appends once; `sequence` goes with the producer id.
    ///
    /// # Errors
    /// The failure.
    pub async fn append(
        &mut self,
        append: &Append,
        producer: Option<(uuid::Uuid, u64)>,
        record_bytes: usize,
    ) -> Result<Answer, Failure> {
        self.append_to(append, producer, record_bytes, None).await
    }

    /// As [`Direct::append`], but to this incarnation of the log only.
    ///
    /// # Errors
    /// The failure.
    pub async fn append_to(
        &mut self,
        append: &Append,
        producer: Option<(uuid::Uuid, u64)>,
        record_bytes: usize,
        only: Option<Incarnation>,
    ) -> Result<Answer, Failure> {
        let records = append.records.iter().map(|id| Record {
            value: payload::encode(*id, record_bytes).into(),
            ..Record::default()
        });
        let conditions = AppendConditions {
            expected_offset: append.expected_offset.map(|offset| offset.0),
            writer_epoch: append.writer_epoch.map(|epoch| epoch.0),
            producer: producer
                .map(|(id, sequence)| Producer { id: id.as_bytes().to_vec().into(), sequence }),
            incarnation: only.map(|only| only.0),
        };
        let part = AppendPart {
            log: append.log.clone(),
            records: records.collect(),
            conditions: Some(conditions),
            ..AppendPart::default()
        };
        let message = AppendRequest { part: Some(part), ..AppendRequest::default() };
        match self.client().append(self.request(message)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let part = answer.part.unwrap_or_default();
                self.position = answer.position;
                self.incarnation = Some(Incarnation(part.incarnation));
                Ok(Answer::Appended {
                    first_offset: Offset(part.first_offset),
                    next_offset: Offset(part.next_offset),
                    deduplicated: part.deduplicated,
                    stamp: answer.stamp.map(stamp_of),
                })
            }
            Err(status) => Err(self.failed(&status)),
        }
    }

    /// Raises the writer epoch.
    ///
    /// # Errors
    /// The failure.
    pub async fn fence(&mut self, log: &str) -> Result<Answer, Failure> {
        let message = FenceRequest { log: log.to_owned(), ..FenceRequest::default() };
        match self.client().fence(self.request(message)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                Ok(Answer::Fenced {
                    epoch: Epoch(answer.writer_epoch),
                    next_offset: Offset(answer.next_offset),
                    stamp: answer.stamp.map(stamp_of),
                })
            }
            Err(status) => Err(self.failed(&status)),
        }
    }

    /// Makes a log begin at an offset.
    ///
    /// # Errors
    /// The failure.
    pub async fn trim(&mut self, log: &str, before: Offset) -> Result<Answer, Failure> {
        let message = TrimLogRequest {
            name: log.to_owned(),
            before_offset: before.0,
            ..TrimLogRequest::default()
        };
        match self.client().trim_log(self.request(message)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let (start, stamp) = (Offset(answer.start_offset), answer.stamp.map(stamp_of));
                Ok(Answer::Trimmed { start, stamp })
            }
            Err(status) => Err(self.failed(&status)),
        }
    }

    /// The position of the last append that was acknowledged here.
    #[must_use]
    pub fn position(&self) -> &Bytes {
        &self.position
    }

    /// Which of the logs of a name the last answer to a creation or an append was of.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

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
            Err(status) => Err(self.failed(&status)),
        }
    }

    async fn read(&mut self, message: ReadRequest) -> Result<Shown, Status> {
        let mut stream = self.client().read(self.request(message)).await?.into_inner();
        let (mut batches, mut first) = (Vec::new(), None);
        while let Some(message) = stream.message().await? {
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
}
