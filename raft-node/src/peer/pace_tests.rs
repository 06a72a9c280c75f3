//! Entries are asked for at once, a commit index alone after a while, and nothing is forgotten.

use std::sync::atomic::AtomicU64;

use futures::{FutureExt, stream::BoxStream};
use tokio::sync::watch;

use super::*;
use crate::raft::{
    log_storage::log_id,
    types::{TypeConfig, alias::RaftLogId},
};

/// Longer than any linger; the clock of these tests does not run by itself.
const LONG: Duration = Duration::from_secs(60);

/// Makes requests as openraft does: out of all that there is when it is asked.
struct Leader {
    /// Last index and commit index.
    log: watch::Sender<(u64, u64)>,
    last: Arc<AtomicU64>,
}

/// What a request was made of: the entries' indexes, and the commit index.
type Seen = (Vec<u64>, u64);

fn request(prev: u64, last: u64, commit: u64) -> AppendRequest {
    let id = |index: u64| (index > 0).then(|| log_id(1, index));
    let entry = |index| {
        <openraft::alias::EntryOf<TypeConfig> as openraft::entry::RaftEntry>::new_blank(log_id(
            1, index,
        ))
    };
    AppendRequest {
        vote: openraft::impls::Vote::new_committed(1, 1),
        prev_log_id: id(prev),
        entries: (prev + 1..=last).map(entry).collect(),
        leader_commit: id(commit),
    }
}

fn seen(request: &AppendRequest) -> Seen {
    let indexes = request.entries.iter().map(|entry| entry.log_id.index).collect();
    (indexes, request.leader_commit.as_ref().map_or(0, |id: &RaftLogId| id.index))
}

impl Leader {
    /// A leader whose log ends with `last`, all of it committed and known to the peer.
    fn start(last: u64) -> (Self, Paced<BoxStream<'static, AppendRequest>>) {
        let (log, changes) = watch::channel((last, last));
        let index = Arc::new(AtomicU64::new(last));
        let state = (changes, last, None);
        let requests = futures::stream::unfold(state, |(mut changes, sent, said)| async move {
            let news = |&(last, commit): &(u64, u64)| last > sent || Some(commit) != said;
            let (last, commit) = *changes.wait_for(news).await.ok()?;
            Some((request(sent, last, commit), (changes, last, Some(commit))))
        });
        let appended = index.clone();
        let ask = Arc::new(move || appended.load(Ordering::SeqCst));
        (Self { log, last: index }, Paced::new(requests.boxed(), ask))
    }

    /// The log is told first, as openraft does.
    fn append(&self, last: u64) {
        self.last.store(last, Ordering::SeqCst);
        self.log.send_modify(|log| log.0 = last);
    }

    fn commit(&self, index: u64) {
        self.log.send_modify(|log| log.1 = index);
    }
}

async fn next(requests: &mut Paced<BoxStream<'static, AppendRequest>>) -> (Seen, Duration) {
    let began = runtime::now();
    let request =
        runtime::timeout(LONG, requests.next()).await.expect("in time").expect("a request");
    (seen(&request), runtime::now() - began)
}

/// The first one, which tells where the session begins; and the stream has nothing more then.
async fn settle(requests: &mut Paced<BoxStream<'static, AppendRequest>>) {
    next(requests).await;
    assert!(futures::poll!(requests.next()).is_pending());
}

#[tokio::test(start_paused = true)]
async fn entries_are_asked_for_at_once() {
    let (leader, mut requests) = Leader::start(4);
    settle(&mut requests).await;
    leader.append(6);
    assert_eq!(next(&mut requests).await, ((vec![5, 6], 4), Duration::ZERO));
    leader.append(7);
    assert_eq!(next(&mut requests).await, ((vec![7], 4), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_commit_index_alone_goes_after_a_while() {
    let (leader, mut requests) = Leader::start(4);
    leader.append(5);
    settle(&mut requests).await;
    leader.commit(5);
    let (seen, waited) = next(&mut requests).await;
    assert_eq!(seen, (vec![], 5));
    assert!(waited >= COMMIT_LINGER && waited <= 2 * COMMIT_LINGER, "{waited:?}");
    // And so does the next one: the wait begins anew.
    assert!(futures::poll!(requests.next()).is_pending());
    leader.append(6);
    assert_eq!(next(&mut requests).await, ((vec![6], 5), Duration::ZERO));
    assert!(futures::poll!(requests.next()).is_pending());
    leader.commit(6);
    let (seen, waited) = next(&mut requests).await;
    assert_eq!(seen, (vec![], 6));
    assert!(waited >= COMMIT_LINGER, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn the_next_entry_takes_the_commit_index_along() {
    let (leader, mut requests) = Leader::start(4);
    leader.append(5);
    settle(&mut requests).await;
    leader.commit(5);
    assert!(futures::poll!(requests.next()).is_pending());
    leader.append(6);
    assert_eq!(next(&mut requests).await, ((vec![6], 5), Duration::ZERO), "one request for both");
    let quiet = runtime::timeout(LONG, requests.next()).await;
    assert!(quiet.is_err(), "all was said");
}

/// Its timer is the same, and was begun for the one before.
#[tokio::test(start_paused = true)]
async fn each_commit_index_waits_as_long() {
    let (leader, mut requests) = Leader::start(4);
    settle(&mut requests).await;
    for index in 5..9 {
        leader.append(index);
        assert_eq!(next(&mut requests).await.0.0, vec![index]);
        assert!(futures::poll!(requests.next()).is_pending());
        leader.commit(index);
        assert!(futures::poll!(requests.next()).is_pending(), "it waits");
        tokio::time::advance(COMMIT_LINGER * 3 / 4).await;
        assert!(futures::poll!(requests.next()).is_pending(), "it still waits");
    }
    let (seen, waited) = next(&mut requests).await;
    assert_eq!(seen, (vec![], 8));
    assert!(waited >= COMMIT_LINGER / 4 && waited <= 2 * COMMIT_LINGER, "{waited:?}");
}

/// As when a reply has come.
fn polls_for_nothing(requests: &mut Paced<BoxStream<'static, AppendRequest>>) {
    for _ in 0..3 {
        assert!(requests.next().now_or_never().is_none());
    }
    assert!(requests.linger.is_none(), "no timer for nothing");
}

#[tokio::test(start_paused = true)]
async fn what_else_polls_the_session_asks_for_nothing() {
    let (leader, mut requests) = Leader::start(4);
    settle(&mut requests).await;
    polls_for_nothing(&mut requests);
    leader.append(5);
    assert_eq!(next(&mut requests).await.0, (vec![5], 4));
    assert!(futures::poll!(requests.next()).is_pending());
    polls_for_nothing(&mut requests);
    // Entries that openraft does not know of yet: it rings when it does.
    leader.last.store(6, Ordering::SeqCst);
    polls_for_nothing(&mut requests);
    leader.append(6);
    assert_eq!(next(&mut requests).await.0, (vec![6], 4));
}

#[tokio::test(start_paused = true)]
async fn the_end_is_passed_on() {
    let (leader, mut requests) = Leader::start(4);
    settle(&mut requests).await;
    drop(leader);
    assert!(runtime::timeout(LONG, requests.next()).await.expect("in time").is_none());
}
