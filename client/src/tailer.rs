//! Following a log: what is there, then what comes, across broken streams, without a gap and
//! without a repetition.

use std::time::Duration;

use quorate_proto::v1::{self as wire, ReadHeader, ReadResponse};

use crate::{
    client::Client,
    consistency::Consistency,
    cursor::{Cursor, Start},
    errors::{Error, Result},
    feed::{Ask, Feed},
    position::Position,
    runtime::Moment,
    session::{Reading, Session},
    stored::ReadBatch,
    transport::Endpoint,
};

/// Default of [`Tail::header_interval`].
const HEADER_INTERVAL: Duration = Duration::from_secs(1);

/// Headers missed in a row before a stream counts as broken.
const MISSED_HEADERS: u32 = 4;

/// ... but never sooner than this: a node may be busy for a while.
const MIN_IDLE: Duration = Duration::from_secs(3);

/// Default of [`Tail::patience`].
const PATIENCE: Duration = Duration::from_secs(60);

/// A tail to be; from [`Client::tail`]. Begins at the end of the log unless told otherwise.
#[derive(Clone, Debug)]
#[must_use = "nothing is followed before `open`"]
pub struct Tail {
    client: Client,
    log: String,
    start: Start,
    consistency: Consistency,
    incarnation: Option<u64>,
    session: Option<Session>,
    header_interval: Duration,
    patience: Option<Duration>,
    verify: bool,
}

impl Client {
    /// Follows a log: `client.tail("log").from_offset(0).open().await?`.
    pub fn tail(&self, log: &str) -> Tail {
        Tail {
            client: self.clone(),
            log: log.to_owned(),
            start: Start::Default,
            consistency: Consistency::of_log(),
            incarnation: None,
            session: None,
            header_interval: HEADER_INTERVAL,
            patience: Some(PATIENCE),
            verify: true,
        }
    }
}

impl Tail {
    /// Begins at this offset.
    pub fn from_offset(mut self, offset: u64) -> Self {
        self.start = Start::Offset(offset);
        self
    }

    /// Begins at the first record with this timestamp or a later one.
    pub fn from_timestamp_ms(mut self, timestamp_ms: u64) -> Self {
        self.start = Start::TimestampMs(timestamp_ms);
        self
    }

    /// Begins with the last `n` records.
    pub fn last(mut self, n: u64) -> Self {
        self.start = Start::Last(n);
        self
    }

    /// How fresh the headers must prove it to be. Default: the log's own level, which is
    /// linearizable where it says none. Records themselves come as soon as the replica has applied them, at every level.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Only this incarnation of the log.
    pub fn incarnation(mut self, incarnation: u64) -> Self {
        self.incarnation = Some(incarnation);
        self
    }

    /// A header at least this often, also when nothing is appended. Default: 1 s.
    pub fn header_interval(mut self, interval: Duration) -> Self {
        self.header_interval = interval;
        self
    }

    /// How long a broken stream is tried to be resumed before that is an error; `None`: for ever.
    /// Default: 60 s.
    pub fn patience(mut self, patience: Option<Duration>) -> Self {
        self.patience = patience;
        self
    }

    /// From this node and no other; a broken stream is an error then.
    pub fn at(mut self, endpoint: &Endpoint) -> Self {
        self.client = self.client.pinned_to(endpoint);
        self
    }

    /// How long the beginning may take. Default: the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.client = self.client.with_timeout(timeout);
        self
    }

    /// Begins with what this session has seen, and what comes counts as seen by it. The session's
    /// other reads may run ahead of the tail meanwhile.
    pub(crate) fn within(mut self, session: &Session) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// Whether batches are checked against their CRC32C. Default: yes.
    pub fn verify_checksums(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Begins to follow.
    ///
    /// # Errors
    /// [`LogNotFound`](crate::ErrorKind::LogNotFound), [`Trimmed`](crate::ErrorKind::Trimmed),
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange), or the consistency can't be had in time.
    pub async fn open(self) -> Result<Tailer> {
        let interval_ms = u64::try_from(self.header_interval.as_millis()).unwrap_or(u64::MAX);
        let idle = self.header_interval.saturating_mul(MISSED_HEADERS).max(MIN_IDLE);
        let request = wire::TailRequest {
            log: self.log.clone(),
            from: self.start.to_wire(),
            consistency: None,
            incarnation: self.incarnation,
            // 0 would mean the node's default.
            header_interval_ms: interval_ms.max(1),
        };
        let mut reading = Reading::new(self.session.as_ref(), &self.log, &self.consistency);
        let (feed, header, first) = loop {
            let asks = reading.asks();
            let asked = Some(asks.to_wire());
            let ask = Ask::Tail(wire::TailRequest { consistency: asked, ..request.clone() });
            let (client, log) = (&self.client, &self.log);
            match Feed::open(client, log, asks, &ask, idle, self.patience).await {
                Ok(began) => break began,
                Err(error) => reading.refused(error).await?,
            }
        };
        reading.answered(&header);
        let mut cursor = Cursor::new(self.start.resolve(&header, header.next_offset), self.verify);
        cursor.push(first.batches);
        Ok(Tailer {
            header_since: feed.came_after(),
            feed,
            cursor,
            request,
            consistency: self.consistency,
            session: self.session,
            reached: Position::from_bytes(header.position.clone()),
            unread_header: Some(header.clone()),
            header,
            failed: None,
        })
    }
}

/// What a [`Tailer`] yields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TailEvent {
    /// Records, in order.
    Batch(ReadBatch),
    /// How fresh the tail is now, at least every header interval: a quiet log proves by it that
    /// there is nothing new.
    Header(ReadHeader),
}

/// A log being followed.
pub struct Tailer {
    feed: Feed,
    cursor: Cursor,
    request: wire::TailRequest,
    consistency: Consistency,
    session: Option<Session>,
    header: ReadHeader,
    /// What the header says held then.
    header_since: Moment,
    /// Everything received is at or before this.
    reached: Position,
    unread_header: Option<ReadHeader>,
    failed: Option<Error>,
}

impl Tailer {
    /// The newest header.
    #[must_use]
    pub fn header(&self) -> &ReadHeader {
        &self.header
    }

    /// Upper bound on the age of what the newest header said, as of now: the age that it stated, and
    /// the time since it may have been lying here unread. `None`: unknown. The header's own `age_ms`
    /// holds for the moment at which the node wrote it.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let stated = Duration::from_millis(self.header.age_ms?);
        Some(stated.saturating_add(self.header_since.until(&Moment::now())))
    }

    /// The offset of the record that comes next: where a later tail can go on. `None` as long as
    /// nothing came of a tail that began at a timestamp.
    #[must_use]
    pub fn next_offset(&self) -> Option<u64> {
        self.cursor.next_offset()
    }

    /// The node that serves it.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.feed.endpoint()
    }

    /// What comes next. May be dropped while waiting without losing anything.
    ///
    /// # Errors
    /// [`Trimmed`](crate::ErrorKind::Trimmed) (the log was trimmed beyond where this tail stood),
    /// [`LogNotFound`](crate::ErrorKind::LogNotFound) and
    /// [`LogRecreated`](crate::ErrorKind::LogRecreated) (it was deleted), or the stream broke and
    /// could not be resumed in time. All of these are final: later calls return them again.
    pub async fn next(&mut self) -> Result<TailEvent> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let event = self.step().await;
        if let Err(error) = &event {
            self.failed = Some(error.clone());
        }
        event
    }

    async fn step(&mut self) -> Result<TailEvent> {
        loop {
            if let Some(header) = self.unread_header.take() {
                return Ok(TailEvent::Header(header));
            }
            match self.cursor.pop() {
                Ok(Some(batch)) => {
                    self.feed.progressed();
                    return Ok(TailEvent::Batch(batch));
                }
                Ok(None) => {}
                Err(error) => self.feed.broke(error.at(self.feed.endpoint().as_str()))?,
            }
            let Self { feed, cursor, request, consistency, header, reached, .. } = self;
            let resume = || {
                let mut request = request.clone();
                if let Some(next) = cursor.next_offset() {
                    request.from = Start::Offset(next).to_wire();
                }
                // Never back behind what was seen.
                let asks = consistency.clone().at_least(reached.clone());
                request.consistency = Some(asks.to_wire());
                request.incarnation = Some(header.incarnation);
                Ask::Tail(request)
            };
            match feed.next(resume).await? {
                Some(message) => {
                    self.note(&message);
                    self.cursor.push(message.batches);
                }
                None => {
                    let error = Error::broken(crate::Effect::None, "the node ended the tail");
                    feed.broke(error.at(feed.endpoint().as_str()))?;
                }
            }
        }
    }

    /// Takes in what a message says about itself, before its records are handed out: the session has
    /// seen them from then on.
    fn note(&mut self, message: &ReadResponse) {
        let (log, session) = (&self.request.log, self.session.as_ref());
        match &message.header {
            Some(header) => {
                if let Some(session) = session {
                    session.saw(log, header);
                }
                self.reached = Position::from_bytes(header.position.clone());
                self.header_since = self.feed.came_after();
                self.header = header.clone();
                self.unread_header = Some(header.clone());
            }
            None if !message.position.is_empty() => {
                self.reached = Position::from_bytes(message.position.clone());
                if let Some(session) = session {
                    let at = (message.applied_index, self.reached.clone());
                    session.reached(log, &self.header, at);
                }
            }
            None => {}
        }
    }
}
