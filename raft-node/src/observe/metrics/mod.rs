//! The node's metrics.
//!
//! - `table`: every metric, declared once.
//! - `histogram`, `family`: what the hot paths touch; atomics only.
//! - `sources`: what is asked for when somebody scrapes; `process`: the kernel's part of it.
//! - `scrape`: the text format.
//! - `page`: the page `docs/metrics.md`, made from the table.
//!
//! A method of [`Metrics`] takes a few atomic additions: it may be called for every command.
mod family;
pub mod histogram;
pub mod page;
pub mod process;
pub mod scrape;
pub mod sources;
pub mod table;
#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use quorate_state_machine::types::GroupId;

use self::{
    family::{ByGroup, ByLabel},
    histogram::{
        BYTES_BOUNDS, COUNT_BOUNDS, DURATION_BOUNDS_NS, Histogram, LONG_DURATION_BOUNDS_NS,
    },
    process::ProcessSample,
    scrape::Scrape,
    sources::Sources,
    table::Name,
};

/// Counters of one node. Shared by everything that runs in it.
#[derive(Debug, Default)]
pub struct Metrics {
    appends: ByLabel<Appends>,
    reads: ByLabel<Reads>,
    forwarded: ByLabel<AtomicU64>,
    batches_read: ByLabel<AtomicU64>,
    groups: ByGroup<OfGroup>,
    admission_refused: AtomicU64,
    /// Started and ended are counted apart: a difference can't be torn below zero.
    tails_started: AtomicU64,
    tails_ended: AtomicU64,
}

/// Appends with one outcome.
#[derive(Debug)]
struct Appends {
    duration: Histogram,
    records: AtomicU64,
    bytes: AtomicU64,
}

/// What may become of a read: served as asked, served in spite of what was asked
/// (ON_UNMET_SERVE_AND_MARK), or why not.
pub const READ_OUTCOMES: [&str; 8] = [
    "ok",
    "marked",
    "too_stale",
    "not_leader",
    "deadline",
    "bad_position",
    "unavailable",
    "failed",
];

/// Reads of one level, by outcome.
#[derive(Debug)]
struct Reads([Histogram; READ_OUTCOMES.len()]);

#[derive(Debug)]
struct OfGroup {
    entry_bytes: Histogram,
    entry_commands: Histogram,
    apply_duration: Histogram,
    apply_entries: Histogram,
    read_rounds: Histogram,
    snapshots_built: Snapshots,
    snapshots_installed: Snapshots,
}

#[derive(Debug)]
struct Snapshots {
    duration: Histogram,
    bytes: AtomicU64,
}

impl Default for Appends {
    fn default() -> Self {
        Self {
            duration: Histogram::durations(DURATION_BOUNDS_NS),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Default for Reads {
    fn default() -> Self {
        Self(READ_OUTCOMES.map(|_| Histogram::durations(DURATION_BOUNDS_NS)))
    }
}

impl Default for OfGroup {
    fn default() -> Self {
        Self {
            entry_bytes: Histogram::sizes(BYTES_BOUNDS),
            entry_commands: Histogram::sizes(COUNT_BOUNDS),
            apply_duration: Histogram::durations(DURATION_BOUNDS_NS),
            apply_entries: Histogram::sizes(COUNT_BOUNDS),
            read_rounds: Histogram::sizes(COUNT_BOUNDS),
            snapshots_built: Snapshots::default(),
            snapshots_installed: Snapshots::default(),
        }
    }
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { duration: Histogram::durations(LONG_DURATION_BOUNDS_NS), bytes: AtomicU64::new(0) }
    }
}

impl Snapshots {
    fn done(&self, bytes: u64, elapsed: Duration) {
        self.duration.observe_duration(elapsed);
        add(&self.bytes, bytes);
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An append was answered. `outcome` is one of a small closed set of words: the name of the
    /// outcome or of the refusal.
    pub fn append_done(&self, outcome: &'static str, records: u64, bytes: u64, elapsed: Duration) {
        let appends = self.appends.get(outcome);
        appends.duration.observe_duration(elapsed);
        add(&appends.records, records);
        add(&appends.bytes, bytes);
    }

    /// A command was refused because too many bytes are in flight.
    pub fn admission_refused(&self) {
        add(&self.admission_refused, 1);
    }

    /// An entry of `bytes` with so many commands went to the group's core.
    pub fn entry_proposed(&self, group: GroupId, commands: usize, bytes: usize) {
        let group = self.groups.get(group);
        group.entry_commands.observe(commands as u64);
        group.entry_bytes.observe(bytes as u64);
    }

    /// A batch of committed entries is in the state.
    pub fn applied(&self, group: GroupId, entries: usize, elapsed: Duration) {
        let group = self.groups.get(group);
        group.apply_entries.observe(entries as u64);
        group.apply_duration.observe_duration(elapsed);
    }

    /// What became of a read: `outcome` is one of [`READ_OUTCOMES`], `level` the name of its
    /// consistency level.
    pub fn read(&self, level: &'static str, outcome: &'static str, elapsed: Duration) {
        let at = READ_OUTCOMES.iter().position(|known| *known == outcome);
        debug_assert!(at.is_some(), "{outcome:?} is missing in READ_OUTCOMES");
        let at = at.unwrap_or(READ_OUTCOMES.len() - 1);
        self.reads.get(level).0[at].observe_duration(elapsed);
    }

    /// Reads so far, by level and outcome; those that never happened are left out.
    #[must_use]
    pub fn reads(&self) -> Vec<(&'static str, &'static str, u64)> {
        let each = |(level, reads): (_, &Reads)| {
            let counts = reads.0.each_ref().map(|histogram| histogram.sample().count());
            READ_OUTCOMES.into_iter().zip(counts).map(move |(outcome, n)| (level, outcome, n))
        };
        self.reads.iter().flat_map(each).filter(|(_, _, n)| *n > 0).collect()
    }

    /// A read that could not be served here was forwarded, or might not be: `outcome` is
    /// `answered`, `failed`, `budget` or `open`.
    pub fn forwarded(&self, outcome: &'static str) {
        add(self.forwarded.get(outcome), 1);
    }

    /// Batches were handed to readers and tails: `source` is `memory` or `disk`.
    pub fn batches_read(&self, source: &'static str, batches: usize) {
        add(self.batches_read.get(source), batches as u64);
    }

    /// A round of the leader's quorum for a read index began, for so many reads.
    pub fn read_round(&self, group: GroupId, readers: usize) {
        self.groups.get(group).read_rounds.observe(readers as u64);
    }

    /// A client began to follow a log.
    pub fn tail_started(&self) {
        add(&self.tails_started, 1);
    }

    /// A client that followed a log is gone. Called once for each [`Metrics::tail_started`].
    pub fn tail_ended(&self) {
        add(&self.tails_ended, 1);
    }

    /// A snapshot of `bytes` was built here.
    pub fn snapshot_built(&self, group: GroupId, bytes: u64, elapsed: Duration) {
        self.groups.get(group).snapshots_built.done(bytes, elapsed);
    }

    /// A snapshot of `bytes` that came from a leader is in place.
    pub fn snapshot_installed(&self, group: GroupId, bytes: u64, elapsed: Duration) {
        self.groups.get(group).snapshots_installed.done(bytes, elapsed);
    }

    /// Everything, in the OpenMetrics text format ([`scrape::CONTENT_TYPE`]). May block for a
    /// moment: not for the event loop.
    #[must_use]
    pub fn text(&self, sources: &dyn Sources) -> String {
        let mut scrape = Scrape::default();
        self.collect(&mut scrape);
        sources::collect(sources, &mut scrape);
        sources::collect_process(&ProcessSample::take(), &mut scrape);
        scrape.info(Name::Build, &[env!("CARGO_PKG_VERSION")]);
        scrape.into_text()
    }

    fn collect(&self, scrape: &mut Scrape) {
        for (outcome, appends) in self.appends.iter() {
            scrape.histogram(Name::AppendDuration, &[outcome], appends.duration.sample());
            scrape.whole(Name::AppendRecords, &[outcome], value(&appends.records));
            scrape.whole(Name::AppendBytes, &[outcome], value(&appends.bytes));
        }
        for (level, reads) in self.reads.iter() {
            for (outcome, histogram) in READ_OUTCOMES.iter().zip(&reads.0) {
                let sample = histogram.sample();
                if sample.count() > 0 {
                    scrape.histogram(Name::ReadDuration, &[level, outcome], sample);
                }
            }
        }
        for (outcome, count) in self.forwarded.iter() {
            scrape.whole(Name::ReadForwarded, &[outcome], value(count));
        }
        for (source, count) in self.batches_read.iter() {
            scrape.whole(Name::ReadBatches, &[source], value(count));
        }
        for (id, group) in self.groups.iter() {
            let id = id.as_str();
            scrape.histogram(Name::ProposedEntryBytes, &[id], group.entry_bytes.sample());
            scrape.histogram(Name::ProposedEntryCommands, &[id], group.entry_commands.sample());
            scrape.histogram(Name::ApplyDuration, &[id], group.apply_duration.sample());
            scrape.histogram(Name::ApplyBatchEntries, &[id], group.apply_entries.sample());
            scrape.histogram(Name::ReadRounds, &[id], group.read_rounds.sample());
            for (action, snapshots) in
                [("built", &group.snapshots_built), ("installed", &group.snapshots_installed)]
            {
                let labels = [id, action];
                scrape.histogram(Name::SnapshotDuration, &labels, snapshots.duration.sample());
                scrape.whole(Name::SnapshotBytes, &labels, value(&snapshots.bytes));
            }
        }
        scrape.whole(Name::AdmissionRefused, &[], value(&self.admission_refused));
        // Ended first: a tail that starts and ends between the two loads must not count as minus
        // one.
        let ended = value(&self.tails_ended);
        let started = value(&self.tails_started);
        scrape.whole(Name::TailStarted, &[], started);
        scrape.whole(Name::TailSubscribers, &[], started.saturating_sub(ended));
    }
}
