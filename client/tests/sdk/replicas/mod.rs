//! Replicas behind a scripted transport, in time that the tests move: what they have applied, how
//! long they take, whether they answer. Everything here is deterministic.

mod transport;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use quorate_client::{Client, ClientBuilder, Endpoint, Error};
use quorate_proto::v1::{self as wire, Effect, ErrorDetail, ErrorKind, Level};
use tokio::{sync::watch, time::sleep};

use crate::state::detail;

/// How a replica behaves.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// Before every answer.
    pub delay: Duration,
    /// Connections break.
    pub down: bool,
    /// Never answers.
    pub mute: bool,
    /// Applies nothing beyond this index.
    pub stuck_at: Option<u64>,
    /// The age it can prove.
    pub age: Duration,
    /// Headers that its tails have sent by now, besides the first one.
    pub beats: u64,
}

#[derive(Default)]
struct Inner {
    replicas: Vec<Replica>,
    /// Index of the last entry; every write is one.
    index: u64,
    /// Entries that were acknowledged and are gone: an unsafe recovery.
    lost_behind: Option<u64>,
    /// What a log says of its own level.
    level: Option<wire::ReadLevel>,
    /// Name: incarnation and next offset, by index.
    logs: HashMap<String, (u64, Vec<(u64, u64)>)>,
    /// Reads (and probes) that arrived, by replica.
    reads: Vec<u64>,
    unanswered: Vec<u32>,
}

/// Three replicas of two groups with one history; the first one leads. Logs "other/..." are in
/// group 1.
pub struct Replicas {
    /// For tails, which outlive a call.
    me: Weak<Self>,
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

pub fn endpoint(n: usize) -> Endpoint {
    Endpoint::new(&format!("replica{n}:1")).unwrap()
}

fn number(endpoint: &Endpoint) -> usize {
    (0..3).find(|n| *endpoint == self::endpoint(*n)).expect("one of the three")
}

fn refusal(kind: ErrorKind, retryable: bool) -> Error {
    Error::from_detail(detail(kind, retryable, Effect::None))
}

fn broken() -> Error {
    Error::from_status(&tonic::Status::unavailable("scripted: nobody listens"), false)
}

impl Replicas {
    /// Log "l" exists.
    pub fn new() -> Arc<Self> {
        let this = Arc::new_cyclic(|me: &Weak<Self>| Self {
            me: me.clone(),
            inner: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        {
            let mut inner = this.inner();
            inner.replicas = vec![Replica::default(); 3];
            (inner.reads, inner.unanswered) = (vec![0; 3], vec![0; 3]);
        }
        this.create("l");
        this
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn builder(self: &Arc<Self>) -> ClientBuilder {
        let endpoints = (0..3).map(|n| endpoint(n).as_str().to_owned());
        Client::builder().endpoints(endpoints).transport(self.clone())
    }

    pub fn client(self: &Arc<Self>) -> Client {
        self.builder().build().unwrap()
    }

    /// Changes how replica `n` behaves.
    pub fn set(&self, n: usize, change: impl FnOnce(&mut Replica)) {
        change(&mut self.inner().replicas[n]);
        self.changed.send_replace(());
    }

    /// Every log says this of its own level.
    pub fn level(&self, level: wire::ReadLevel) {
        self.inner().level = Some(level);
    }

    pub fn create(&self, log: &str) {
        let mut inner = self.inner();
        inner.index += 1;
        let index = inner.index;
        inner.logs.insert(log.to_owned(), (index, vec![(index, 0)]));
        self.changed.send_replace(());
    }

    pub fn delete(&self, log: &str) {
        let mut inner = self.inner();
        inner.index += 1;
        inner.logs.remove(log);
        self.changed.send_replace(());
    }

    /// Everything behind `index` is gone.
    pub fn lose_behind(&self, index: u64) {
        let mut inner = self.inner();
        inner.lost_behind = Some(index);
        inner.index = index;
    }

    pub fn index(&self) -> u64 {
        self.inner().index
    }

    /// Replica `n` applies nothing new from now on.
    pub fn freeze(&self, n: usize) {
        let index = self.index();
        self.set(n, |replica| replica.stuck_at = Some(index));
    }

    pub fn thaw(&self, n: usize) {
        self.set(n, |replica| replica.stuck_at = None);
    }

    /// Reads that arrived since the last time, by replica.
    pub fn reads(&self) -> Vec<u64> {
        std::mem::replace(&mut self.inner().reads, vec![0; 3])
    }

    pub fn unanswered(&self) -> Vec<u32> {
        self.inner().unanswered.clone()
    }

    pub fn append(&self, log: &str, records: u64) -> wire::AppendResponse {
        let mut inner = self.inner();
        inner.index += 1;
        let index = inner.index;
        let (incarnation, ends) = inner.logs.get_mut(log).expect("the log exists");
        let first_offset = ends.last().expect("it was created").1;
        ends.push((index, first_offset + records));
        let part = wire::AppendedPart {
            first_offset,
            next_offset: first_offset + records,
            incarnation: *incarnation,
            ..Default::default()
        };
        let group = group(log);
        let position = position(index, *incarnation, group);
        let stamp = Some(wire::Stamp { group, term: 1, log_index: index, ..Default::default() });
        self.changed.send_replace(());
        wire::AppendResponse { part: Some(part), position, stamp }
    }

    /// A read at replica `n`, as the real ones do it: wait, look, say what was seen.
    async fn header(
        &self,
        n: usize,
        log: &str,
        consistency: wire::Consistency,
        timeout: Duration,
    ) -> Result<wire::ReadHeader, Error> {
        let replica = {
            let mut inner = self.inner();
            inner.reads[n] += 1;
            inner.replicas[n].clone()
        };
        if replica.down {
            return Err(broken());
        }
        let _counted = Counted::new(self, n);
        if replica.mute {
            std::future::pending::<()>().await;
        }
        if !replica.delay.is_zero() {
            sleep(replica.delay).await;
        }
        let ready = async {
            self.age(n, &consistency).await?;
            for token in &consistency.at_least {
                self.reach(n, token, group(log)).await?;
            }
            Ok(())
        };
        // A refusal has time to arrive.
        match tokio::time::timeout(timeout - timeout / 20, ready).await {
            Ok(result) => result?,
            Err(_) => return Err(self.too_stale(n)),
        }
        self.look(n, log, consistency.level())
    }

    /// What a replica shows of a log right now.
    fn look(&self, n: usize, log: &str, asked: Level) -> Result<wire::ReadHeader, Error> {
        let inner = self.inner();
        let applied = inner.replicas[n].stuck_at.unwrap_or(u64::MAX).min(inner.index);
        let given = inner.level.filter(|_| asked == Level::Unspecified);
        let age_ms = Some(inner.replicas[n].age.as_millis() as u64);
        let group = group(log);
        let Some((incarnation, ends)) = inner.logs.get(log).filter(|log| log.0 <= applied) else {
            let header = wire::ReadHeader {
                group,
                position: position(applied, 0, group),
                applied_index: applied,
                age_ms,
                ..Default::default()
            };
            let detail = detail(ErrorKind::LogNotFound, false, Effect::None);
            return Err(Error::from_detail(ErrorDetail { header: Some(header), ..detail }));
        };
        let next_offset = ends.iter().rfind(|(index, _)| *index <= applied).map_or(0, |end| end.1);
        Ok(wire::ReadHeader {
            group,
            position: position(applied, *incarnation, group),
            age_ms,
            given,
            term: 1,
            applied_index: applied,
            served_by: n as u64,
            next_offset,
            incarnation: *incarnation,
            ..Default::default()
        })
    }

    fn too_stale(&self, n: usize) -> Error {
        let age_ms = Some(self.inner().replicas[n].age.as_millis() as u64);
        let detail = detail(ErrorKind::TooStale, true, Effect::None);
        Error::from_detail(ErrorDetail { age_ms, ..detail })
    }

    async fn age(&self, n: usize, asked: &wire::Consistency) -> Result<(), Error> {
        let bound = match asked.level() {
            Level::Eventual => return Ok(()),
            Level::Unspecified if self.inner().level.is_some() => return Ok(()),
            Level::Linearizable | Level::Unspecified => {
                self.catch_up(n).await;
                Duration::ZERO
            }
            Level::Bounded => Duration::from_millis(asked.max_staleness_ms.expect("a bound")),
        };
        let waits = matches!(asked.on_unmet(), wire::OnUnmet::Wait | wire::OnUnmet::Unspecified);
        let mut changed = self.changed.subscribe();
        while self.inner().replicas[n].age > bound {
            if !waits {
                return Err(self.too_stale(n));
            }
            changed.changed().await.expect("the replicas live");
        }
        Ok(())
    }

    /// Waits until everything that was acknowledged by now is applied.
    async fn catch_up(&self, n: usize) {
        let (index, mut changed) = (self.index(), self.changed.subscribe());
        while self.inner().replicas[n].stuck_at.is_some_and(|stuck| stuck < index) {
            changed.changed().await.expect("the replicas live");
        }
    }

    async fn reach(&self, n: usize, token: &[u8], of_group: u32) -> Result<(), Error> {
        let number = |at: usize| u64::from_be_bytes(token[at..at + 8].try_into().expect("8 bytes"));
        let (index, incarnation) = (number(0), number(8));
        if number(16) != u64::from(of_group) {
            return Ok(());
        }
        let mut changed = self.changed.subscribe();
        loop {
            {
                let inner = self.inner();
                if inner.lost_behind.is_some_and(|lost| index > lost) {
                    return Err(refusal(ErrorKind::BadPosition, false));
                }
                if inner.replicas[n].stuck_at.unwrap_or(u64::MAX).min(inner.index) >= index {
                    return match incarnation == 0
                        || inner.logs.values().any(|log| log.0 == incarnation)
                    {
                        true => Ok(()),
                        false => Err(refusal(ErrorKind::BadPosition, false)),
                    };
                }
            }
            changed.changed().await.expect("the replicas live");
        }
    }
}

fn group(log: &str) -> u32 {
    u32::from(log.starts_with("other/"))
}

fn position(index: u64, incarnation: u64, group: u32) -> bytes::Bytes {
    [index, incarnation, group.into()].map(u64::to_be_bytes).concat().into()
}

/// A batch of so many records.
fn stored(offsets: std::ops::Range<u64>) -> wire::StoredBatch {
    let batch = quorate_client::Batch::of(offsets.clone().map(|n| n.to_string())).unwrap();
    wire::StoredBatch {
        first_offset: offsets.start,
        count: batch.record_count(),
        visible_from: offsets.start,
        batch: batch.bytes().clone(),
        batch_crc32c: batch.crc32c(),
        ..Default::default()
    }
}

/// A read that waits at a replica.
struct Counted<'a>(&'a Replicas, usize);

impl<'a> Counted<'a> {
    fn new(replicas: &'a Replicas, n: usize) -> Self {
        replicas.inner().unanswered[n] += 1;
        Self(replicas, n)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.inner().unanswered[self.1] -= 1;
    }
}
