//! More appends at a time than a node serves: what is refused has no effect and says when to come
//! back; what is accepted is there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quorate_proto::v1::{AppendConditions, DescribeLogRequest, Effect, ErrorKind};
use quorate_raft_node::runtime;

use super::{append_if, cluster::Cluster, cluster::detail, create};

/// Appends at a time, where one is allowed.
const CALLERS: usize = 64;
/// Refusals of one connection. Were they resets, HTTP/2 would close it after a thousand bodies that
/// come too late.
const REFUSALS: u32 = 2500;
/// Large enough for bodies to come in several pieces.
const VALUE_BYTES: usize = 40_000;
/// It takes two that meet; how long that takes is the machine's business.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_appends_are_refused_without_effect() {
    let cluster = Cluster::start(1, "\n[limits]\ninflight_appends = 1\n").await;
    let mut logs = cluster.logs(0);
    create(&mut logs, "a").await;
    let (mut accepted, mut refused, end) = (0, 0, Instant::now() + PATIENCE);
    let value = Arc::new("x".repeat(VALUE_BYTES));
    while refused < REFUSALS {
        assert!(Instant::now() < end, "{refused} refusals, {accepted} appends");
        let calls = (0..CALLERS).map(|_| {
            let (mut logs, value) = (logs.clone(), value.clone());
            runtime::spawn(async move {
                append_if(&mut logs, "a", &[&value], AppendConditions::default()).await
            })
        });
        for call in futures::future::join_all(calls.collect::<Vec<_>>()).await {
            let Err(status) = call.expect("a call does not panic") else {
                accepted += 1;
                continue;
            };
            let detail = detail(&status);
            assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
            assert_eq!(detail.kind(), ErrorKind::ResourceExhausted);
            assert_eq!((detail.effect(), detail.retryable), (Effect::None, true));
            assert_eq!((&*detail.limit, detail.limit_value), ("limits.inflight_appends", 1));
            assert!(detail.retry_after_ms > 0, "{detail:?}");
            refused += 1;
        }
    }
    // A call of another kind is not counted; and there is exactly what was accepted.
    let request = DescribeLogRequest { name: "a".to_owned(), ..Default::default() };
    let described = logs.describe_log(request).await.expect("an answer").into_inner();
    assert_eq!(described.log.expect("its info").next_offset, accepted);
}
