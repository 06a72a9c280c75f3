//! Which replicas are catching up, so that the log they are about to need is not purged under them.
//!
//! Without this a replica under steady load never arrives: while a snapshot is on its way, the log
//! behind it is purged by retention, and the replica needs the next snapshot.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::types::NodeId;
use crate::runtime::{self, Instant};

/// After a transfer the replica needs a moment until its progress shows.
const GRACE: Duration = Duration::from_secs(10);

/// A replica whose log did not grow for this long is not catching up; it is away.
const STILL: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Transfer {
    index: u64,
    /// `None` while it is on its way.
    ended: Option<Instant>,
}

/// Snapshots on their way, by replica; and who makes progress. One per group; clones share.
#[derive(Clone, Debug, Default)]
pub struct CatchingUp {
    transfers: Arc<Mutex<BTreeMap<NodeId, Transfer>>>,
}

/// Ends a transfer when it is dropped.
#[derive(Debug)]
pub struct OnItsWay {
    of: CatchingUp,
    to: NodeId,
}

impl CatchingUp {
    /// A snapshot up to `index` is being sent to `to`, until the answer is dropped.
    #[must_use]
    pub fn begin(&self, to: NodeId, index: u64) -> OnItsWay {
        let mut transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        transfers.insert(to, Transfer { index, ended: None });
        OnItsWay { of: self.clone(), to }
    }

    /// The lowest index of a snapshot that is on its way, or has just arrived.
    #[must_use]
    pub fn lowest_transfer(&self) -> Option<u64> {
        let mut transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        transfers.retain(|_, t| t.ended.is_none_or(|ended| ended.elapsed() < GRACE));
        transfers.values().map(|t| t.index).min()
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let mut transfers = self.of.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transfer) = transfers.get_mut(&self.to) {
            transfer.ended = Some(runtime::now());
        }
    }
}

/// Tells replicas that make progress from those that are away.
#[derive(Debug, Default)]
pub(super) struct Progress {
    seen: BTreeMap<NodeId, (u64, Instant)>,
}

impl Progress {
    /// Takes a look, and answers with the lowest matched index of the replicas whose log has grown
    /// lately.
    pub fn lowest_moving(
        &mut self,
        matched: impl IntoIterator<Item = (NodeId, u64)>,
    ) -> Option<u64> {
        let now = runtime::now();
        let mut seen = BTreeMap::new();
        for (id, index) in matched {
            let moved = match self.seen.get(&id) {
                Some((before, moved)) if *before == index => *moved,
                // The first look tells nothing: it counts as long ago.
                None => now.checked_sub(STILL).unwrap_or(now),
                Some(_) => now,
            };
            seen.insert(id, (index, moved));
        }
        self.seen = seen;
        let moving = self.seen.values().filter(|(_, moved)| now.duration_since(*moved) < STILL);
        moving.map(|(index, _)| *index).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_transfer_holds_for_a_while_after_its_end() {
        let all = CatchingUp::default();
        assert_eq!(all.lowest_transfer(), None);
        let (first, second) = (all.begin(2, 50), all.begin(3, 70));
        assert_eq!(all.lowest_transfer(), Some(50));
        drop(first);
        runtime::sleep(GRACE / 2).await;
        assert_eq!(all.lowest_transfer(), Some(50));
        runtime::sleep(GRACE).await;
        assert_eq!(all.lowest_transfer(), Some(70));
        drop(second);
        runtime::sleep(GRACE).await;
        assert_eq!(all.lowest_transfer(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_moves_is_waited_for() {
        let mut progress = Progress::default();
        assert_eq!(progress.lowest_moving([(1, 100), (2, 10)]), None);
        runtime::sleep(Duration::from_secs(1)).await;
        assert_eq!(progress.lowest_moving([(1, 110), (2, 10)]), Some(110), "2 is away");
        runtime::sleep(Duration::from_secs(1)).await;
        assert_eq!(progress.lowest_moving([(1, 120), (2, 20)]), Some(20), "2 is back");
        runtime::sleep(STILL).await;
        assert_eq!(progress.lowest_moving([(1, 130), (2, 20)]), Some(130), "and away again");
    }
}
