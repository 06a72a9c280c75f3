//! Unsafe as it is: a lease is not kept over a restart of a follower (`storage/helper.rs` has a note
//! to that effect). A follower that has just confirmed a leader's lease restarts, and grants its vote
//! to another at once; the first leader still reads under its lease.

use openraft::ReadPolicy;

use crate::cluster::{Cluster, LEASE};

const FIXED: &str = "openraft keeps leases over restarts now: `ReadPolicy::LeaseRead` may be looked \
                     at again (raft-node/src/raft/settings.rs, raft-node/src/peer/raft_handler.rs), \
                     and this test may go";

#[tokio::test(start_paused = true)]
async fn a_lease_is_forgotten_in_a_restart() {
    let mut cluster = Cluster::start(|config| config.enable_heartbeat = true).await;
    cluster.write(1, "one").await;
    cluster.applied_everywhere("one").await;

    // Node 3 hears nothing of the leader for longer than a lease; node 2 renews it all the time.
    for (one, other) in [(1, 3), (3, 1)] {
        cluster.network.delay_calls((one, other));
        cluster.network.delay_answers((one, other));
    }
    tokio::time::sleep(2 * LEASE).await;
    assert!(cluster.leads(1));

    cluster.crash(2).await;
    cluster.network.delay_calls((1, 2));
    cluster.switch_on(2).await;
    let restarted = tokio::time::Instant::now();
    cluster.lead(3).await;
    cluster.write(3, "two").await;
    assert!(restarted.elapsed() < LEASE, "{FIXED} (a vote took {:?})", restarted.elapsed());

    let read = cluster.node(1).get_read_linearizer(ReadPolicy::LeaseRead).await;
    let read = read.unwrap_or_else(|why| panic!("{FIXED} ({why})"));
    read.await_ready(&cluster.node(1)).await.expect("it is applied");
    assert_eq!(cluster.values(1), ["one"], "stale: \"two\" had been acknowledged. If not: {FIXED}");
}
