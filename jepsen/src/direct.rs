//! A client without the SDK: one request to one node, and its answer in a history's words.
//!
//! The tests need it beside the SDK, because a client that retries by itself cannot show what a
//! single answer was worth.

mod failure;
mod read;

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use quorate_jepsen_core::{
    ids::{Epoch, Incarnation, Node, Offset},
    op::{Answer, Append},
    payload,
};
use quorate_proto::v1::{
    AppendConditions, AppendPart, AppendRequest, CreateLogRequest, DeleteLogRequest, ErrorKind,
    FenceRequest, Producer, Record, TrimLogRequest, log_service_client::LogServiceClient,
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use crate::endpoints::Endpoints;
pub use failure::{Failure, NO_ANSWER, stamp_of};
pub use read::{Asked, Shown};

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
    /// How many were asked for.
    reads: u64,
}

/// Longer than a node is told, so that it can still answer.
const LATE: Duration = Duration::from_millis(500);

impl Direct {
    /// Connects when first used.
    ///
    /// # Errors
    /// An address is no URL.
    pub fn new(endpoints: &Endpoints, deadline: Duration) -> Result<Self> {
        let channel = |url: &String| -> Result<Channel> {
            let endpoint = Endpoint::from_shared(url.clone())?
                .connect_timeout(Duration::from_secs(1))
                .timeout(deadline + LATE);
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
            reads: 0,
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
        self.learn(Failure::of(status))
    }

    fn learn(&mut self, failure: Failure) -> Failure {
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
}
