//! From single runs to what is published: medians, and how far the runs lie apart.

use serde::Serialize;

use super::{
    super::{report::Report, spread::Spread},
    sample::Used,
};

/// One run, with what the servers used for it.
#[derive(Clone, Debug, Serialize)]
pub struct OneRun {
    /// Which round, from 1.
    pub round: u32,
    /// What the load generator saw.
    pub report: Report,
    /// Processor time of all servers, in microseconds a record.
    pub server_cpu_us_per_record: Option<f64>,
    /// Bytes that all servers wrote, to each byte of values.
    pub written_per_byte: Option<f64>,
    /// Memory of all servers at the end, in MiB.
    pub server_memory_mib: Option<f64>,
    /// Processors that were kept busy by others than the servers and the load generator.
    pub others_busy_cores: Option<f64>,
}

impl OneRun {
    /// Puts a run together.
    #[must_use]
    pub fn new(round: u32, report: Report, used: Option<Used>, others: Option<f64>) -> Self {
        let per = |total: f64, n: f64| (n > 0.0).then_some(total / n);
        let bytes = report.mb_per_s * 1e6 * report.elapsed_s;
        Self {
            round,
            server_cpu_us_per_record: used.and_then(|u| per(u.cpu_s * 1e6, report.records as f64)),
            written_per_byte: used.and_then(|u| per(u.written_bytes, bytes)),
            server_memory_mib: used.map(|u| u.resident_bytes / f64::from(1 << 20)),
            others_busy_cores: others,
            report,
        }
    }
}

/// All runs of one measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Records a second.
    pub records_per_s: Spread,
    /// Megabytes of values a second.
    pub mb_per_s: Spread,
    /// Latency of a request in microseconds: the half of them, of a run each.
    pub p50_us: Spread,
    /// As above, 99 of 100.
    pub p99_us: Spread,
    /// As above, 999 of 1000.
    pub p999_us: Spread,
    /// Processor time of all servers.
    pub server_cpu_us_per_record: Option<Spread>,
    /// Bytes written by all servers to each byte of values.
    pub written_per_byte: Option<Spread>,
    /// Requests that failed, of all runs.
    pub failures: u64,
}

impl Summary {
    /// Of these runs; `None` of none.
    #[must_use]
    pub fn of(runs: &[OneRun]) -> Option<Self> {
        let of = |f: fn(&OneRun) -> f64| Spread::of(runs.iter().map(f));
        let some = |f: fn(&OneRun) -> Option<f64>| Spread::of(runs.iter().filter_map(f));
        Some(Self {
            records_per_s: of(|r| r.report.records_per_s)?,
            mb_per_s: of(|r| r.report.mb_per_s)?,
            p50_us: of(|r| r.report.latency_us.p50)?,
            p99_us: of(|r| r.report.latency_us.p99)?,
            p999_us: of(|r| r.report.latency_us.p999)?,
            server_cpu_us_per_record: some(|r| r.server_cpu_us_per_record),
            written_per_byte: some(|r| r.written_per_byte),
            failures: runs.iter().map(|r| r.report.failures).sum(),
        })
    }
}
