//! The task behind a producer: one stream to the leader, opened again elsewhere when it breaks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture};
use quorate_proto::v1 as wire;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Failure,
    window::{self, Submission, Verdict, Window},
};
use crate::{
    append::{AppendOptions, Appended},
    batch::Batch,
    client::Client,
    errors::{Effect, Error, Result},
    position::ProducerId,
    retry::{self, Hints},
    runtime::{self, Instant, Moment},
    transport::{Answers, Endpoint},
};

/// Nothing is resent after this long. The log forgets a producer 24 hours after its last append, and
/// would then take a repetition of its first batch for something new; half of that leaves room for
/// clocks that run at different rates.
pub(super) const MAX_AGE: Duration = Duration::from_secs(12 * 60 * 60);

/// A stream without work is closed after this long; the next append opens another.
const IDLE: Duration = Duration::from_secs(60);

/// Commands taken from the queue at a time.
const DRAIN: usize = 256;

/// How often callers are given their turn between an answer and the next batch: a bound only, for
/// a crowd that neither comes to rest nor fills a batch.
const TURNS: usize = 64;

/// Turns in which nothing happens before the rest of a crowd is not waited for any more. A turn is
/// over when all that could run on this thread has run; callers on other threads take a few.
const QUIET_TURNS: usize = 3;

pub(super) enum Command {
    Append(Submission),
    Flush(oneshot::Sender<Result<()>>),
    /// What was admitted is delivered; nothing more is taken.
    Close,
}

/// The way to the leader.
enum Link {
    /// Not needed.
    Idle,
    /// Broken; not before then again.
    Pausing(Instant),
    /// Requests are taken already.
    Opening(Sender, BoxFuture<'static, Result<Answers<wire::AppendStreamResponse>>>),
    Open(Sender, Answers<wire::AppendStreamResponse>),
}

type Sender = mpsc::UnboundedSender<wire::AppendStreamRequest>;

#[expect(clippy::large_enum_variant, reason = "made and matched at once, never stored")]
enum Event {
    Paused,
    Opened(Result<Answers<wire::AppendStreamResponse>>),
    /// `None`: the node ended the stream.
    Answer(Option<Result<wire::AppendStreamResponse>>),
}

impl Link {
    /// What happens next on it. May be dropped and called again.
    async fn event(&mut self) -> Event {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Pausing(until) => {
                runtime::sleep_until(*until).await;
                Event::Paused
            }
            Self::Opening(_, opening) => Event::Opened(opening.await),
            Self::Open(_, answers) => Event::Answer(answers.next().await),
        }
    }
}

pub(super) struct Driver {
    pub(super) client: Client,
    pub(super) log: String,
    pub(super) id: ProducerId,
    /// The id is ours to change when the log forgot it.
    pub(super) renewable: bool,
    /// Epoch and incarnation; the producer is filled in batch by batch.
    pub(super) options: AppendOptions,
    pub(super) delivery_timeout: Duration,
    pub(super) window: Window,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) acknowledged: Arc<AtomicU64>,
    pub(super) failure: Failure,
    /// Dropped at the end, which whoever waits for that notices.
    pub(super) _running: watch::Sender<()>,
}

/// What changes while it runs.
struct State {
    link: Link,
    endpoint: Endpoint,
    /// Failures since the last answer.
    attempt: u32,
    /// Connections given up for silence since the last answer.
    silences: u32,
    hints: Hints,
    /// When the stream last got on: an answer, or a request while no answer was owed.
    alive: Instant,
}

impl Driver {
    pub(super) async fn run(mut self) {
        let mut state = State {
            link: Link::Idle,
            endpoint: self.client.writer(&self.log),
            attempt: 0,
            silences: 0,
            hints: Hints::default(),
            alive: runtime::now(),
        };
        let mut open_queue = true;
        let mut buffer = Vec::with_capacity(DRAIN);
        loop {
            self.window.pack();
            if let Err(fatal) = self.send(&mut state) {
                self.give_up(&fatal).await;
                return;
            }
            if !open_queue && self.window.is_empty() {
                return;
            }
            let (wake, why) = self.next_timer(&state);
            let outcome = tokio::select! {
                event = state.link.event() => self.gather(&mut state, event, &mut buffer).await,
                taken = self.commands.recv_many(&mut buffer, DRAIN), if open_queue => {
                    open_queue = taken > 0;
                    self.take(&mut buffer);
                    Ok(())
                }
                () = runtime::sleep_until(wake) => self.on_timer(&mut state, why),
            };
            if let Err(fatal) = outcome {
                self.give_up(&fatal).await;
                return;
            }
        }
    }

    fn take(&mut self, buffer: &mut Vec<Command>) {
        for command in buffer.drain(..) {
            match command {
                Command::Append(submission) => self.window.submit(submission),
                Command::Flush(done) => self.window.flush(done),
                // What was queued behind it is still taken, as it was admitted.
                Command::Close => self.commands.close(),
            }
        }
    }

    /// Deals with `event`, and with what comes along with it, before anything is packed. Answers
    /// come in crowds, and those who get them mostly append again at once: packed one by one as they
    /// come back, they would be as many small batches, and the crowd would never meet again. So
    /// they are given their turn, until as many are back as were answered, or nothing happens any
    /// more. That takes microseconds, and nobody waits for a clock.
    async fn gather(
        &mut self,
        state: &mut State,
        event: Event,
        buffer: &mut Vec<Command>,
    ) -> Result<()> {
        let (answered, submitted) = (self.window.answered(), self.window.submitted());
        self.on_event(state, event)?;
        let mut quiet = 0;
        for _ in 0..TURNS {
            let before = (self.window.answered(), self.window.submitted());
            while let Link::Open(..) = state.link
                && let Some(event) = runtime::at_once(state.link.event())
            {
                self.on_event(state, event)?;
            }
            if runtime::at_once(self.commands.recv_many(buffer, DRAIN)).is_some() {
                self.take(buffer);
            }
            let now = (self.window.answered(), self.window.submitted());
            if now.1 - submitted >= now.0 - answered || self.window.has_full_batch() {
                break;
            }
            quiet = if now == before { quiet + 1 } else { 0 };
            if quiet > QUIET_TURNS {
                break;
            }
            runtime::yield_now().await;
        }
        Ok(())
    }

    fn send(&mut self, state: &mut State) -> Result<()> {
        if self.window.is_idle() {
            return Ok(());
        }
        let now = Moment::now();
        if let Link::Idle = state.link {
            // Timers may have slept with the machine.
            if self.window.in_doubt_since().is_some_and(|since| since.until(&now) > MAX_AGE) {
                let message = "an append that may have been lost is too old to be repeated: the \
                               log may not recognise it any more";
                return Err(Error::deadline(Effect::Unknown, message));
            }
            self.open(state);
        }
        let (Link::Opening(requests, _) | Link::Open(requests, _)) = &state.link else {
            return Ok(());
        };
        let first = self.window.send(now, |sequence, batch| {
            let request = request(&self.log, self.id, sequence, batch, &self.options);
            // When nobody takes it any more the link says why, and all is sent again.
            let _ = requests.send(request);
        });
        if first {
            state.alive = runtime::now();
        }
        Ok(())
    }

    fn open(&self, state: &mut State) {
        let (sender, requests) = mpsc::unbounded_channel();
        let transport = self.client.shared.transport.clone();
        let endpoint = state.endpoint.clone();
        let timeout = window::answer_timeout(state.silences);
        let opening = async move { transport.append_stream(&endpoint, requests, timeout).await };
        state.link = Link::Opening(sender, Box::pin(opening));
        state.alive = runtime::now();
    }

    fn on_event(&mut self, state: &mut State, event: Event) -> Result<()> {
        match event {
            Event::Paused => {
                state.link = Link::Idle;
                Ok(())
            }
            Event::Opened(Ok(answers)) => {
                let link = std::mem::replace(&mut state.link, Link::Idle);
                let Link::Opening(requests, _) = link else {
                    unreachable!("only an opening link is opened");
                };
                state.link = Link::Open(requests, answers);
                Ok(())
            }
            Event::Opened(Err(error)) => {
                let delivered = error.effect() != Effect::None;
                self.lost(state, error, delivered)
            }
            // The node's own last word is about all that it leaves without an answer.
            Event::Answer(Some(Err(error))) => {
                let delivered = error.effect() != Effect::None || !error.is_from_node();
                self.lost(state, error, delivered)
            }
            Event::Answer(None) => {
                let error = Error::broken(Effect::Unknown, "the node ended the stream");
                self.broke(state, error.at(state.endpoint.as_str()))
            }
            Event::Answer(Some(Ok(answer))) => self.on_answer(state, answer),
        }
    }

    fn on_answer(&mut self, state: &mut State, answer: wire::AppendStreamResponse) -> Result<()> {
        use wire::append_stream_response::Result as Answer;
        let at = state.endpoint.clone();
        match answer.result {
            Some(Answer::Ok(ok)) => {
                let term = ok.stamp.map(|stamp| stamp.term);
                let acknowledged =
                    Appended::from_wire(ok).and_then(|ok| self.window.acknowledge(answer.tag, &ok));
                if let Err(error) = acknowledged {
                    return self.broke(state, error.at(at.as_str()));
                }
                self.progressed(state);
                if let Some(term) = term {
                    state.hints.saw(term);
                    self.client.shared.routing.confirm(&self.log, &at, term);
                }
                Ok(())
            }
            Some(Answer::Error(detail)) => {
                let error = Error::from_detail(detail).at(at.as_str());
                match self.window.refuse(answer.tag, error) {
                    Verdict::Answered => {
                        self.progressed(state);
                        Ok(())
                    }
                    Verdict::Resend(error) => self.broke(state, error),
                    Verdict::Forgotten(_) if self.renewable => {
                        self.id = ProducerId::random();
                        tracing::debug!(log = self.log, producer = %self.id, "a new producer id");
                        self.window.renumber();
                        self.progressed(state);
                        // The old stream still refuses what follows.
                        state.link = Link::Idle;
                        Ok(())
                    }
                    Verdict::Forgotten(error) => Err(error),
                    Verdict::Fatal(error) => Err(error),
                }
            }
            None => {
                let error = Error::broken(Effect::Unknown, "an answer without a result");
                self.broke(state, error.at(at.as_str()))
            }
        }
    }

    fn progressed(&self, state: &mut State) {
        (state.attempt, state.silences) = (0, 0);
        state.alive = runtime::now();
        self.acknowledged.store(self.window.acknowledged(), Ordering::Release);
    }

    /// The connection is no good any more. An answer says of its own batch whether that can have
    /// arrived; the others are in doubt.
    fn broke(&mut self, state: &mut State, error: Error) -> Result<()> {
        self.lost(state, error, true)
    }

    /// The connection is lost; `delivered`: what was on it may have arrived. Pause, and go where
    /// `error` points.
    fn lost(&mut self, state: &mut State, error: Error, delivered: bool) -> Result<()> {
        tracing::debug!(log = self.log, endpoint = %state.endpoint, %error, "an append stream broke");
        self.window.disconnected(delivered);
        if !error.is_retryable() {
            return Err(error);
        }
        let news = state.hints.is_news(&error);
        if self.window.is_idle() {
            state.link = Link::Idle;
        } else {
            let pause = self.client.pause(state.attempt, news, &error);
            state.link = Link::Pausing(runtime::now() + pause);
        }
        state.attempt += 1;
        if self.client.pinned().is_none() {
            let target = retry::target(&error);
            state.endpoint = self.client.next(&self.log, &state.endpoint, &error, target);
        }
        Ok(())
    }

    fn next_timer(&self, state: &State) -> (Instant, Timer) {
        let delivery = self.window.oldest().map(|at| (at + self.delivery_timeout, Timer::Delivery));
        let quiet = match (&state.link, self.window.is_idle()) {
            (Link::Open(..) | Link::Opening(..), true) => Some((state.alive + IDLE, Timer::Idle)),
            (Link::Open(..) | Link::Opening(..), false) => {
                Some((state.alive + window::answer_timeout(state.silences), Timer::Silence))
            }
            (Link::Idle | Link::Pausing(_), _) => None,
        };
        let far = (runtime::now() + MAX_AGE, Timer::Nothing);
        [delivery, quiet].into_iter().flatten().fold(far, |a, b| if b.0 < a.0 { b } else { a })
    }

    fn on_timer(&mut self, state: &mut State, why: Timer) -> Result<()> {
        match why {
            Timer::Nothing => Ok(()),
            Timer::Idle => {
                state.link = Link::Idle;
                Ok(())
            }
            Timer::Silence => {
                let silence = window::answer_timeout(state.silences);
                state.silences += 1;
                let message = format!("no answer for {} ms", silence.as_millis());
                let error = Error::broken(Effect::Unknown, message);
                self.broke(state, error.at(state.endpoint.as_str()))
            }
            Timer::Delivery => Err(Error::deadline(
                Effect::None,
                format!(
                    "an append was not acknowledged within {} s; the producer gives up, because \
                     going on could change the order",
                    self.delivery_timeout.as_secs()
                ),
            )),
        }
    }

    /// Everybody is told, and whoever comes later, too.
    async fn give_up(mut self, error: &Error) {
        tracing::debug!(log = self.log, producer = %self.id, %error, "a producer failed");
        let _ = self.failure.set(error.clone());
        self.window.fail(error);
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::Append(submission) => {
                    let error = window::secondary(error, Effect::None);
                    let _ = submission.caller.answer.send(Err(error));
                }
                Command::Flush(done) => drop(done.send(Err(error.clone()))),
                Command::Close => {}
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Timer {
    Nothing,
    /// The stream has no work.
    Idle,
    /// The node owes an answer.
    Silence,
    /// The oldest caller waits too long.
    Delivery,
}

fn request(
    log: &str,
    id: ProducerId,
    sequence: u64,
    batch: &Batch,
    options: &AppendOptions,
) -> wire::AppendStreamRequest {
    let options = AppendOptions { producer: Some((id, sequence)), ..options.clone() };
    wire::AppendStreamRequest {
        tag: sequence,
        append: Some(wire::AppendRequest {
            part: Some(batch.clone().into_part(log, options.to_wire())),
            ack: wire::Ack::Quorum.into(),
        }),
    }
}
