//! Random bytes and mutated valid messages to every RPC of a node, its peers' included: typed
//! errors, no panic, no growth of memory.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost_types::FileDescriptorSet;
use quorate_proto::{
    admin::v1 as admin,
    raft::v1 as peer,
    v1::{self as wire, CreateLogRequest},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use super::cluster::Cluster;

/// Calls of each RPC.
const ROUNDS: usize = 60;

/// What a node may grow by under all of this.
const GROWTH_KB: u64 = 128 * 1024;

/// Bytes as they are.
#[derive(Clone, Default)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Every RPC of the description that the servers are built from, so that none is forgotten.
fn every_rpc() -> Vec<String> {
    let set = FileDescriptorSet::decode(quorate_proto::DESCRIPTORS).expect("our own description");
    let mut paths = Vec::new();
    for file in set.file.iter().filter(|f| f.package().starts_with("quorate.")) {
        for service in &file.service {
            for method in &service.method {
                paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    paths
}

/// Valid messages to start from: mutations of these get further than noise.
fn seeds() -> Vec<Bytes> {
    let part = wire::AppendPart {
        log: "fuzz".to_owned(),
        records: vec![wire::Record { value: b"v".to_vec().into(), ..Default::default() }],
        conditions: Some(wire::AppendConditions {
            expected_offset: Some(1),
            writer_epoch: Some(1),
            producer: Some(wire::Producer { id: vec![1; 16].into(), sequence: 1 }),
            incarnation: Some(1),
        }),
        ..Default::default()
    };
    let append = wire::AppendRequest { part: Some(part.clone()), ack: 1 };
    let identity = peer::Identity {
        cluster_id: vec![1; 16].into(),
        from_uuid: vec![2; 16].into(),
        from: 2,
        target: 1,
        group: 0,
    };
    let messages: Vec<Vec<u8>> = vec![
        append.encode_to_vec(),
        wire::AppendStreamRequest { tag: 1, append: Some(append) }.encode_to_vec(),
        wire::AppendMultiRequest { parts: vec![part.clone(), part], ack: 1 }.encode_to_vec(),
        CreateLogRequest { name: "fuzz".to_owned(), if_absent: true, ..Default::default() }
            .encode_to_vec(),
        wire::ReadRequest {
            log: "fuzz".to_owned(),
            to_offset: Some(9),
            max_records: 3,
            consistency: Some(wire::Consistency {
                level: 2,
                max_staleness_ms: Some(5),
                at_least: vec![vec![1; 49].into()],
                on_unmet: 3,
            }),
            ..Default::default()
        }
        .encode_to_vec(),
        admin::DigestAtRequest { group: 0, log_index: 3 }.encode_to_vec(),
        peer::HelloRequest { identity: Some(identity.clone()), groups: 1, ..Default::default() }
            .encode_to_vec(),
        peer::ControlFrame {
            identity: Some(identity.clone()),
            seq: 1,
            request: Some(peer::control_frame::Request::ReadProbe(peer::ReadProbe {
                nonce: 1,
                groups: vec![0, 1],
            })),
        }
        .encode_to_vec(),
        peer::AppendFrame { identity: Some(identity), seq: 1, ..Default::default() }
            .encode_to_vec(),
    ];
    messages.into_iter().map(Bytes::from).collect()
}

fn mutate(random: &mut StdRng, seeds: &[Bytes]) -> Bytes {
    if random.random_bool(0.3) {
        let length = random.random_range(0..600);
        return (0..length).map(|_| random.random::<u8>()).collect();
    }
    let mut bytes = seeds[random.random_range(0..seeds.len())].to_vec();
    for _ in 0..random.random_range(0..6) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = random.random(),
            2 => bytes.insert(at, random.random()),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes.into()
}

/// A refusal must be one that somebody thought of.
fn judge(path: &str, status: &Status) {
    // A stream that was opened and is now waiting is ended by us.
    let thought_of = !matches!(status.code(), Code::Ok | Code::Unknown | Code::DataLoss);
    // "Internal" is what tonic says of bytes that are no message at all.
    let undecodable = status.message().contains("decode") || status.message().contains("buffer");
    assert!(thought_of && (status.code() != Code::Internal || undecodable), "{path}: {status:?}");
}

async fn call(channel: &Channel, path: &str, messages: Vec<Bytes>) {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("the node is there");
    let mut request = Request::new(tokio_stream::iter(messages));
    request.set_timeout(std::time::Duration::from_millis(300));
    let path_and_query = path.parse().expect("a path");
    match grpc.streaming(request, path_and_query, Raw).await {
        Err(status) => judge(path, &status),
        Ok(response) => {
            let mut stream = response.into_inner();
            // A few answers are enough; dropping the stream ends a tail.
            for _ in 0..4 {
                let next = quorate_raft_node::runtime::timeout(
                    std::time::Duration::from_millis(100),
                    stream.message(),
                );
                match next.await {
                    Ok(Ok(Some(_))) => {}
                    Ok(Ok(None)) | Err(_) => return,
                    Ok(Err(status)) => return judge(path, &status),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_survives_nonsense() {
    let cluster = Cluster::start(3, "").await;
    let leader = cluster.leader().await;
    cluster
        .logs(leader)
        .create_log(CreateLogRequest {
            name: "fuzz".to_owned(),
            if_absent: true,
            ..Default::default()
        })
        .await
        .expect("a log");
    let before = cluster.memory_kb(leader);
    let seeds = seeds();
    let mut random = StdRng::seed_from_u64(7);
    let paths = every_rpc();
    assert!(paths.len() > 20, "{paths:?}");
    for path in &paths {
        let channel = cluster.channel_for(leader, path);
        for _ in 0..ROUNDS {
            let count = random.random_range(1..4);
            let messages = (0..count).map(|_| mutate(&mut random, &seeds)).collect();
            call(&channel, path, messages).await;
        }
    }
    // Nothing was harmed: the same leader, or another, still appends.
    let leader_now = cluster.leader().await;
    super::append(&mut cluster.logs(leader_now), "fuzz", &["still here"]).await;
    assert!((0..3).all(|n| cluster.is_running(n)), "a node died");
    let after = cluster.memory_kb(leader);
    assert!(after < before + GROWTH_KB, "grew from {before} to {after} kB");
}
