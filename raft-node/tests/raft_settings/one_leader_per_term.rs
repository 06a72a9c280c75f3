//! A term is a fencing token: it has one leader at most. It takes votes that outlive a crash, and
//! an order of votes in which two of one term are never both granted.

use std::cmp::Ordering;

use openraft::{ServerState, async_runtime::WatchReceiver, impls, vote::RaftLeaderId};
use quorate_raft_node::raft::{
    settings::Timing,
    types::{NodeId, TypeConfig},
};

use crate::{
    cluster::{Cluster, eventually},
    network::{Ballot, Passes},
};

/// Nobody but the test starts an election: the timers are longer than it takes.
const TIMING: Timing =
    Timing { heartbeat_ms: 100, election_min_ms: 60_000, election_max_ms: 60_001 };

/// Both sides of a link let votes through, and nothing else.
fn votes_only(cluster: &Cluster, a: NodeId, b: NodeId) {
    cluster.network.set_both(a, b, Passes::Votes);
}

/// The answer of node 1 to node `candidate` for a vote in `term`.
async fn ballot(cluster: &Cluster, candidate: NodeId, term: u64) -> Ballot {
    cluster.group(candidate).raft().trigger().elect(false).await.expect("the core runs");
    eventually("node 1 answers", || {
        let is_it = |b: &&Ballot| {
            (b.candidate, b.voter, b.term, b.pre_vote) == (candidate, 1, term, false)
                && b.granted.is_some()
        };
        cluster.network.ballots().iter().find(is_it).copied()
    })
    .await
}

/// Term in which a node believes that it leads.
fn leads_in(cluster: &Cluster, id: NodeId) -> Option<u64> {
    let metrics = cluster.group(id).raft().metrics();
    let metrics = metrics.borrow_watched();
    (metrics.state == ServerState::Leader).then_some(metrics.current_term)
}

/// Nodes 2 and 3, which don't hear each other, both stand in the same term, and node 1 crashes in
/// between. Answers whether node 1 voted for both, and who leads in that term.
async fn two_candidates_in_one_term(lying_disk: bool) -> (bool, Vec<NodeId>) {
    let mut cluster = Cluster::start(TIMING, |_| {}).await;
    let at = cluster.write(1, "before").await.expect("a healthy cluster");
    for id in crate::cluster::NODES {
        cluster.applied(id, at).await;
    }
    let term = at.term.0 + 1;
    // A new life without a lease: node 1 may vote at once.
    cluster.isolate(1);
    cluster.network.set_both(2, 3, Passes::Nothing);
    cluster.crash(1).await;
    cluster.restart(1).await;

    if lying_disk {
        cluster.disk(1).lie();
    }
    votes_only(&cluster, 1, 2);
    assert_eq!(ballot(&cluster, 2, term).await.granted, Some(true), "the first one's vote");
    eventually("node 2 leads", || (leads_in(&cluster, 2) == Some(term)).then_some(())).await;
    cluster.crash(1).await;
    cluster.restart(1).await;

    votes_only(&cluster, 1, 3);
    let second = ballot(&cluster, 3, term).await;
    let granted = second.granted == Some(true);
    if granted {
        eventually("node 3 leads", || (leads_in(&cluster, 3) == Some(term)).then_some(())).await;
    }
    let leaders = [2, 3].into_iter().filter(|id| leads_in(&cluster, *id) == Some(term));
    (granted, leaders.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_outlives_a_crash() {
    assert_eq!(two_candidates_in_one_term(false).await, (false, vec![2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_forgets_votes_makes_two_leaders_in_one_term() {
    assert_eq!(two_candidates_in_one_term(true).await, (true, vec![2, 3]));
}

/// openraft's default order of votes would let the second one in, crash or not.
#[test]
fn two_votes_of_one_term_are_never_both_granted() {
    type Ours = <TypeConfig as openraft::RaftTypeConfig>::LeaderId;
    type Default = impls::leader_id_adv::LeaderId<u64, NodeId>;
    fn second<L: RaftLeaderId<Term = u64, NodeId = NodeId>>() -> Option<Ordering> {
        let vote = |node| impls::Vote::<L>::new(7, node);
        vote(3).partial_cmp(&vote(2))
    }
    assert_eq!(second::<Ours>(), None, "neither may replace the other");
    assert_eq!(second::<Default>(), Some(Ordering::Greater), "the default grants it");
}
