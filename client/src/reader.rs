//! Reading what is there now, to the end, across broken streams.

use std::time::Duration;

use futures::Stream;
use quorate_proto::v1::{self as wire, ReadHeader};

use crate::{
    client::Client,
    consistency::Consistency,
    cursor::{Cursor, Start},
    errors::{Error, Result},
    feed::{Ask, Feed},
    position::Position,
    session::{Reading, Session},
    stored::{ReadBatch, ReadRecord},
    transport::Endpoint,
};

/// A stream of a read that is silent for so long is broken: nodes send as fast as they can.
const IDLE: Duration = Duration::from_secs(10);

/// A read to be; from [`Client::read`]. Reads everything unless told otherwise.
#[derive(Clone, Debug)]
#[must_use = "nothing is read before `open`"]
pub struct Read {
    client: Client,
    log: String,
    start: Start,
    to_offset: Option<u64>,
    max_records: u64,
    max_bytes: u64,
    consistency: Consistency,
    incarnation: Option<u64>,
    session: Option<Session>,
    verify: bool,
}

impl Client {
    /// Reads a log: `client.read("log").from_offset(7).open().await?`.
    pub fn read(&self, log: &str) -> Read {
        Read {
            client: self.clone(),
            log: log.to_owned(),
            start: Start::Default,
            to_offset: None,
            max_records: 0,
            max_bytes: 0,
            consistency: Consistency::of_log(),
            incarnation: None,
            session: None,
            verify: true,
        }
    }
}

impl Read {
    /// Begins at this offset instead of the first readable one.
    pub fn from_offset(mut self, offset: u64) -> Self {
        self.start = Start::Offset(offset);
        self
    }

    /// Begins at the first record with this timestamp or a later one.
    pub fn from_timestamp_ms(mut self, timestamp_ms: u64) -> Self {
        self.start = Start::TimestampMs(timestamp_ms);
        self
    }

    /// Reads the last `n` records.
    pub fn last(mut self, n: u64) -> Self {
        self.start = Start::Last(n);
        self
    }

    /// Ends before this offset instead of the end of the log as of the read.
    pub fn to_offset(mut self, offset: u64) -> Self {
        self.to_offset = Some(offset);
        self
    }

    /// Ends after so many records; 0: no limit.
    pub fn max_records(mut self, records: u64) -> Self {
        self.max_records = records;
        self
    }

    /// Ends after the batch that reaches so many bytes; 0: no limit.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How fresh it must be. Default: the log's own level, which is linearizable where it says none.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Only this incarnation of the log.
    pub fn incarnation(mut self, incarnation: u64) -> Self {
        self.incarnation = Some(incarnation);
        self
    }

    /// From this node and no other; a broken stream is not resumed then.
    pub fn at(mut self, endpoint: &Endpoint) -> Self {
        self.client = self.client.pinned_to(endpoint);
        self
    }

    /// How long the beginning, and each repair, may take. Default: the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.client = self.client.with_timeout(timeout);
        self
    }

    /// Reflects what this session has seen, besides, and counts as seen by it.
    pub(crate) fn within(mut self, session: &Session) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// Whether batches are checked against their CRC32C. Default: yes.
    pub fn verify_checksums(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Begins to read.
    ///
    /// # Errors
    /// [`LogNotFound`](crate::ErrorKind::LogNotFound), [`Trimmed`](crate::ErrorKind::Trimmed),
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange), or the consistency can't be had in time.
    pub async fn open(self) -> Result<Reader> {
        let mut reading = Reading::new(self.session.as_ref(), &self.log, &self.consistency);
        let (feed, header, first) = loop {
            match self.begin(reading.asks()).await {
                Ok(began) => break began,
                Err(error) => reading.refused(error).await?,
            }
        };
        reading.answered(&header);
        let start = self.start.resolve(&header, header.start_offset);
        let mut cursor = Cursor::new(start, self.verify);
        cursor.push(first.batches);
        let end = self.to_offset.unwrap_or(u64::MAX).min(header.next_offset);
        Ok(Reader {
            feed,
            cursor,
            end,
            records_left: (self.max_records > 0).then_some(self.max_records),
            bytes_left: (self.max_bytes > 0).then_some(self.max_bytes),
            start: self.start,
            log: self.log,
            header,
            ended: false,
        })
    }

    async fn begin(&self, asks: &Consistency) -> Result<(Feed, ReadHeader, wire::ReadResponse)> {
        let request = wire::ReadRequest {
            log: self.log.clone(),
            from: self.start.to_wire(),
            to_offset: self.to_offset,
            max_records: self.max_records,
            max_bytes: self.max_bytes,
            consistency: Some(asks.to_wire()),
            incarnation: self.incarnation,
        };
        let patience = Some(self.client.timeout());
        Feed::open(&self.client, &self.log, asks, &Ask::Read(request), IDLE, patience).await
    }
}

/// A read in progress. What it covers was fixed when it began: a broken stream is resumed, on
/// another node, with exactly what is left.
pub struct Reader {
    feed: Feed,
    cursor: Cursor,
    end: u64,
    /// `None`: no limit.
    records_left: Option<u64>,
    bytes_left: Option<u64>,
    start: Start,
    log: String,
    header: ReadHeader,
    ended: bool,
}

impl Reader {
    /// What the read says about itself: which state it reflects, how old that may be, who serves
    /// it, and where the log begins and ends in it.
    #[must_use]
    pub fn header(&self) -> &ReadHeader {
        &self.header
    }

    /// The state it reflects.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::from_bytes(self.header.position.clone())
    }

    /// The node that serves it.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.feed.endpoint()
    }

    /// The next batch; `None` at the end. After an error, `None`. May be dropped while waiting
    /// without losing anything.
    ///
    /// # Errors
    /// [`Trimmed`](crate::ErrorKind::Trimmed) and others that are final; or the stream broke and
    /// could not be resumed in time.
    pub async fn next_batch(&mut self) -> Result<Option<ReadBatch>> {
        if self.ended {
            return Ok(None);
        }
        let result = self.step().await;
        self.ended = !matches!(result, Ok(Some(_)));
        result
    }

    async fn step(&mut self) -> Result<Option<ReadBatch>> {
        loop {
            match self.cursor.pop() {
                Ok(Some(batch)) => {
                    self.feed.progressed();
                    let batch = self.account(batch);
                    if batch.is_none() {
                        self.feed.finish().await;
                    }
                    return Ok(batch);
                }
                Ok(None) => {}
                Err(error) => self.feed.broke(error.at(self.feed.endpoint().as_str()))?,
            }
            if self.is_complete() {
                self.feed.finish().await;
                return Ok(None);
            }
            let Self { feed, cursor, end, records_left, bytes_left, start, log, header, .. } = self;
            let rest = || {
                Ask::Read(wire::ReadRequest {
                    log: log.clone(),
                    from: cursor.next_offset().map_or(*start, Start::Offset).to_wire(),
                    to_offset: Some(*end),
                    max_records: records_left.unwrap_or(0),
                    max_bytes: bytes_left.unwrap_or(0),
                    // What is left was fixed by the first answer: any replica that has it will do.
                    consistency: Some(
                        Consistency::eventual()
                            .at_least(Position::from_bytes(header.position.clone()))
                            .to_wire(),
                    ),
                    incarnation: Some(header.incarnation),
                })
            };
            match feed.next(rest).await? {
                Some(message) => cursor.push(message.batches),
                // From a timestamp on there may be nothing.
                None if cursor.next_offset().is_none() => return Ok(None),
                None => {
                    let message = "the answer ended early";
                    let error = Error::broken(crate::Effect::None, message);
                    feed.broke(error.at(feed.endpoint().as_str()))?;
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        let at_end = self.cursor.next_offset().is_some_and(|next| next >= self.end);
        at_end || self.records_left == Some(0) || self.bytes_left == Some(0)
    }

    /// Holds a batch against what was asked for; `None` when all of it is too much.
    fn account(&mut self, mut batch: ReadBatch) -> Option<ReadBatch> {
        let limit = self.records_left.unwrap_or(u64::MAX);
        batch.hide_from(self.end.min(batch.offsets().start.saturating_add(limit)));
        let offsets = batch.offsets();
        if offsets.is_empty() || self.bytes_left == Some(0) {
            return None;
        }
        let bytes = batch.bytes().len() as u64;
        self.records_left = self.records_left.map(|left| left - (offsets.end - offsets.start));
        self.bytes_left = self.bytes_left.map(|left| left.saturating_sub(bytes));
        Some(batch)
    }

    /// The batches as a stream, which ends after an error.
    pub fn into_batches(self) -> impl Stream<Item = Result<ReadBatch>> + Send + 'static {
        futures::stream::unfold(self, |mut reader| async {
            reader.next_batch().await.transpose().map(|batch| (batch, reader))
        })
    }

    /// The records as a stream, which ends after an error.
    pub fn into_records(self) -> impl Stream<Item = Result<ReadRecord>> + Send + 'static {
        use futures::StreamExt;
        self.into_batches().flat_map(|batch| {
            let (records, error) = match batch {
                Ok(batch) => (Some(batch.records()), None),
                Err(error) => (None, Some(Err(error))),
            };
            futures::stream::iter(records.into_iter().flatten().chain(error))
        })
    }

    /// All records at once. For logs that fit into memory.
    ///
    /// # Errors
    /// As [`Self::next_batch`].
    pub async fn collect(mut self) -> Result<Vec<ReadRecord>> {
        let mut all = Vec::new();
        while let Some(batch) = self.next_batch().await? {
            for record in batch.records() {
                all.push(record?);
            }
        }
        Ok(all)
    }
}
