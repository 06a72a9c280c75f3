//! Reads that share a stream: each is what a call of its own would have been.

use std::{collections::BTreeMap, time::Duration};

use quorate_proto::v1::{
    CallRead, Consistency, ErrorKind, Level, OnUnmet, ReadAnswer, ReadManyRequest,
    ReadManyResponse, ReadRequest, TaggedRead, TrimLogRequest, read_answer::Result as Answer,
    read_from::From,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use super::{
    Logs, all, append, cluster::Cluster, create, from, levels::consistency, read, visible,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A stream of reads.
struct Lane {
    requests: mpsc::UnboundedSender<ReadManyRequest>,
    answers: Streaming<ReadManyResponse>,
    /// Came, and was not taken.
    left: Vec<ReadAnswer>,
}

impl Lane {
    async fn open(logs: &mut Logs) -> Self {
        let (requests, taken) = mpsc::unbounded_channel();
        let answers = logs.read_many(UnboundedReceiverStream::new(taken)).await.expect("a stream");
        Self { requests, answers: answers.into_inner(), left: Vec::new() }
    }

    /// In one request, with their places as tags.
    fn ask(&self, reads: impl IntoIterator<Item = ReadRequest>) {
        let timeout_ms = PATIENCE.as_millis() as u64;
        let tagged = (0..).zip(reads);
        let reads = tagged.map(|(tag, read)| TaggedRead { tag, read: Some(read), timeout_ms });
        self.requests.send(ReadManyRequest { reads: reads.collect() }).expect("the stream is open");
    }

    async fn next(&mut self) -> Option<(u64, Answer)> {
        while self.left.is_empty() {
            self.left = self.answers.message().await.expect("no error of the stream")?.answers;
            assert!(!self.left.is_empty(), "a message without an answer");
        }
        let ReadAnswer { tag, result } = self.left.remove(0);
        Some((tag, result.expect("a result")))
    }

    /// The answers to all that was asked, by tag.
    async fn all(&mut self, count: usize) -> BTreeMap<u64, Answer> {
        let mut all = BTreeMap::new();
        while all.len() < count {
            let (tag, answer) = self.next().await.expect("an answer to each");
            assert!(all.insert(tag, answer).is_none(), "{tag} is answered twice");
        }
        all
    }
}

/// One read on a stream of its own; by a call where the node says so.
pub async fn alone(logs: &mut Logs, read: ReadRequest) -> Result<Answer, Status> {
    let timeout_ms = PATIENCE.as_millis() as u64;
    let reads = vec![TaggedRead { tag: 7, read: Some(read), timeout_ms }];
    let request = futures::stream::iter([ReadManyRequest { reads }]);
    let mut answers = logs.read_many(request).await?.into_inner();
    let mut first = answers.message().await?.expect("an answer").answers;
    assert_eq!((first.len(), first[0].tag), (1, 7));
    assert!(answers.message().await?.is_none(), "nothing behind the last answer");
    Ok(first.remove(0).result.expect("a result"))
}

fn point(log: &str, n: u64, level: Level) -> ReadRequest {
    let consistency = Some(Consistency { level: level.into(), ..Consistency::default() });
    ReadRequest { to_offset: Some(n + 1), consistency, ..from(log, From::Offset(n)) }
}

#[track_caller]
fn values(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Ok(whole) => {
            assert!(whole.header.is_some());
            whole.batches.iter().flat_map(visible).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn kind(answer: &Answer) -> ErrorKind {
    match answer {
        Answer::Error(detail) => {
            assert!(!detail.message.is_empty());
            detail.kind()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_answered_for_itself() {
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    let logs = &mut cluster.logs(leader);
    create(logs, "a").await;
    let stored: Vec<String> = (0..100).map(|n| format!("{n}")).collect();
    for few in stored.chunks(3) {
        append(logs, "a", &few.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let trim = TrimLogRequest { name: "a".to_owned(), before_offset: 10, incarnation: None };
    let trimmed = logs.trim_log(trim).await.expect("a trim").into_inner().position;
    for n in 0..3 {
        let mut lane = Lane::open(&mut cluster.logs(n)).await;
        let levels = [Level::Linearizable, Level::Unspecified, Level::Eventual];
        let mut reads: Vec<_> =
            (0..270).map(|n| point("a", 10 + n % 90, levels[n as usize % 3])).collect();
        for read in &mut reads {
            read.consistency.as_mut().unwrap().at_least = vec![trimmed.clone()];
        }
        let odd = [
            all("nobody", Level::Linearizable),
            point("a", 9, Level::Linearizable),
            point("a", 101, Level::Linearizable),
            ReadRequest { incarnation: Some(1 << 40), ..all("a", Level::Linearizable) },
            ReadRequest { to_offset: Some(11), ..from("a", From::Offset(12)) },
            from("a", From::Last(4)),
            from("a", From::TimestampMs(u64::MAX)),
        ];
        lane.ask(reads.into_iter().chain(odd));
        let answers = lane.all(277).await;
        for tag in 0..270 {
            assert_eq!(values(&answers[&tag]), [(10 + tag % 90).to_string()], "node {n}");
        }
        let refusals = [
            ErrorKind::LogNotFound,
            ErrorKind::Trimmed,
            ErrorKind::OutOfRange,
            ErrorKind::LogRecreated,
            ErrorKind::Invalid,
        ];
        for (tag, refusal) in (270..).zip(refusals) {
            assert_eq!(kind(&answers[&tag]), refusal, "{tag} at node {n}");
        }
        assert_eq!(values(&answers[&275]), ["96", "97", "98", "99"]);
        assert!(values(&answers[&276]).is_empty());
        // A malformed one harms no other.
        let reads = vec![TaggedRead { tag: 1, ..TaggedRead::default() }];
        lane.requests.send(ReadManyRequest { reads }).unwrap();
        let (tag, answer) = lane.next().await.expect("an answer");
        assert_eq!((tag, kind(&answer)), (1, ErrorKind::Invalid));
        lane.ask([point("a", 50, Level::Linearizable)]);
        assert_eq!(values(&lane.next().await.unwrap().1), ["50"]);
        drop(lane.requests);
        assert!(lane.answers.message().await.unwrap().is_none(), "the stream ends with its client");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_holds_up_no_other() {
    // No election while the leader is stopped for a moment.
    let slow = "[raft]\nelection_min_ms = 10000\nelection_max_ms = 12000";
    let cluster = Cluster::start(3, slow).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    create(&mut cluster.logs(leader), "a").await;
    let position = append(&mut cluster.logs(leader), "a", &["0"]).await.position;
    let mut lane = Lane::open(&mut cluster.logs(follower)).await;
    let asked = |level, on_unmet| {
        let at_least = vec![position.clone()];
        let consistency = Some(Consistency { at_least, ..consistency(level, None, on_unmet) });
        ReadRequest { consistency, ..from("a", From::Last(1)) }
    };
    lane.ask([asked(Level::Linearizable, OnUnmet::Wait)]);
    assert_eq!(values(&lane.next().await.unwrap().1), ["0"]);

    cluster.pause(leader);
    lane.ask([
        asked(Level::Linearizable, OnUnmet::Wait),
        asked(Level::Linearizable, OnUnmet::Fail),
        asked(Level::Linearizable, OnUnmet::Forward),
        asked(Level::Eventual, OnUnmet::Wait),
    ]);
    let short = TaggedRead {
        tag: 9,
        read: Some(asked(Level::Linearizable, OnUnmet::Wait)),
        timeout_ms: 50,
    };
    lane.requests.send(ReadManyRequest { reads: vec![short] }).unwrap();
    let (first, answer) = lane.next().await.expect("an answer");
    assert_eq!((first, values(&answer)), (3, vec!["0".to_owned()]), "the one that needs nobody");
    let soon = lane.all(3).await;
    assert_eq!(kind(&soon[&1]), ErrorKind::TooStale);
    assert_eq!(soon[&2], Answer::CallRead(CallRead::Forward.into()));
    assert_eq!(kind(&soon[&9]), ErrorKind::Deadline);
    cluster.resume(leader);
    let (tag, answer) = lane.next().await.expect("the one that waited");
    assert_eq!((tag, values(&answer)), (0, vec!["0".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_is_given_no_memory() {
    const LARGE: usize = 600_000;
    const READS: usize = 1000;
    let mut cluster = Cluster::start(1, "").await;
    cluster.leader().await;
    let logs = &mut cluster.logs(0);
    create(logs, "a").await;
    let value = "x".repeat(LARGE);
    for _ in 0..4 {
        append(logs, "a", &[&value]).await;
    }
    let whole = alone(logs, all("a", Level::Linearizable)).await.unwrap();
    assert_eq!(whole, Answer::CallRead(CallRead::Large.into()), "four of them are two messages");
    assert_eq!(read(logs, all("a", Level::Linearizable)).await.unwrap().0.len(), 4);

    let before = cluster.memory_kb(0);
    let mut lane = Lane::open(logs).await;
    lane.ask((0..READS as u64).map(|n| point("a", n % 4, Level::Eventual)));
    // Everything that can be done for them is done: one of another stream is answered.
    for n in 0..20 {
        assert_eq!(
            values(&alone(logs, point("a", n % 4, Level::Linearizable)).await.unwrap()).len(),
            1
        );
    }
    let grown = cluster.memory_kb(0).saturating_sub(before);
    assert!(grown < 100 * 1024, "{grown} KiB for {} MB of answers", READS * LARGE / 1_000_000);
    for _ in 0..READS {
        let (_, answer) = lane.next().await.expect("an answer to each");
        assert_eq!(values(&answer)[0].len(), LARGE);
    }
    // A node that stops waits for no stream that is open.
    let stopped = quorate_raft_node::runtime::timeout(PATIENCE, cluster.stop(0));
    let (stopped, ended) = tokio::join!(stopped, lane.answers.message());
    stopped.expect("it stops though the stream is open");
    assert!(ended.expect("no error").is_none(), "it ends the stream");
}
