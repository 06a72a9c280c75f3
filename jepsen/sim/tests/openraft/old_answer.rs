//! A leader takes a late answer to an old append for one to what it has only just sent, confirms its
//! own leadership with it, and serves a stale linearizable read.
//!
//! openraft keeps what is in flight in a queue, and counts a success up to log id X for every request
//! that ends at or below X. A request that carries only a new commit index ends at X as well, however
//! much later it left (`replication/inflight_append_queue.rs`, `drain_acked`). Were it to take the time
//! of the first request that an answer drains, not of the last, the read would fail as it should.

use openraft::{LinearizerOption, ReadPolicy};

use crate::cluster::{Cluster, LEASE, until};

const FIXED: &str = "openraft does not confirm leadership by an old answer any more: remove \
                     `InFlight::answered` in raft-node/src/peer/append_stream.rs, the mutant \
                     `old_answer_counts_as_new`, and this test";

#[tokio::test(start_paused = true)]
async fn an_old_answer_confirms_leadership() {
    let cluster = Cluster::start(|_| ()).await;
    let network = &cluster.network;
    cluster.write(1, "one").await;
    cluster.applied_everywhere("one").await;

    // Both followers store "two", but their answers are late; so is everything else between node 1
    // and the others from here on, both ways.
    network.delay_answers((2, 1));
    network.delay_answers((3, 1));
    let old_leader = cluster.node(1);
    let two = tokio::spawn(async move { old_leader.client_write("two".to_owned()).await });
    until("both have it", || cluster.log(2).has("two") && cluster.log(3).has("two")).await;
    for way in [(1, 2), (1, 3), (2, 1), (3, 1)] {
        network.delay_calls(way);
    }

    // The others elect node 2, and it acknowledges "three".
    tokio::time::sleep(2 * LEASE).await;
    cluster.lead(2).await;
    cluster.write(2, "three").await;

    // Only then somebody reads at node 1, which asks for a confirmation and gets none.
    let before = network.heartbeats((1, 3));
    let old_leader = cluster.node(1);
    let read = tokio::spawn(async move {
        let confirmed = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(10 * LEASE);
        let linearizer =
            old_leader.get_read_linearizer(confirmed).await.map_err(|e| e.to_string())?;
        linearizer.await_ready(&old_leader).await.map_err(|e| e.to_string())
    });
    until("it asks", || network.heartbeats((1, 3)) > before).await;
    assert!(!read.is_finished());

    // One old answer commits "two" at node 1, which says so to node 3: an empty append. Then comes
    // node 3's old answer, to the append before that.
    let before = network.appends((1, 3));
    network.deliver_answers((2, 1));
    until("it tells the new commit index", || network.appends((1, 3)) > before).await;
    assert!(!read.is_finished(), "one answer to an old request is no quorum");
    network.deliver_answers((3, 1));

    let read = read.await.expect("no panic");
    assert!(read.is_ok(), "{FIXED} ({read:?})");
    let shown = cluster.values(1);
    assert_eq!(shown, ["one", "two"], "stale: \"three\" had been acknowledged. If not: {FIXED}");
    two.await.expect("no panic").expect("it was committed");
}
