//! Which payloads leave memory, and when: those that became durable first.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::group::Group;

/// What became durable, in order; of the sync thread alone.
#[derive(Default)]
pub(super) struct Evictions {
    /// Each: the group's entries up to this index (those behind the one before) are durable.
    runs: VecDeque<(Arc<Group>, u64)>,
    /// Obsolete runs are looked for when there are that many.
    sweep_at: usize,
}

/// Below this many runs a sweep is not worth it.
const SWEEP_FROM: usize = 4096;

impl Evictions {
    /// The group's entries up to `upto` are durable.
    pub fn written(&mut self, group: &Arc<Group>, upto: u64) {
        self.runs.push_back((group.clone(), upto));
    }

    /// Drops payloads until `cached` is at most `limit`, or nothing durable is in memory.
    pub fn run(&mut self, cached: &AtomicU64, limit: u64) {
        while cached.load(Ordering::Relaxed) > limit {
            let Some((group, upto)) = self.runs.pop_front() else { break };
            if !group.is_gone(upto) {
                let freed = group.table().evict(upto);
                cached.fetch_sub(freed, Ordering::Relaxed);
            }
        }
        // Where entries are purged before the cache is full, nothing above ever ends a run.
        while self.runs.front().is_some_and(|(group, upto)| group.is_gone(*upto)) {
            self.runs.pop_front();
        }
        if self.runs.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.runs.retain(|(group, upto)| !group.is_gone(*upto));
            self.sweep_at = 2 * self.runs.len();
        }
    }
}
