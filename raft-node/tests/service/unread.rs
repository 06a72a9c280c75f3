//! A stream with a request that can't be read: what came before is answered, then the node says why
//! it goes no further, and that nothing came of the rest.

use bytes::Bytes;
use prost::Message;
use quorate_proto::v1::{
    AppendConditions, AppendRequest, AppendStreamRequest, AppendStreamResponse, Effect, ErrorKind,
    Level, OnUnmet, ReadManyRequest, ReadManyResponse, ReadRequest, TaggedRead,
    append_stream_response, read_answer,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming, client::Grpc};

use super::{all, append, cluster::Cluster, create, fuzz::Raw, levels::consistency, part, refused};

/// No election while a node is stopped for a moment.
const SLOW: &str = "[raft]\nelection_min_ms = 10000\nelection_max_ms = 12000";

/// A stream of an RPC, on which anything can be sent.
struct Open {
    requests: mpsc::UnboundedSender<Bytes>,
    answers: Streaming<Bytes>,
}

impl Open {
    async fn at(cluster: &Cluster, node: usize, rpc: &'static str) -> Self {
        let mut grpc = Grpc::new(cluster.channel_for(node, rpc));
        grpc.ready().await.expect("a connection");
        let (requests, sent) = mpsc::unbounded_channel();
        let sent = tonic::Request::new(UnboundedReceiverStream::new(sent));
        let answers = grpc.streaming(sent, rpc.parse().expect("a path"), Raw).await;
        Self { requests, answers: answers.expect("a stream").into_inner() }
    }

    fn send(&self, request: impl Into<Bytes>) {
        // The node may have ended it already.
        let _ = self.requests.send(request.into());
    }

    async fn next<A: Message + Default>(&mut self) -> A {
        let answer = self.answers.message().await.expect("no error yet").expect("an answer");
        A::decode(answer).expect("an answer of this RPC")
    }

    async fn says_why(&mut self) {
        let ended = self.answers.message().await;
        assert_eq!(
            ended.as_ref().err().map(Status::code),
            Some(Code::InvalidArgument),
            "{ended:?}"
        );
        let why = refused(ended, ErrorKind::Invalid);
        assert_eq!((why.effect(), why.retryable), (Effect::None, false));
        assert!(why.message.contains("could not be read"), "{}", why.message);
    }
}

/// No message at all, and one that is larger than a node takes.
fn unreadable() -> [Vec<u8>; 2] {
    let log = "x".repeat(9 << 20);
    let read = Some(ReadRequest { log, ..ReadRequest::default() });
    let large = TaggedRead { tag: 1, read, timeout_ms: 0 };
    [vec![0xff; 20], ReadManyRequest { reads: vec![large] }.encode_to_vec()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_before_it_are_answered() {
    let cluster = Cluster::start(3, SLOW).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    create(&mut cluster.logs(leader), "a").await;
    append(&mut cluster.logs(leader), "a", &["0"]).await;
    let asked = |tag, level| {
        let consistency = Some(consistency(level, None, OnUnmet::Wait));
        let read = Some(ReadRequest { consistency, ..all("a", level) });
        TaggedRead { tag, read, timeout_ms: 60_000 }
    };
    for nonsense in unreadable() {
        let mut lane = Open::at(&cluster, follower, "/quorate.v1.LogService/ReadMany").await;
        cluster.pause(leader);
        let reads = vec![asked(7, Level::Linearizable), asked(8, Level::Eventual)];
        lane.send(ReadManyRequest { reads }.encode_to_vec());
        let first: ReadManyResponse = lane.next().await;
        assert_eq!(first.answers.iter().map(|answer| answer.tag).collect::<Vec<_>>(), [8]);
        lane.send(nonsense);
        let reads = vec![asked(9, Level::Eventual)];
        lane.send(ReadManyRequest { reads }.encode_to_vec());
        // The node has had the time to see it; what it took before still waits.
        for _ in 0..20 {
            cluster.applied(follower).await;
        }
        cluster.resume(leader);
        let mut last: ReadManyResponse = lane.next().await;
        let answer = last.answers.remove(0);
        assert!((answer.tag, last.answers.len()) == (7, 0), "{answer:?} {last:?}");
        assert!(matches!(answer.result, Some(read_answer::Result::Ok(_))), "{answer:?}");
        lane.says_why().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_before_it_are_done_and_none_after() {
    let cluster = Cluster::start(3, SLOW).await;
    let leader = cluster.leader().await;
    let logs = &mut cluster.logs(leader);
    create(logs, "a").await;
    let mut done = Vec::new();
    for (n, nonsense) in unreadable().into_iter().enumerate() {
        let mut stream = Open::at(&cluster, leader, "/quorate.v1.LogService/AppendStream").await;
        let request = |tag, value: &str| {
            let part = Some(part("a", &[value], AppendConditions::default()));
            AppendStreamRequest { tag, append: Some(AppendRequest { part, ack: 0 }) }
        };
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        others.iter().for_each(|other| cluster.pause(*other));
        done.push(format!("{n} before"));
        stream.send(request(7, &done[n]).encode_to_vec());
        stream.send(nonsense);
        stream.send(request(8, "after").encode_to_vec());
        for _ in 0..20 {
            cluster.applied(leader).await;
        }
        others.iter().for_each(|other| cluster.resume(*other));
        let answer: AppendStreamResponse = stream.next().await;
        assert_eq!(answer.tag, 7);
        let ok = matches!(answer.result, Some(append_stream_response::Result::Ok(_)));
        assert!(ok, "{answer:?}");
        stream.says_why().await;
        assert_eq!(super::read(logs, all("a", Level::Linearizable)).await.unwrap().0, done);
    }
}
