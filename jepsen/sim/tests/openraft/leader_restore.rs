//! Unsafe default: a leader that restarts is leader again, in the same term, without asking anybody
//! (`Config::enable_leader_restore`). It need not have been in the quorum that committed: if it lost
//! entries of its own that had not been flushed, it gives their log ids away again.

use crate::cluster::{Cluster, until};

const FIXED: &str = "openraft does not restore a leader that lost entries any more: look at \
                     `enable_leader_restore` in raft-node/src/raft/settings.rs, the mutant \
                     `leader_restore`, and this test";

#[tokio::test(start_paused = true)]
async fn a_restored_leader_gives_a_log_id_away_twice() {
    let mut cluster = Cluster::start(|_| ()).await;
    cluster.write(1, "one").await;
    cluster.applied_everywhere("one").await;

    // The followers are the quorum of "two"; the leader's own disk is slow.
    cluster.log(1).stick();
    let two = cluster.write(1, "two").await;
    let term = cluster.metrics(1).current_term;
    cluster.crash(1).await;
    assert_eq!(cluster.log(1).at(two.index), None, "it was not flushed");

    cluster.switch_on(1).await;
    until(FIXED, || cluster.leads(1)).await;
    assert_eq!(cluster.metrics(1).current_term, term, "nobody was asked");
    let three = cluster.write(1, "three").await;
    until("the leader applies it", || cluster.values(1).iter().any(|v| v == "three")).await;

    // Both were acknowledged, and replicas differ for ever.
    assert!(!cluster.values(1).iter().any(|v| v == "two"), "{FIXED}");
    let (mine, of_followers) = (cluster.log(1).at(two.index), cluster.log(2).at(two.index));
    let (mine, of_followers) = (mine.expect("written"), of_followers.expect("written"));
    assert_eq!(mine.0, of_followers.0, "one log id. {FIXED}");
    assert_ne!(mine.1, of_followers.1, "with two values ({three}). {FIXED}");
}
