//! What the client itself costs per append: many concurrent callers of `Client::append` over a
//! transport that acknowledges at once, so that nothing but the client is measured.
//!
//! Workload: 1, 64 and 1024 callers, each waiting for its answer before its next append of one
//! record of 128 bytes, on a runtime of two threads. Prints appends per second, bytes and
//! allocations per append (those of callers, client and this transport together), and how many
//! appends shared a batch.
//!
//! ```text
//! cargo bench -p quorate-client --bench append
//! ```

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use quorate_client::{Answers, Client, Endpoint, Error, Requests, Transport};
use quorate_proto::{admin::v1 as admin, v1 as wire};

/// Counts what is asked of the system's allocator.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        ALLOCATED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Batches that arrived.
static BATCHES: AtomicU64 = AtomicU64::new(0);

/// A leader that takes everything.
#[derive(Default)]
struct Willing {
    streams: AtomicU64,
}

fn unsupported() -> Error {
    Error::from_status(&tonic::Status::unimplemented("not needed here"), false)
}

macro_rules! not_here {
    ($($name:ident($request:ty) -> $answer:ty;)+) => {
        $(fn $name<'a, 'b, 'c>(
            &'a self,
            _: &'b Endpoint,
            _: $request,
            _: Duration,
        ) -> futures::future::BoxFuture<'c, Result<$answer, Error>>
        where
            'a: 'c,
            'b: 'c,
            Self: 'c,
        {
            Box::pin(async { Err(unsupported()) })
        })+
    };
}

/// Records of a batch: 128 bytes of value each, with 3 of framing for the value and 3 for the record.
fn records(batch: &Bytes) -> u64 {
    batch.len() as u64 / 134
}

#[tonic::async_trait]
impl Transport for Willing {
    async fn describe_log(
        &self,
        _: &Endpoint,
        _: wire::DescribeLogRequest,
        _: Duration,
    ) -> Result<wire::DescribeLogResponse, Error> {
        let log = Some(wire::LogInfo { incarnation: 1, ..Default::default() });
        Ok(wire::DescribeLogResponse { log, header: Some(wire::ReadHeader::default()) })
    }

    async fn append_stream(
        &self,
        _: &Endpoint,
        requests: Requests,
        _: Duration,
    ) -> Result<Answers<wire::AppendStreamResponse>, Error> {
        self.streams.fetch_add(1, Ordering::Relaxed);
        let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(requests);
        Ok(requests
            .scan(0, |next, request| {
                let batch = request.append.and_then(|a| a.part).map(|part| part.batch);
                let first_offset = *next;
                *next += records(&batch.unwrap_or_default());
                let part = wire::AppendedPart {
                    first_offset,
                    next_offset: *next,
                    incarnation: 1,
                    ..Default::default()
                };
                let ok = wire::AppendResponse { part: Some(part), ..Default::default() };
                let result = Some(wire::append_stream_response::Result::Ok(ok));
                BATCHES.fetch_add(1, Ordering::Relaxed);
                async move { Some(Ok(wire::AppendStreamResponse { tag: request.tag, result })) }
            })
            .boxed())
    }

    not_here! {
        read(wire::ReadRequest) -> Answers<wire::ReadResponse>;
        tail(wire::TailRequest) -> Answers<wire::ReadResponse>;
        create_log(wire::CreateLogRequest) -> wire::CreateLogResponse;
        list_logs(wire::ListLogsRequest) -> wire::ListLogsResponse;
        trim_log(wire::TrimLogRequest) -> wire::TrimLogResponse;
        delete_log(wire::DeleteLogRequest) -> wire::DeleteLogResponse;
        set_read_level(wire::SetReadLevelRequest) -> wire::SetReadLevelResponse;
        fence(wire::FenceRequest) -> wire::FenceResponse;
        append(wire::AppendRequest) -> wire::AppendResponse;
        append_multi(wire::AppendMultiRequest) -> wire::AppendMultiResponse;
        status(admin::StatusRequest) -> admin::StatusResponse;
        transfer_leader(admin::TransferLeaderRequest) -> admin::TransferLeaderResponse;
        add_learner(admin::AddLearnerRequest) -> admin::MembersResponse;
        change_members(admin::ChangeMembersRequest) -> admin::MembersResponse;
        trigger_snapshot(admin::TriggerSnapshotRequest) -> admin::TriggerSnapshotResponse;
        mark_digest(admin::MarkDigestRequest) -> admin::MarkDigestResponse;
        digest_at(admin::DigestAtRequest) -> admin::DigestAtResponse;
        batch_digests(admin::BatchDigestsRequest) -> Answers<admin::BatchDigestsResponse>;
    }
}

async fn run(callers: u64) {
    let transport = Arc::new(Willing::default());
    let builder = Client::builder().endpoints(["node:1"]).transport(transport.clone());
    let client = builder.build().expect("an address");
    let value = Bytes::from_static(&[7; 128]);
    client.append("l", [value.clone()]).await.expect("an append");

    let appends = 400_000 / callers * callers;
    let before = (ALLOCATIONS.load(Ordering::Relaxed), ALLOCATED.load(Ordering::Relaxed));
    let batches = BATCHES.load(Ordering::Relaxed);
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (client, value) = (client.clone(), value.clone());
            tokio::spawn(async move {
                for _ in 0..appends / callers {
                    client.append("l", [value.clone()]).await.expect("an append");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let seconds = began.elapsed().as_secs_f64();
    let count = appends as f64;
    let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - before.0) as f64 / count;
    let bytes = (ALLOCATED.load(Ordering::Relaxed) - before.1) as f64 / count;
    let packed = count / (BATCHES.load(Ordering::Relaxed) - batches) as f64;
    println!(
        "{callers:>5} callers: {:>9.0} appends/s, {allocations:>5.2} allocations and {bytes:>5.0} \
         bytes an append, {packed:>6.1} appends a batch, {} stream(s)",
        count / seconds,
        transport.streams.load(Ordering::Relaxed),
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for callers in [1, 64, 1024] {
        runtime.block_on(run(callers));
    }
}
