//! A stream of read responses that is opened again, elsewhere, when it breaks. What to ask for
//! then is the owner's business; when to give up is decided here.

use std::time::Duration;

use futures::StreamExt;
use quorate_proto::v1::{self as wire, ReadResponse};

use crate::{
    arrival::{self, Arrival},
    call::{self, Call, Load},
    client::Client,
    consistency::Consistency,
    errors::{Error, ErrorKind, Result},
    logs::present,
    retry::Hints,
    runtime::{self, Instant, Moment},
    transport::{Answers, Endpoint},
};

/// How long to wait for the end of a stream behind its last message: it is sent with it.
const END: Duration = Duration::from_millis(100);

/// What to ask a node for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Read(wire::ReadRequest),
    Tail(wire::TailRequest),
}

impl Ask {
    fn rpc(&self) -> &'static str {
        match self {
            Self::Read(_) => "Read",
            Self::Tail(_) => "Tail",
        }
    }
}

/// An open stream, or what is needed to open it again.
pub(crate) struct Feed {
    client: Client,
    log: String,
    endpoint: Endpoint,
    stream: Option<Answers<ReadResponse>>,
    arrival: Arrival,
    /// Since when the last message may have been there.
    came_after: Moment,
    /// Counts as a read under way at the endpoint.
    load: Option<Load>,
    /// Silence longer than this is a broken stream.
    idle: Duration,
    asked: Consistency,
    /// How long to try to repair it; `None`: for ever.
    patience: Option<Duration>,
    /// Why, since when, and after how many attempts the stream is not open.
    failure: Option<Error>,
    broken_since: Option<Instant>,
    attempt: u32,
    hints: Hints,
}

impl Feed {
    /// Opens the stream and waits for its first message, whose header says what is being read.
    pub(crate) async fn open(
        client: &Client,
        log: &str,
        asked: &Consistency,
        ask: &Ask,
        idle: Duration,
        patience: Option<Duration>,
    ) -> Result<(Self, wire::ReadHeader, ReadResponse)> {
        let call = Call::read(ask.rpc(), log, asked);
        let (Began { stream, header, first, asked: since }, endpoint) = client
            .call(call, |transport, to, timeout| {
                let ask = ask.clone();
                async move { begin(&*transport, &to, ask, timeout).await }
            })
            .await?;
        let feed = Self {
            load: Some(Load::at(client, &endpoint)),
            client: client.clone(),
            log: log.to_owned(),
            endpoint,
            stream: Some(stream),
            arrival: Arrival::new(since),
            came_after: since,
            idle,
            asked: client.routed(log, asked).into_owned(),
            patience,
            failure: None,
            broken_since: None,
            attempt: 0,
            hints: Hints::default(),
        };
        feed.client.learn(log, &header);
        feed.client.learn_level(log, asked, &header);
        Ok((feed, header, first))
    }

    /// The node that serves it now, or did last.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The last message came after this.
    pub(crate) fn came_after(&self) -> Moment {
        self.came_after
    }

    /// The next message; `None` when the stream ended without an error. Opens the stream again
    /// where needed, asking for `ask()`. May be dropped and called again at any time.
    pub(crate) async fn next(&mut self, ask: impl Fn() -> Ask) -> Result<Option<ReadResponse>> {
        loop {
            let Some(stream) = &mut self.stream else {
                match self.reopen(ask()).await {
                    Ok(message) => return Ok(Some(message)),
                    Err(error) => self.broke(error)?,
                }
                continue;
            };
            match arrival::next(stream, &mut self.arrival, self.idle).await {
                Some(Some(Ok(message))) => {
                    self.came_after = self.arrival.since();
                    // The first message of a reopened stream proves little (see `reopen`); a header
                    // on a stream that lives is as good as a record.
                    if let Some(header) = &message.header {
                        self.client.learn(&self.log, header);
                        self.progressed();
                    }
                    return Ok(Some(message));
                }
                Some(Some(Err(error))) => self.broke(error)?,
                Some(None) => return Ok(None),
                None => {
                    let silence = format!("nothing came for {} ms", self.idle.as_millis());
                    let error = Error::broken(crate::Effect::None, silence);
                    self.broke(error.at(self.endpoint.as_str()))?;
                }
            }
        }
    }

    /// Takes the end of a stream from which the owner needs nothing more. To drop it before its end
    /// would reset it, and HTTP/2 gives up a connection after about a thousand of those that cross
    /// with something from the other side.
    pub(crate) async fn finish(&mut self) {
        self.load = None;
        if let Some(mut stream) = self.stream.take() {
            // Whatever it ends with changes nothing.
            let _ = runtime::timeout(END, stream.next()).await;
        }
    }

    /// The owner got on: what comes now is a new failure.
    pub(crate) fn progressed(&mut self) {
        self.attempt = 0;
        self.broken_since = None;
    }

    /// Notes a failure, or returns it when it is final.
    pub(crate) fn broke(&mut self, error: Error) -> Result<()> {
        (self.stream, self.load) = (None, None);
        let since = *self.broken_since.get_or_insert_with(runtime::now);
        // Reached only when resuming what was there before: this replica is behind the last one.
        let behind = error.kind() == ErrorKind::OutOfRange;
        let in_time = self.patience.is_none_or(|patience| since.elapsed() < patience);
        let repairable = error.is_retryable() && !call::is_final(&self.asked, &error) || behind;
        if self.client.pinned().is_some() || !in_time || !repairable {
            return Err(error);
        }
        tracing::debug!(log = self.log, endpoint = %self.endpoint, %error, "a read stream broke");
        self.client.blame(&self.endpoint, &self.asked, &error, self.idle);
        self.failure = Some(error);
        Ok(())
    }

    async fn reopen(&mut self, ask: Ask) -> Result<ReadResponse> {
        if let Some(error) = self.failure.clone() {
            let pause = self.client.pause(self.attempt, self.hints.is_news(&error), &error);
            runtime::sleep(pause).await;
            // Not before: a caller who drops us in the pause finds the failure again.
            let failed = &self.endpoint;
            self.endpoint = self.client.next_reader(&self.log, &self.asked, failed, &error);
            self.failure = None;
            self.attempt += 1;
        }
        let transport = self.client.shared.transport.clone();
        let timeout = self.client.timeout().min(self.idle);
        let began = begin(&*transport, &self.endpoint, ask, timeout).await?;
        let Began { stream, header, first, asked } = began;
        (self.arrival, self.came_after) = (Arrival::new(asked), asked);
        tracing::debug!(log = self.log, endpoint = %self.endpoint, "a read stream is resumed");
        self.client.learn(&self.log, &header);
        self.stream = Some(stream);
        self.load = Some(Load::at(&self.client, &self.endpoint));
        Ok(first)
    }
}

/// A stream that has begun.
struct Began {
    stream: Answers<ReadResponse>,
    header: wire::ReadHeader,
    first: ReadResponse,
    /// Before it was asked for.
    asked: Moment,
}

async fn begin(
    transport: &dyn crate::Transport,
    to: &Endpoint,
    ask: Ask,
    timeout: Duration,
) -> Result<Began> {
    let asked = Moment::now();
    let began = async {
        let mut stream = match ask {
            Ask::Read(request) => transport.read(to, request, timeout).await?,
            Ask::Tail(request) => transport.tail(to, request, timeout).await?,
        };
        match stream.next().await {
            Some(Ok(first)) => {
                let header = present(first.header.clone(), "header")?;
                Ok(Began { stream, header, first, asked })
            }
            Some(Err(error)) => Err(error),
            None => {
                let message = "the stream ended before its header";
                Err(Error::broken(crate::Effect::None, message).at(to.as_str()))
            }
        }
    };
    runtime::timeout(timeout, began).await.unwrap_or_else(|| {
        let message = format!("no answer within {} ms", timeout.as_millis());
        Err(Error::deadline(crate::Effect::None, message).at(to.as_str()))
    })
}
