//! No answer claims to be younger than it is, whatever happens to the nodes: judged by one clock,
//! this test's own.
//!
//! A writer appends and notes when each append was acknowledged. Readers ask every node, at every
//! level, all the time. An answer claims to show everything that was acknowledged `age_ms` before
//! the read was sent (and what its level promises): the end of the log that it shows is held
//! against what this test's clock knows.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quorate_client::{Client, Endpoint, TailEvent};
use quorate_proto::v1::{
    AppendConditions, AppendRequest, Consistency, Level, OnUnmet, ReadHeader, ReadRequest,
    ReadResponse, log_service_client::LogServiceClient, read_answer::Result as OnStream,
    read_from::From,
};
use quorate_raft_node::runtime;
use tonic::{Request, Status, transport::Channel};

use super::{
    Logs, append,
    cluster::{Cluster, detail},
    create, from,
    levels::{consistency, describe},
    many, part,
};

const LOG: &str = "a";

/// A read is sent to each node this often.
const EVERY: Duration = Duration::from_millis(25);

/// Reads live through every pause of a node.
const PATIENCE: Duration = Duration::from_secs(40);

/// What was acknowledged, and when.
#[derive(Default)]
struct Acknowledged {
    /// One past the last offset, by the moment the acknowledgement was here.
    ends: Mutex<Vec<(Instant, u64)>>,
}

impl Acknowledged {
    fn note(&self, end: u64) {
        self.ends.lock().unwrap().push((Instant::now(), end));
    }

    /// What a state must hold that shows everything acknowledged before `moment`.
    fn before(&self, moment: Instant) -> u64 {
        let ends = self.ends.lock().unwrap();
        let upto = ends.partition_point(|(at, _)| *at < moment);
        // Ends rise: one writer, one append at a time.
        upto.checked_sub(1).map_or(0, |last| ends[last].1)
    }
}

/// Appends, one after the other, wherever the leader is.
async fn write(clients: Vec<Logs>, acknowledged: Arc<Acknowledged>, stop: Arc<AtomicBool>) {
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        let part = part(LOG, &["v"], AppendConditions::default());
        let mut request = Request::new(AppendRequest { part: Some(part), ack: 0 });
        request.set_timeout(Duration::from_millis(700));
        match clients[at].clone().append(request).await {
            Ok(done) => {
                let part = done.into_inner().part.expect("where it went");
                acknowledged.note(part.next_offset);
                runtime::sleep(Duration::from_millis(2)).await;
            }
            // It may have been appended: then it is in some states, and no claim.
            Err(status) => {
                let hint = (!status.details().is_empty()).then(|| detail(&status).leader).flatten();
                at = hint.map_or((at + 1) % clients.len(), |l| l.node_id as usize - 1);
                runtime::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// One answer, or one header of a tail.
struct Answer {
    node: usize,
    /// How it was asked for.
    what: String,
    header: ReadHeader,
    /// The moments before which everything acknowledged must show, with what claims it.
    claims: Vec<(&'static str, Instant)>,
}

impl Answer {
    /// Of a read that was sent at `sent`.
    fn of_read(node: usize, what: String, sent: Instant, header: ReadHeader) -> Self {
        let ago = |ms| sent.checked_sub(Duration::from_millis(ms));
        let given = header.given.as_ref().expect("an answer says its level");
        let by_level = match given.level() {
            Level::Linearizable => Some(sent),
            Level::Bounded => ago(given.max_staleness_ms.expect("its bound")),
            Level::Eventual | Level::Unspecified => None,
        };
        let by_age = header.age_ms.and_then(ago);
        let claims = by_level
            .map(|m| ("its level", m))
            .into_iter()
            .chain(by_age.map(|m| ("its age", m)))
            .collect();
        Self { node, what, header, claims }
    }
}

/// What came of the reads of one test.
#[derive(Default)]
struct Answers {
    answers: Mutex<Vec<Answer>>,
    refused: AtomicU64,
}

const LEVELS: [(Level, Option<u64>); 5] = [
    (Level::Eventual, None),
    (Level::Bounded, Some(20)),
    (Level::Bounded, Some(500)),
    (Level::Bounded, Some(5_000)),
    (Level::Linearizable, None),
];

const UNMET: [OnUnmet; 5] =
    [OnUnmet::ServeAndMark, OnUnmet::Wait, OnUnmet::Fail, OnUnmet::Redirect, OnUnmet::Forward];

/// Sends a read to every node every now and then, without waiting for the one before.
async fn read(clients: Vec<Logs>, answers: Arc<Answers>, stop: Arc<AtomicBool>) {
    let mut reads = tokio::task::JoinSet::new();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let (level, ms) = LEVELS[round % LEVELS.len()];
        let on_unmet = UNMET[round / LEVELS.len() % UNMET.len()];
        round += 1;
        for (node, client) in clients.iter().enumerate() {
            let (mut client, answers) = (client.clone(), answers.clone());
            reads.spawn(async move {
                let asked = consistency(level, ms, on_unmet);
                let what = format!("{level:?}, {on_unmet:?}, round {round}");
                let sent = Instant::now();
                // In turn: what a log is like, and its last record, by a call and on a stream.
                let header = match round % 4 {
                    0 | 2 => describe(&mut client, LOG, asked, PATIENCE).await.map(|a| a.header),
                    1 => last_record(&mut client, asked).await,
                    _ => last_record_on_a_stream(&mut client, asked).await,
                };
                match header {
                    Ok(header) => {
                        let header = header.expect("a header");
                        let answer = Answer::of_read(node, what, sent, header);
                        answers.answers.lock().unwrap().push(answer);
                    }
                    Err(_) => drop(answers.refused.fetch_add(1, Ordering::Relaxed)),
                }
            });
        }
        runtime::sleep(EVERY).await;
    }
    while reads.join_next().await.is_some() {}
}

fn of_last_record(asked: Consistency) -> ReadRequest {
    ReadRequest { consistency: Some(asked), ..from(LOG, From::Last(1)) }
}

/// The header of a read of the last record.
async fn last_record(client: &mut Logs, asked: Consistency) -> Result<Option<ReadHeader>, Status> {
    let mut request = Request::new(of_last_record(asked));
    request.set_timeout(PATIENCE);
    let mut stream = client.read(request).await?.into_inner();
    let first = stream.message().await?.expect("a first message");
    while stream.message().await?.is_some() {}
    Ok(shows_what_it_says(first))
}

/// The same as one of the reads of a stream.
async fn last_record_on_a_stream(
    client: &mut Logs,
    asked: Consistency,
) -> Result<Option<ReadHeader>, Status> {
    match many::alone(client, of_last_record(asked)).await? {
        OnStream::Ok(whole) => Ok(shows_what_it_says(whole)),
        refused => Err(Status::unavailable(format!("{refused:?}"))),
    }
}

fn shows_what_it_says(first: ReadResponse) -> Option<ReadHeader> {
    let header = first.header.expect("a header");
    let end = first.batches.last().map_or(0, |b| b.first_offset + u64::from(b.count));
    assert!(end == header.next_offset || first.batches.is_empty() && header.next_offset == 0);
    Some(header)
}

/// A header of a tail may be so long on its way from the node that wrote it, where neither of the
/// two threads gets a processor. Far less than what a busy reader or a stopped node adds to an age.
const ON_ITS_WAY: Duration = Duration::from_millis(400);

/// Follows the log at one node; what the SDK says of the age of each header is held against the
/// clock. `busy`: a reader who comes for it late.
async fn tail(
    node: usize,
    endpoint: String,
    busy: Duration,
    answers: Arc<Answers>,
    stop: Arc<AtomicBool>,
) {
    let endpoint = Endpoint::new(&endpoint).expect("an address");
    let client = Client::builder().endpoints([endpoint.as_str()]).build().expect("a client");
    while !stop.load(Ordering::Relaxed) {
        let tail = client.tail(LOG).consistency(quorate_client::Consistency::eventual());
        let tail = tail.header_interval(Duration::from_millis(20)).at(&endpoint);
        let Ok(mut tailer) = tail.timeout(Duration::from_secs(5)).open().await else {
            answers.refused.fetch_add(1, Ordering::Relaxed);
            runtime::sleep(EVERY).await;
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let event = match runtime::timeout(EVERY * 4, tailer.next()).await {
                Ok(Ok(event)) => event,
                Ok(Err(_)) => break,
                Err(_) => continue,
            };
            let TailEvent::Header(header) = event else { continue };
            // First the clock: what passes in between only makes the age older.
            let now = Instant::now();
            // What it spent on its way counts as a network's delay, of which nobody can know.
            let moment = tailer.age().and_then(|age| now.checked_sub(age + ON_ITS_WAY));
            let claims = moment.map(|moment| ("the age of the tail", moment)).into_iter().collect();
            let what = format!("a tail whose reader is busy for {busy:?}");
            answers.answers.lock().unwrap().push(Answer { node, what, header, claims });
            runtime::sleep(busy).await;
        }
    }
}

/// A cluster under load, and what its readers were told.
struct Load {
    cluster: Cluster,
    acknowledged: Arc<Acknowledged>,
    answers: Arc<Answers>,
    stop: Arc<AtomicBool>,
    tasks: Vec<runtime::Task<()>>,
}

impl Load {
    async fn start(extra: &str) -> Self {
        let cluster = Cluster::start(3, extra).await;
        let leader = cluster.leader().await;
        create(&mut cluster.logs(leader), LOG).await;
        let done = append(&mut cluster.logs(leader), LOG, &["first"]).await;
        let (acknowledged, answers) = (Arc::<Acknowledged>::default(), Arc::<Answers>::default());
        acknowledged.note(done.part.expect("where it went").next_offset);
        let stop = Arc::<AtomicBool>::default();
        // Connections of their own: what waits at a paused node must not hold up the others.
        let clients =
            || -> Vec<LogServiceClient<Channel>> { (0..3).map(|n| cluster.logs(n)).collect() };
        let mut tasks = vec![
            runtime::spawn(write(clients(), acknowledged.clone(), stop.clone())),
            runtime::spawn(read(clients(), answers.clone(), stop.clone())),
        ];
        for node in 0..3 {
            for busy in [Duration::ZERO, Duration::from_millis(700)] {
                let (answers, stop) = (answers.clone(), stop.clone());
                tasks.push(runtime::spawn(tail(node, cluster.url(node), busy, answers, stop)));
            }
        }
        Self { cluster, acknowledged, answers, stop, tasks }
    }

    /// Until the writer was acknowledged so many times more.
    async fn appends(&self, count: usize) {
        let acknowledged = || self.acknowledged.ends.lock().unwrap().len();
        let (began, enough) = (Instant::now(), acknowledged() + count);
        while acknowledged() < enough {
            assert!(began.elapsed() < Duration::from_secs(60), "appends have stopped");
            runtime::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the load and judges every answer.
    async fn judge(self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no task of the load panics");
        }
        let answers = std::mem::take(&mut *self.answers.answers.lock().unwrap());
        let mut proven: BTreeMap<usize, usize> = BTreeMap::new();
        let mut by_claim: BTreeMap<&str, usize> = BTreeMap::new();
        let mut oldest = 0;
        for answer in &answers {
            for (claim, moment) in &answer.claims {
                let must_show = self.acknowledged.before(*moment);
                assert!(
                    answer.header.next_offset >= must_show,
                    "{what}: node {} answered a read ({}) with the first {} records, and by \
                     {claim} it should show {must_show}: {:?}",
                    answer.node + 1,
                    answer.what,
                    answer.header.next_offset,
                    answer.header,
                );
                *proven.entry(answer.node).or_default() += 1;
                *by_claim.entry(claim).or_default() += 1;
            }
            oldest = oldest.max(answer.header.age_ms.unwrap_or(0));
        }
        println!(
            "{what}: {} answers, {} refusals, claims by node {proven:?}, {by_claim:?}, oldest age stated \
             {oldest} ms, {} appends",
            answers.len(),
            self.answers.refused.load(Ordering::Relaxed),
            self.acknowledged.ends.lock().unwrap().len()
        );
        assert!(
            proven.len() == 3 && proven.values().all(|n| *n > 20),
            "too few claims: {proven:?}"
        );
        assert!(by_claim.len() == 3 && by_claim.values().all(|n| *n > 20), "{by_claim:?}");
    }
}

/// The process is stopped between its probes and its answers, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_stopped_for_ten_seconds() {
    let load = Load::start("").await;
    load.appends(100).await;
    let follower = (load.cluster.leader().await + 1) % 3;
    load.cluster.pause(follower);
    runtime::sleep(Duration::from_secs(10)).await;
    load.appends(50).await;
    load.cluster.resume(follower);
    load.appends(200).await;
    load.judge("follower stopped for 10 s").await;
}

/// An old leader that wakes up believes that it leads; its evidence says otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_stopped_while_another_took_over() {
    let load = Load::start("").await;
    for _ in 0..3 {
        load.appends(50).await;
        let leader = load.cluster.leader().await;
        load.cluster.pause(leader);
        // The others elect, and acknowledge more.
        load.appends(100).await;
        load.cluster.resume(leader);
    }
    load.appends(100).await;
    load.judge("leader stopped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_killed_and_come_back() {
    let mut load = Load::start("").await;
    for round in 0..4 {
        load.appends(50).await;
        let leader = load.cluster.leader().await;
        let victim = (leader + round) % 3;
        load.cluster.kill(victim);
        load.appends(50).await;
        load.cluster.run(victim);
    }
    load.appends(100).await;
    load.judge("kill -9").await;
}

/// A replica that is brought up by snapshots while it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_installs_snapshots() {
    let extra = "[log]\nsegment_mb = 16\nretain_mb = 1\n[state]\nflush_interval_s = 1";
    let load = Load::start(extra).await;
    let cluster = &load.cluster;
    let bulk = "x".repeat(1 << 20);
    create(&mut cluster.logs(cluster.leader().await), "bulk").await;
    for _ in 0..2 {
        let mut leader = cluster.leader().await;
        let away = (leader + 1) % 3;
        cluster.pause(away);
        let at = cluster.applied(leader).await;
        let mut left = 400;
        while cluster.purged(leader).await <= at {
            assert!(left > 0, "the log is never purged");
            left -= 1;
            let part = part("bulk", &[&bulk, &bulk, &bulk], AppendConditions::default());
            let append = AppendRequest { part: Some(part), ack: 0 };
            // A busy machine may have made another node the leader.
            if cluster.logs(leader).append(append).await.is_err() {
                leader = cluster.leader().await;
            }
        }
        cluster.resume(away);
        let reached = cluster.applied(leader).await;
        let began = Instant::now();
        while cluster.applied(away).await < reached {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not catch up");
            runtime::sleep(Duration::from_millis(10)).await;
        }
        let installed = "quorate_snapshot_duration_seconds_count{group=\"0\",action=\"installed\"}";
        assert!(cluster.metric(away, installed).await >= 1.0, "it came by a snapshot");
        load.appends(20).await;
    }
    load.judge("snapshot installs").await;
}
