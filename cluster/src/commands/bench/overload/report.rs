//! What overload came to, for people and for programs.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::super::{memory::Memory, report::Latency};
use crate::output::units;

/// The result, with the field names of `--output json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Overload {
    /// Bytes of a record's value.
    pub size_bytes: u64,
    /// Records in each request.
    pub batch: u32,
    /// The machine's load average before.
    pub load_average: f64,
    /// Callers at the peak.
    pub peak_callers: u32,
    /// Records a second for some seconds, when the peak was looked for.
    #[serde(default)]
    pub burst_records_per_s: f64,
    /// Records a second at the peak, for as long as more is offered later.
    pub peak_records_per_s: f64,
    /// The same behind the overload.
    #[serde(default)]
    pub peak_after_records_per_s: f64,
    /// Latency of a request at the peak, 99 of 100.
    pub peak_p99_us: f64,
    /// Seconds offered.
    pub elapsed_s: f64,
    /// Records a second that were offered.
    pub offered_records_per_s: f64,
    /// Records a second that were acknowledged.
    pub goodput_records_per_s: f64,
    /// That, of the peak: of the mean of before and behind.
    pub goodput_of_peak: f64,
    /// The same in the worst of the seconds.
    pub worst_second_of_peak: f64,
    /// Latency of an acknowledged request, from when it was due.
    pub latency_us: Latency,
    /// Requests that were acknowledged.
    pub acknowledged: u64,
    /// Requests refused with RESOURCE_EXHAUSTED.
    pub refused: u64,
    /// Those of them whose effect is not NONE; must be 0.
    pub refused_with_effect: u64,
    /// Those of them without a retry hint; must be 0.
    pub refused_without_hint: u64,
    /// Time until a refusal, 99 of 100.
    pub refused_p99_us: f64,
    /// Requests that ended in any other way, by kind.
    pub other: BTreeMap<String, u64>,
    /// What those were told, as far as there was room.
    #[serde(default)]
    pub reasons: BTreeMap<String, u64>,
    /// Requests without an answer at the end.
    pub unanswered: u64,
    /// The most requests that were sent and not answered.
    #[serde(default)]
    pub in_flight_max: u64,
    /// From when a request was due until it was begun: where this is not small, the generator is
    /// what was measured.
    #[serde(default)]
    pub late_us: Latency,
    /// From when a request was due until its body was handed to HTTP/2: the rest of a latency is
    /// the connection's and the node's.
    #[serde(default)]
    pub handed_us: Latency,
    /// Processors that the generator kept busy while it offered.
    #[serde(default)]
    pub generator_cpus: f64,
    /// Those that the nodes kept busy.
    #[serde(default)]
    pub nodes_cpus: f64,
    /// Terms that began while it was offered.
    #[serde(default)]
    pub elections: u64,
    /// Trims of the log that failed, from the first look for the peak on.
    #[serde(default)]
    pub trims_failed: u64,
    /// Records acknowledged in each second.
    #[serde(default)]
    pub seconds: Vec<u64>,
    /// Memory of each node while it was offered.
    pub memory: Vec<Memory>,
}

impl Overload {
    /// For people.
    pub fn text(&self) -> String {
        let rate = |n: f64| units::grouped(n.round() as u64);
        let time = |us: f64| units::duration(Duration::from_secs_f64(us / 1e6));
        let l = &self.latency_us;
        let mut text = format!(
            "{} records of {} a request, load average {:.1}\n\
             {:>12} records/s at the peak ({} callers, {} p99), {} behind the overload; {} for \
             some seconds\n\
             {:>12} records/s offered for {}\n\
             {:>12} records/s acknowledged: {:.0} % of the peak, {:.0} % in the worst second\n\
             {:>12} p50   {} p90   {} p99   {} max\n\
             {:>12} requests refused within {} (p99): RESOURCE_EXHAUSTED; {} with an effect, {} \
             without a retry hint\n",
            self.batch,
            units::bytes(self.size_bytes),
            self.load_average,
            rate(self.peak_records_per_s),
            self.peak_callers,
            time(self.peak_p99_us),
            rate(self.peak_after_records_per_s),
            rate(self.burst_records_per_s),
            rate(self.offered_records_per_s),
            units::duration(Duration::from_secs_f64(self.elapsed_s)),
            rate(self.goodput_records_per_s),
            100.0 * self.goodput_of_peak,
            100.0 * self.worst_second_of_peak,
            time(l.p50),
            time(l.p90),
            time(l.p99),
            time(l.max),
            units::grouped(self.refused),
            time(self.refused_p99_us),
            self.refused_with_effect,
            self.refused_without_hint,
        );
        for (kind, count) in &self.other {
            text += &format!("{:>12} requests ended with {kind}\n", units::grouped(*count));
        }
        for (reason, count) in &self.reasons {
            text += &format!("{:>12}   {reason}\n", units::grouped(*count));
        }
        text += &format!(
            "{:>12} elections; processors busy: generator {:.2}, nodes {:.2}\n\
             {:>12} p99 from due to begun, {} to handed to HTTP/2; at most {} requests in flight\n",
            self.elections,
            self.generator_cpus,
            self.nodes_cpus,
            time(self.late_us.p99),
            time(self.handed_us.p99),
            units::grouped(self.in_flight_max),
        );
        if self.unanswered > 0 {
            text += &format!("{:>12} without an answer\n", units::grouped(self.unanswered));
        }
        text + &Memory::table(&self.memory)
    }
}
