//! Clients that keep a cluster busy and note every answer.
//!
//! Eight kinds, each on the logs where its promise can be judged: *producers* that send a batch again
//! under its sequence until it is acknowledged; *plain* writers, one attempt each, some with an expected
//! offset; *fenced* writers that take the log from each other by raising its epoch; *readers* that ask
//! any node for a linearizable view of the end, *followers* for one of a bounded age, and *sessions*
//! that append anywhere, read anywhere else, and demand to see what they have seen; *trimmers*, who
//! take away the begin of the log they append to; and *outlivers*, whose log is deleted and created
//! again.

mod lives;
mod readers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use quorate_jepsen_core::{
    ids::{Offset, OpId},
    op::{Answer, Append, Call},
    seed::Seed,
};
use quorate_proto::v1::{Effect, ErrorKind};
use tokio::task::JoinSet;

use crate::{
    cluster::{PATIENCE, until},
    direct::{Direct, Failure},
    endpoints::Endpoints,
    record::Recorder,
};

/// Producers and plain writers write here.
pub const SHARED: &str = "shared";
/// Fenced writers fight over this one.
pub const FENCED: &str = "fenced";

/// Trimmers append to this one, and take its begin away.
pub const TRIMMED: &str = "trimmed";

/// Outlivers delete and create this one. A run without them has no such log.
pub const REBORN: &str = "reborn";

/// How many clients of each kind, and what they send.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Producers.
    pub producers: usize,
    /// Plain writers.
    pub plain: usize,
    /// One in so many of their appends expects an offset; 0: none does.
    pub expect_one_in: u64,
    /// Fenced writers.
    pub fenced: usize,
    /// Readers.
    pub readers: usize,
    /// Readers with a bound on the age.
    pub followers: usize,
    /// Clients that write and read after positions.
    pub sessions: usize,
    /// Clients that append and trim.
    pub trimmers: usize,
    /// Clients whose log is deleted and created again.
    pub outlivers: usize,
    /// Records of one append: 1 up to this.
    pub max_records: u64,
    /// Bytes of one record.
    pub record_bytes: usize,
    /// Between two operations of one client, on average.
    pub pause: Duration,
    /// A client gives up on one answer after this.
    pub deadline: Duration,
    /// Every second reader with a bound waits as long as this instead: an answer that a stopped node
    /// had begun must be seen when it comes.
    pub patience: Option<Duration>,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            producers: 4,
            plain: 4,
            expect_one_in: 2,
            fenced: 2,
            readers: 2,
            followers: 1,
            sessions: 1,
            trimmers: 0,
            outlivers: 0,
            max_records: 5,
            record_bytes: 100,
            pause: Duration::from_millis(2),
            deadline: Duration::from_secs(2),
            patience: None,
        }
    }
}

/// Clients at work, until they are stopped.
#[derive(Debug)]
pub struct Workload {
    stop: Arc<AtomicBool>,
    pause_us: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

#[derive(Clone, Debug)]
struct Client {
    direct: Direct,
    recorder: Recorder,
    seed: Seed,
    mix: Mix,
    stop: Arc<AtomicBool>,
    pause_us: Arc<AtomicU64>,
}

impl Workload {
    /// The logs that are there from the begin on.
    #[must_use]
    pub fn created_first() -> [&'static str; 3] {
        [SHARED, FENCED, TRIMMED]
    }

    /// The logs that are to be read back.
    #[must_use]
    pub fn logs() -> Vec<String> {
        [SHARED, FENCED, TRIMMED, REBORN].map(str::to_owned).to_vec()
    }

    /// Creates the logs and starts the clients.
    ///
    /// # Errors
    /// The logs cannot be created in time.
    pub async fn start(
        endpoints: &Endpoints,
        recorder: &Recorder,
        seed: &Seed,
        mix: &Mix,
    ) -> Result<Self> {
        let direct = Direct::new(endpoints, mix.deadline)?;
        for log in Self::created_first() {
            let mut direct = direct.clone();
            until("creating a log", PATIENCE, || {
                let mut asking = direct.clone();
                direct.rotate();
                async move { asking.create(log).await.map_err(|why| anyhow::anyhow!("{why:?}")) }
            })
            .await?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let pause_us = Arc::new(AtomicU64::new(mix.pause.as_micros() as u64));
        let mut clients = JoinSet::new();
        let client = |kind: &str, number: usize| {
            let mut direct = direct.clone();
            direct.aim(number);
            let seed = seed.fork(&format!("{kind}-{number}"));
            let (recorder, mix) = (recorder.clone(), mix.clone());
            let (stop, pause_us) = (stop.clone(), pause_us.clone());
            Client { direct, recorder, seed, mix, stop, pause_us }
        };
        for number in 0..mix.producers {
            clients.spawn(client("producer", number).produce(format!("producer-{number}")));
        }
        for number in 0..mix.plain {
            clients.spawn(client("plain", number).write_plainly());
        }
        for number in 0..mix.fenced {
            clients.spawn(client("fenced", number).write_fenced());
        }
        for number in 0..mix.readers {
            clients.spawn(client("reader", number).read());
        }
        for number in 0..mix.followers {
            let mut reader = client("follower", number);
            if let Some(patience) = mix.patience.filter(|_| number % 2 == 1) {
                reader.direct = Direct::new(endpoints, patience)?;
            }
            clients.spawn(reader.read_bounded());
        }
        for number in 0..mix.sessions {
            clients.spawn(client("session", number).session());
        }
        for number in 0..mix.trimmers {
            clients.spawn(client("trimmer", number).trim());
        }
        for number in 0..mix.outlivers {
            clients.spawn(client("outliver", number).outlive());
        }
        Ok(Self { stop, pause_us, clients })
    }

    /// Changes the average pause between two operations of a client.
    pub fn set_pause(&self, pause: Duration) {
        self.pause_us.store(pause.as_micros() as u64, Ordering::Relaxed);
    }

    /// Lets every client end its operation.
    ///
    /// # Errors
    /// A client panicked, or did not end in time.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let all = async {
            while let Some(ended) = self.clients.join_next().await {
                ended.context("a client panicked")?;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, all).await.context("clients do not end")?
    }
}

impl Client {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Not a wait for something to happen: a client's own pace, so that runs have a bounded size.
    async fn pause(&mut self) {
        let up_to = self.pause_us.load(Ordering::Relaxed) * 2;
        tokio::time::sleep(Duration::from_micros(self.seed.below(up_to + 1))).await;
    }

    fn new_append(&mut self, log: &str) -> Append {
        let count = 1 + self.seed.below(self.mix.max_records) as usize;
        let records = self.recorder.fresh_records(count);
        Append { log: log.to_owned(), records, ..Append::default() }
    }

    fn note(&self, op: OpId, result: &Result<Answer, Failure>) {
        let answer = match result {
            Ok(answer) => answer.clone(),
            Err(failure) => failure.answer(),
        };
        self.recorder.answer(op, answer);
    }

    /// One attempt, one answer, on to the next.
    async fn write_plainly(mut self) {
        let process = self.recorder.process();
        let mut known_end = Offset(0);
        while !self.stopped() {
            let mut append = self.new_append(SHARED);
            let expects = self.mix.expect_one_in > 0 && self.seed.one_in(self.mix.expect_one_in);
            append.expected_offset = expects.then_some(known_end);
            let op = self.recorder.invoke(process, Call::Append(append.clone()));
            let result = self.direct.append(&append, None, self.mix.record_bytes).await;
            self.note(op, &result);
            match &result {
                Ok(Answer::Appended { next_offset, .. }) => known_end = *next_offset,
                Err(Failure { detail: Some(detail), .. }) => {
                    known_end = detail.next_offset.map_or(known_end, Offset);
                }
                _ => {}
            }
            self.pause().await;
        }
    }

    /// The same (producer, sequence) again until its fate is known; exactly once is the promise.
    async fn produce(mut self, base: String) {
        let process = self.recorder.process();
        let mut id = uuid::Uuid::new_v4();
        let (mut name, mut lives, mut sequence) = (base.clone(), 0, 0);
        while !self.stopped() {
            let mut append = self.new_append(SHARED);
            append.producer = Some(name.clone());
            let op = self.recorder.invoke(process, Call::Append(append.clone()));
            // After a lost answer, a refusal says nothing about the attempt that was lost.
            let mut lost = false;
            loop {
                let result =
                    self.direct.append(&append, Some((id, sequence)), self.mix.record_bytes).await;
                match &result {
                    Ok(_) => {
                        self.note(op, &result);
                        sequence += 1;
                        break;
                    }
                    Err(failure) if failure.effect == Effect::Applied => {
                        self.note(op, &result);
                        sequence += 1;
                        break;
                    }
                    Err(failure) => {
                        lost |= failure.effect != Effect::None;
                        if self.stopped() {
                            let kind = "gave up".to_owned();
                            let answer = match lost {
                                true => Answer::Unknown { kind },
                                false => Answer::Refused { kind, next_offset: None, stamp: None },
                            };
                            self.recorder.answer(op, answer);
                            return;
                        }
                        let retryable = failure.detail.as_ref().is_none_or(|why| why.retryable);
                        if !retryable && !lost {
                            // For good. Its sequence is free again, but whoever was told so
                            // begins anew.
                            self.note(op, &result);
                            lives += 1;
                            (id, sequence) = (uuid::Uuid::new_v4(), 0);
                            name = format!("{base}-{lives}");
                            break;
                        }
                        self.pause().await;
                    }
                }
            }
            self.pause().await;
        }
    }

    /// Takes the log, writes until another takes it, takes it back.
    async fn write_fenced(mut self) {
        let process = self.recorder.process();
        let mut epoch = None;
        while !self.stopped() {
            if epoch.is_none() {
                let call = Call::Fence { log: FENCED.to_owned() };
                let op = self.recorder.invoke(process, call);
                let result = self.direct.fence(FENCED).await;
                self.note(op, &result);
                if let Ok(Answer::Fenced { epoch: granted, .. }) = &result {
                    epoch = Some(*granted);
                }
            } else {
                let mut append = self.new_append(FENCED);
                append.writer_epoch = epoch;
                let op = self.recorder.invoke(process, Call::Append(append.clone()));
                let result = self.direct.append(&append, None, self.mix.record_bytes).await;
                self.note(op, &result);
                // Now and then it insists although it was fenced off.
                let fenced = matches!(&result, Err(f) if f.kind == ErrorKind::Fenced);
                if fenced && self.seed.one_in(3) {
                    epoch = None;
                }
            }
            self.pause().await;
        }
    }

    /// Appends, and now and then takes away all but the last records it knows of.
    async fn trim(mut self) {
        let process = self.recorder.process();
        let mut known_end = Offset(0);
        while !self.stopped() {
            if self.seed.one_in(8) {
                let before = Offset(known_end.0.saturating_sub(self.seed.below(40)));
                let call = Call::Trim { log: TRIMMED.to_owned(), before };
                let op = self.recorder.invoke(process, call);
                let result = self.direct.trim(TRIMMED, before).await;
                self.note(op, &result);
            } else {
                let append = self.new_append(TRIMMED);
                let op = self.recorder.invoke(process, Call::Append(append.clone()));
                let result = self.direct.append(&append, None, self.mix.record_bytes).await;
                self.note(op, &result);
                if let Ok(Answer::Appended { next_offset, .. }) = &result {
                    known_end = *next_offset;
                }
            }
            self.pause().await;
        }
    }
}
