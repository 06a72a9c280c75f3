//! When to flush, when to take a snapshot, and how much Raft log to keep: by bytes, with a floor
//! for slow followers. The decision is a pure function; the task around it only carries it out.

use std::time::Duration;

use quorate_state_machine::types::LogIndex;

use super::{
    catching_up::{CatchingUp, Progress},
    group::{Group, Role},
};
use crate::{log_store::GroupLog, runtime};

/// How often the rule is looked at. A second's worth of log at full speed is far below any
/// sensible `retain_bytes`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Settings of the rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Log kept for followers that are behind. A follower further behind needs a snapshot.
    pub retain_bytes: u64,
    /// At most this long between flushes of the state machine: bounds what a restart replays.
    pub flush_interval: Duration,
}

/// What the rule looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sight {
    /// Bytes of entries in the log that the newest snapshot does not cover yet, up to applied.
    bytes_since_snapshot: u64,
    /// Everything up to here is in the newest snapshot.
    snapshot_index: u64,
    purged_index: u64,
    /// On a leader: what every replica holds. `None` elsewhere: others' progress is not known.
    matched_by_all: Option<u64>,
    /// Everything up to here may go and [`Rule::retain_bytes`] of log are still there.
    beyond_retention: u64,
    /// Everything up to here may go and a quarter of the retention is still there.
    beyond_short_tail: u64,
    /// A replica that is catching up needs everything behind this, now or in a moment.
    catching_up: Option<u64>,
    /// Everything up to here may go and [`CATCH_UP_FACTOR`] retentions of log are still there.
    beyond_catch_up: u64,
}

/// A replica that makes progress is waited for until this many retentions of log are kept: disk use
/// stays bounded, and a replica that is slower than that needs a faster disk, not a longer log.
const CATCH_UP_FACTOR: u64 = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Plan {
    snapshot: bool,
    purge_upto: Option<u64>,
}

/// - A snapshot whenever half of the retention was written since the last one, so that there is
///   always one to purge behind.
/// - Never purge what the snapshot does not cover.
/// - Keep a short tail for everybody (restarts); beyond it purge what every replica holds; beyond
///   the retention purge whatever a slow follower still lacks: it will get the snapshot. But not
///   from under a replica that is on its way ([`super::catching_up`]), up to [`CATCH_UP_FACTOR`].
fn plan(rule: &Rule, sight: &Sight) -> Plan {
    let snapshot = sight.bytes_since_snapshot >= rule.retain_bytes / 2;
    let held_by_all = match sight.matched_by_all {
        Some(matched) => sight.beyond_short_tail.min(matched),
        None => 0,
    };
    let beyond = match sight.catching_up {
        Some(needs) => sight.beyond_retention.min(needs).max(sight.beyond_catch_up),
        None => sight.beyond_retention,
    };
    let upto = held_by_all.max(beyond).min(sight.snapshot_index);
    Plan { snapshot, purge_upto: (upto > sight.purged_index).then_some(upto) }
}

/// How large a group's Raft log is; bytes between log indexes.
pub trait LogSize: Send + Sync + 'static {
    /// See [`GroupLog::bytes_between`].
    fn bytes_between(&self, after: u64, upto: u64) -> u64;
    /// See [`GroupLog::index_keeping`].
    fn index_keeping(&self, bytes: u64) -> u64;
}

impl LogSize for GroupLog {
    fn bytes_between(&self, after: u64, upto: u64) -> u64 {
        Self::bytes_between(self, after, upto)
    }

    fn index_keeping(&self, bytes: u64) -> u64 {
        Self::index_keeping(self, bytes)
    }
}

fn look(
    group: &Group,
    log: &impl LogSize,
    rule: &Rule,
    transfers: &CatchingUp,
    progress: &mut Progress,
) -> Sight {
    let v = group.vitals();
    let me = group.node_id();
    let others_matched = v.matched.iter().filter(|(id, _)| **id != me);
    let moving = progress.lowest_moving(others_matched.map(|(id, index)| (*id, index.0)));
    let others = v.voters.iter().chain(&v.learners).filter(|id| v.matched.contains_key(id));
    let matched_by_all = match v.role {
        Role::Leader => {
            let known: Vec<u64> = others.map(|id| v.matched[id].0).collect();
            // openraft lists every replica of the membership, itself included.
            (known.len() == v.voters.len() + v.learners.len())
                .then(|| known.into_iter().min().unwrap_or(0))
        }
        _ => None,
    };
    Sight {
        bytes_since_snapshot: log.bytes_between(v.snapshot_index.0, v.applied_index.0),
        snapshot_index: v.snapshot_index.0,
        purged_index: v.purged_index.0,
        matched_by_all,
        beyond_retention: log.index_keeping(rule.retain_bytes),
        beyond_short_tail: log.index_keeping(rule.retain_bytes / 4),
        catching_up: transfers.lowest_transfer().into_iter().chain(moving).min(),
        beyond_catch_up: log.index_keeping(rule.retain_bytes * CATCH_UP_FACTOR),
    }
}

/// Runs the rule for one group until its core stops.
pub async fn run(group: Group, log: impl LogSize, rule: Rule, transfers: CatchingUp) {
    let mut progress = Progress::default();
    let mut last_flush = runtime::now();
    let mut reclaiming: Option<runtime::Task<()>> = None;
    loop {
        runtime::sleep(INTERVAL).await;
        if group.vitals().stopped.is_some() {
            return;
        }
        if last_flush.elapsed() >= rule.flush_interval {
            let store = group.store();
            if let Err(error) = runtime::blocking(move || store.flush()).await {
                // RocksDB keeps the failure and refuses the next write: apply reports it.
                tracing::error!(group = group.id.0, %error, "flushing the state machine failed");
            }
            last_flush = runtime::now();
            // By itself: giving back a large trimmed range takes long, and flushes must go on.
            if reclaiming.as_ref().is_none_or(runtime::Task::is_finished) {
                let (store, group) = (group.store(), group.id);
                let work = runtime::blocking(move || store.reclaim());
                reclaiming = Some(runtime::spawn(async move {
                    if let Err(error) = work.await {
                        tracing::error!(group = group.0, %error, "can't give back space");
                    }
                }));
            }
        }
        let plan = plan(&rule, &look(&group, &log, &rule, &transfers, &mut progress));
        let result = async {
            if plan.snapshot {
                group.trigger_snapshot().await?;
            }
            if let Some(upto) = plan.purge_upto {
                tracing::debug!(group = group.id.0, upto, "purging the Raft log");
                group.purge(LogIndex(upto)).await?;
            }
            Ok::<_, String>(())
        };
        if let Err(why) = result.await {
            tracing::info!(group = group.id.0, why, "compaction ends with its group");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { retain_bytes: 1000, flush_interval: Duration::from_secs(10) };

    #[test]
    fn a_snapshot_after_half_the_retention() {
        let sight = Sight { bytes_since_snapshot: 499, ..Sight::default() };
        assert!(!plan(&RULE, &sight).snapshot);
        let sight = Sight { bytes_since_snapshot: 500, ..Sight::default() };
        assert!(plan(&RULE, &sight).snapshot);
    }

    #[test]
    fn never_beyond_the_snapshot() {
        let sight = Sight {
            snapshot_index: 10,
            beyond_retention: 50,
            beyond_short_tail: 80,
            matched_by_all: Some(90),
            ..Sight::default()
        };
        assert_eq!(plan(&RULE, &sight).purge_upto, Some(10));
    }

    #[test]
    fn a_replica_on_its_way_is_waited_for_within_bounds() {
        let mut sight = Sight {
            snapshot_index: 100,
            beyond_retention: 80,
            beyond_short_tail: 90,
            matched_by_all: Some(3),
            catching_up: Some(30),
            ..Sight::default()
        };
        assert_eq!(plan(&RULE, &sight).purge_upto, Some(30), "its snapshot ends there");
        sight.beyond_catch_up = 50;
        assert_eq!(plan(&RULE, &sight).purge_upto, Some(50), "but not for ever");
        sight.catching_up = None;
        assert_eq!(plan(&RULE, &sight).purge_upto, Some(80));
    }

    #[test]
    fn the_floor_for_slow_followers_yields_only_to_the_retention() {
        let mut sight = Sight {
            snapshot_index: 100,
            beyond_retention: 20,
            beyond_short_tail: 80,
            matched_by_all: Some(90),
            ..Sight::default()
        };
        assert_eq!(plan(&RULE, &sight).purge_upto, Some(80), "a short tail stays for restarts");
        sight.matched_by_all = Some(40);
        assert_eq!(plan(&RULE, &sight).purge_upto, Some(40), "a slow follower still gets entries");
        sight.matched_by_all = Some(3);
        assert_eq!(plan(&RULE, &sight).purge_upto, Some(20), "a very slow one gets the snapshot");
        sight.matched_by_all = None;
        assert_eq!(plan(&RULE, &sight).purge_upto, Some(20), "a follower knows only its own log");
        sight.purged_index = 20;
        assert_eq!(plan(&RULE, &sight).purge_upto, None);
    }
}
