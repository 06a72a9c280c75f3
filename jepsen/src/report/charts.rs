//! The pictures of a run.

use std::collections::BTreeMap;

use quorate_jepsen_core::{
    history::History,
    ids::{Moment, Node},
    op::{Answer, Call, Op},
};

use super::{
    plot::{Plot, Scale},
    rows,
};
use crate::suite::{
    results::line,
    timeline::{self, FaultMark, Mark, NodeSample},
};

/// Dots of one outcome in one picture: more are not told apart and make the file large.
const DOTS: usize = 2500;

/// An outcome's name, which is its colour's, too.
#[must_use]
pub fn outcome(op: &Op) -> &'static str {
    match (&op.call, &op.answer) {
        (Call::Read { .. }, Answer::Read { .. }) => "read",
        (_, Answer::Unknown { .. }) => "unknown",
        (_, Answer::Refused { .. }) => "refused",
        _ => "ok",
    }
}

/// Of the run's clock.
#[must_use]
pub fn seconds(at: Moment) -> f64 {
    at.0 as f64 / 1e9
}

/// What all pictures share.
#[derive(Debug)]
pub struct Charts<'a> {
    history: &'a History,
    pub(super) marks: &'a [Mark],
    /// All faults, in order.
    pub faults: Vec<&'a FaultMark>,
    end_s: f64,
}

impl<'a> Charts<'a> {
    /// Of this run.
    #[must_use]
    pub fn new(history: &'a History, marks: &'a [Mark]) -> Self {
        let faults = timeline::faults(marks).collect();
        let last = history.ops.iter().filter_map(|op| op.returned).max().unwrap_or_default();
        Self { history, marks, faults, end_s: seconds(last).max(1.0) }
    }

    fn latencies(&self) -> impl Iterator<Item = (&'a Op, f64)> {
        let done = |op: &'a Op| Some((op, (op.returned?.0 - op.invoked.0) as f64 / 1e6));
        self.history.ops.iter().filter_map(done)
    }

    /// Every operation, or an even sample of them.
    #[must_use]
    pub fn latency_raw(&self) -> String {
        let mut plot = Plot::new(0.0, self.end_s, 260.0, Scale::Log(0.1, 100_000.0));
        plot.faults(&self.faults);
        let mut by_outcome: BTreeMap<&str, Vec<(&Op, f64)>> = BTreeMap::new();
        for (op, ms) in self.latencies() {
            by_outcome.entry(outcome(op)).or_default().push((op, ms));
        }
        for (name, ops) in by_outcome {
            for (op, ms) in ops.iter().step_by(ops.len().div_ceil(DOTS).max(1)) {
                plot.dot(name, seconds(op.invoked), *ms, &line(op));
            }
        }
        plot.finish()
    }

    /// Median, 99th percentile and maximum of answered operations, by second.
    #[must_use]
    pub fn latency_quantiles(&self) -> String {
        let mut plot = Plot::new(0.0, self.end_s, 220.0, Scale::Log(0.1, 100_000.0));
        plot.faults(&self.faults);
        let mut buckets: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (op, ms) in self.latencies() {
            if outcome(op) == "ok" {
                buckets.entry(op.invoked.0 / 1_000_000_000).or_default().push(ms);
            }
        }
        buckets.values_mut().for_each(|ms| ms.sort_unstable_by(f64::total_cmp));
        for (class, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let at = |second: u64| {
                let ms = buckets.get(&second)?;
                ms.get(((ms.len() - 1) as f64 * share).ceil() as usize).copied()
            };
            plot.line(class, (0..self.end_s as u64 + 1).map(|s| (s as f64 + 0.5, at(s))));
        }
        plot.finish()
    }

    /// Operations a second by outcome.
    #[must_use]
    pub fn rate(&self) -> String {
        const BUCKET_S: f64 = 0.5;
        let buckets = (self.end_s / BUCKET_S) as usize + 1;
        let mut counts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (op, _) in self.latencies() {
            let bucket = (seconds(op.returned.unwrap_or(op.invoked)) / BUCKET_S) as usize;
            let count = counts.entry(outcome(op)).or_insert_with(|| vec![0.0; buckets]);
            count[bucket.min(buckets - 1)] += 1.0 / BUCKET_S;
        }
        let most = counts.values().flatten().copied().fold(1.0, f64::max);
        let mut plot = Plot::new(0.0, self.end_s, 200.0, Scale::Linear(most));
        plot.faults(&self.faults);
        for (name, counts) in counts {
            let at = |bucket: usize| (bucket as f64 + 0.5) * BUCKET_S;
            let points = counts.iter().enumerate().map(|(n, count)| (at(n), Some(*count)));
            plot.line(name, points);
        }
        plot.finish()
    }

    fn samples(&self) -> impl Iterator<Item = (Moment, &'a [NodeSample])> {
        self.marks.iter().filter_map(|mark| match mark {
            Mark::Sample { at, nodes } => Some((*at, nodes.as_slice())),
            _ => None,
        })
    }

    /// Every node that ever said something.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let mut nodes: Vec<_> =
            self.samples().flat_map(|(_, nodes)| nodes.iter().map(|sample| sample.node)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Who led, in which term, and who answered at all.
    #[must_use]
    pub fn leaders(&self) -> String {
        let nodes = self.nodes();
        let height = 42.0 + 26.0 * nodes.len() as f64;
        let mut plot = Plot::new(0.0, self.end_s, height, Scale::Rows(nodes.len()));
        plot.faults(&self.faults);
        rows::draw(&mut plot, self.marks, &nodes);
        plot.finish()
    }

    /// What age each follower could prove.
    #[must_use]
    pub fn ages(&self) -> String {
        let mut plot = Plot::new(0.0, self.end_s, 180.0, Scale::Log(0.1, 100_000.0));
        plot.faults(&self.faults);
        for (number, node) in self.nodes().iter().enumerate() {
            let points = self.samples().map(|(at, seen)| {
                let sample = seen.iter().find(|sample| sample.node == *node);
                (seconds(at), sample.and_then(|sample| sample.age_ms).map(|ms| ms as f64))
            });
            plot.line(&node_class(number), points.collect::<Vec<_>>());
        }
        plot.finish()
    }
    /// The lines of [`Charts::ages`]: class and name of each.
    #[must_use]
    pub fn age_lines(&self) -> Vec<(String, String)> {
        let nodes = self.nodes();
        nodes.iter().enumerate().map(|(at, node)| (node_class(at), format!("n{node}"))).collect()
    }
}

/// The class of a node's line; more nodes than there are colours share them.
fn node_class(number: usize) -> String {
    const COLOURS: usize = 6;
    format!("node{}", number % COLOURS)
}
