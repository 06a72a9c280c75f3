//! A histogram that never locks: what is measured here is measured on the hottest paths of the
//! node, by many threads at once.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Room for the buckets of the longest list of bounds below, and one for what is above them all.
const MAX_BUCKETS: usize = 20;

/// Durations: from a memory copy (50 µs) to a stuck disk (10 s), in nanoseconds.
pub const DURATION_BOUNDS_NS: &[u64] = &[
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Work that may take minutes (snapshots), in nanoseconds: 10 ms to 10 min.
pub const LONG_DURATION_BOUNDS_NS: &[u64] = &[
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
    600_000_000_000,
];

/// Sizes of entries: 256 B to 16 MiB.
pub const BYTES_BOUNDS: &[u64] = &[
    256,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    2 << 20,
    4 << 20,
    8 << 20,
    16 << 20,
];

/// How many things went together: 1 to 4096.
pub const COUNT_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

const _: () = {
    assert!(DURATION_BOUNDS_NS.len() < MAX_BUCKETS);
    assert!(LONG_DURATION_BOUNDS_NS.len() < MAX_BUCKETS);
    assert!(BYTES_BOUNDS.len() < MAX_BUCKETS);
    assert!(COUNT_BOUNDS.len() < MAX_BUCKETS);
};

/// Counts observations by size. All atomics are relaxed: a scrape may see an observation's bucket
/// before its part of the sum, and never a count that does not match its buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// Raw units (nanoseconds, bytes) in one unit of the exposition (second, byte).
    scale: f64,
    /// `buckets[i]` counts what is at most `bounds[i]` and above `bounds[i - 1]`.
    buckets: [AtomicU64; MAX_BUCKETS],
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramSample {
    /// Upper bounds in the exposition's unit, rising, and how many observations each bucket holds
    /// (not cumulated). The last bound is [`f64::MAX`], which is written as `+Inf`.
    pub buckets: Vec<(f64, u64)>,
    /// Sum of everything observed, in the exposition's unit.
    pub sum: f64,
}

impl HistogramSample {
    /// How many observations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, n)| n).sum()
    }
}

impl Histogram {
    /// For durations, shown in seconds.
    #[must_use]
    pub fn durations(bounds_ns: &'static [u64]) -> Self {
        Self::new(bounds_ns, 1e9)
    }

    /// For bytes and counts.
    #[must_use]
    pub fn sizes(bounds: &'static [u64]) -> Self {
        Self::new(bounds, 1.0)
    }

    fn new(bounds: &'static [u64], scale: f64) -> Self {
        assert!(bounds.len() < MAX_BUCKETS, "a bucket is left for what is above all bounds");
        assert!(bounds.is_sorted_by(|a, b| a < b), "bounds rise");
        Self { bounds, scale, buckets: Default::default(), sum: AtomicU64::new(0) }
    }

    /// Counts one value, in raw units.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts one duration.
    pub fn observe_duration(&self, elapsed: Duration) {
        self.observe(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What it holds now.
    #[must_use]
    pub fn sample(&self) -> HistogramSample {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / self.scale);
        let counts = self.buckets.iter().map(|n| n.load(Ordering::Relaxed));
        HistogramSample {
            buckets: bounds.chain([f64::MAX]).zip(counts).collect(),
            sum: self.sum.load(Ordering::Relaxed) as f64 / self.scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_the_rest_is_above() {
        let h = Histogram::sizes(&[1, 10]);
        for value in [0, 1, 2, 10, 11, 1_000] {
            h.observe(value);
        }
        let sample = h.sample();
        assert_eq!(sample.buckets, [(1.0, 2), (10.0, 2), (f64::MAX, 2)]);
        assert_eq!((sample.sum, sample.count()), (1024.0, 6));
    }

    #[test]
    fn durations_are_shown_in_seconds() {
        let h = Histogram::durations(&[1_000_000, 1_000_000_000]);
        h.observe_duration(Duration::from_millis(500));
        let sample = h.sample();
        assert_eq!(sample.buckets, [(0.001, 0), (1.0, 1), (f64::MAX, 0)]);
        assert!((sample.sum - 0.5).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let h = Histogram::sizes(COUNT_BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|i| h.observe(i % 100)));
            }
        });
        assert_eq!(h.sample().count(), 40_000);
        assert_eq!(h.sample().sum, 4.0 * 100.0 * 4_950.0);
    }
}
