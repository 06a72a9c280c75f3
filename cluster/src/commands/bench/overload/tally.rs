//! What became of requests that were offered, and what that comes to.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use quorate_client::{Effect, Error, ErrorKind};

use super::{
    super::{
        memory::Memory,
        report::{Latency, Report},
    },
    report::Overload,
};
use crate::args::OverloadArgs;

/// Different ends of requests whose messages are told; the rest is counted by kind alone.
const REASONS: usize = 12;

/// What became of requests that were offered.
pub struct Tally {
    began: Instant,
    accepted_ns: Histogram<u64>,
    refused_ns: Histogram<u64>,
    refused_with_effect: u64,
    refused_without_hint: u64,
    other: BTreeMap<String, u64>,
    /// What those were told.
    reasons: BTreeMap<String, u64>,
    /// From when a request was due until it was begun: the generator's own part of its latency.
    late_ns: Histogram<u64>,
    /// From when a request was due until its body was handed to HTTP/2.
    handed_ns: Histogram<u64>,
    /// Requests acknowledged in each second.
    seconds: Vec<u64>,
}

/// A time of offering.
pub struct Offered {
    pub tally: Tally,
    pub sent: u64,
    pub unanswered: u64,
    /// The most that were sent and not answered, at looks.
    pub in_flight_max: u64,
    pub elapsed: Duration,
    /// Processors that were busy while it was offered: this program's, and all nodes'.
    pub busy: [f64; 2],
    /// Terms that began meanwhile.
    pub elections: u64,
    pub memory: Vec<Memory>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(began: Instant) -> Self {
        let histogram = || Histogram::new_with_bounds(1000, 3_600_000_000_000, 3);
        Self {
            began,
            accepted_ns: histogram().expect("these bounds are valid"),
            refused_ns: histogram().expect("these bounds are valid"),
            refused_with_effect: 0,
            refused_without_hint: 0,
            other: BTreeMap::new(),
            reasons: BTreeMap::new(),
            late_ns: histogram().expect("these bounds are valid"),
            handed_ns: histogram().expect("these bounds are valid"),
            seconds: Vec::new(),
        }
    }

    /// `late`: until it was begun; `handed`: when its body was handed to HTTP/2.
    pub fn sent(&mut self, due: Instant, late: Duration, handed: Option<Instant>) {
        self.late_ns.saturating_record(nanos(late));
        if let Some(handed) = handed {
            self.handed_ns.saturating_record(nanos(handed.saturating_duration_since(due)));
        }
    }

    /// What it came to.
    pub fn add(&mut self, due: Instant, error: Option<&Error>) {
        let took = nanos(due.elapsed());
        match error {
            None => {
                self.accepted_ns.saturating_record(took);
                let second = self.began.elapsed().as_secs() as usize;
                if self.seconds.len() <= second {
                    self.seconds.resize(second + 1, 0);
                }
                self.seconds[second] += 1;
            }
            Some(error) if error.kind() == ErrorKind::ResourceExhausted => {
                self.refused_ns.saturating_record(took);
                self.refused_with_effect += u64::from(error.effect() != Effect::None);
                self.refused_without_hint += u64::from(error.retry_after().is_zero());
            }
            Some(error) => {
                let kind = error.kind().name().to_owned();
                let reason = format!("{kind}, effect {:?}: {}", error.effect(), error.message());
                *self.other.entry(kind).or_default() += 1;
                if self.reasons.len() < REASONS || self.reasons.contains_key(&reason) {
                    *self.reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Offered {
    /// `peaks`: while it was looked for, before this was offered, and behind it.
    pub fn report(
        self,
        args: &OverloadArgs,
        load: f64,
        callers: u32,
        peaks: [&Report; 3],
    ) -> Overload {
        let [burst, before, after] = peaks.map(|peak| peak.records_per_s);
        let peak = f64::midpoint(before, after);
        let (seconds, batch) = (self.elapsed.as_secs_f64(), f64::from(args.batch));
        // Of whole seconds in which it was offered: answers behind the end are not its goodput.
        let whole = &self.tally.seconds[..self.tally.seconds.len().min(seconds as usize)];
        let in_time = whole.iter().sum::<u64>() as f64;
        let goodput = in_time * batch / (whole.len() as f64).max(1.0);
        let worst = whole.iter().min().copied().unwrap_or_default() as f64 * batch;
        Overload {
            size_bytes: args.size,
            batch: args.batch,
            load_average: load,
            peak_callers: callers,
            burst_records_per_s: burst,
            peak_records_per_s: before,
            peak_after_records_per_s: after,
            peak_p99_us: peaks[1].latency_us.p99,
            elapsed_s: seconds,
            offered_records_per_s: self.sent as f64 * batch / seconds,
            goodput_records_per_s: goodput,
            goodput_of_peak: goodput / peak,
            worst_second_of_peak: worst / peak,
            latency_us: Latency::of(&self.tally.accepted_ns),
            acknowledged: self.tally.accepted_ns.len(),
            refused: self.tally.refused_ns.len(),
            refused_with_effect: self.tally.refused_with_effect,
            refused_without_hint: self.tally.refused_without_hint,
            refused_p99_us: self.tally.refused_ns.value_at_quantile(0.99) as f64 / 1e3,
            other: self.tally.other,
            reasons: self.tally.reasons,
            unanswered: self.unanswered,
            in_flight_max: self.in_flight_max,
            late_us: Latency::of(&self.tally.late_ns),
            handed_us: Latency::of(&self.tally.handed_ns),
            generator_cpus: self.busy[0],
            nodes_cpus: self.busy[1],
            elections: self.elections,
            trims_failed: 0,
            seconds: whole.iter().map(|requests| requests * u64::from(args.batch)).collect(),
            memory: self.memory,
        }
    }
}
