//! What a measurement comes to, for people and for programs.

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::load::Measured;
use crate::{
    exit::Failure,
    output::{Output, units},
};

/// The settings that a figure is worth nothing without.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Settings {
    /// What was sent: "append (sdk)", "etcd put", ...
    pub workload: String,
    /// To whom.
    pub endpoints: Vec<String>,
    /// Clients, each with one request (or as many as `in_flight`) at a time.
    pub clients: u32,
    /// Connections they share.
    pub connections: u32,
    /// Requests each client keeps unanswered.
    pub in_flight: u32,
    /// Records per request.
    pub batch: u32,
    /// Bytes of a record's value.
    pub size_bytes: u64,
    /// Logs (or keys) the load is spread over.
    pub spread: u64,
    /// Seconds sent before measuring.
    pub warm_up_s: f64,
}

impl Settings {
    fn line(&self) -> String {
        let plural = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut parts = vec![
            plural(self.clients.into(), "client"),
            plural(self.connections.into(), "connection"),
            plural(self.batch.into(), "record") + " a request",
            format!("{} values", units::bytes(self.size_bytes)),
        ];
        if self.in_flight > 1 {
            parts.push(format!("{} in flight each", self.in_flight));
        }
        parts.push(format!("{} s warm-up", self.warm_up_s));
        parts.push(self.endpoints.join(" "));
        format!("{}: {}", self.workload, parts.join(", "))
    }
}

/// The result, with the field names of `--output json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// What was measured.
    pub settings: Settings,
    /// When measuring began, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// Seconds measured.
    pub elapsed_s: f64,
    /// Requests answered.
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Why the first one failed.
    pub first_failure: Option<String>,
    /// Requests a second.
    pub requests_per_s: f64,
    /// Records a second.
    pub records_per_s: f64,
    /// Megabytes (10^6) of values a second.
    pub mb_per_s: f64,
    /// Latency of a request.
    pub latency_us: Latency,
}

/// Percentiles in microseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Latency {
    /// Of a histogram of nanoseconds.
    #[must_use]
    pub fn of(h: &Histogram<u64>) -> Self {
        let us = |q: f64| h.value_at_quantile(q) as f64 / 1e3;
        Self {
            mean: h.mean() / 1e3,
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            max: h.max() as f64 / 1e3,
        }
    }
}

impl Report {
    /// Sums up.
    #[must_use]
    pub fn new(settings: Settings, measured: &Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        let rate = |n: f64| if seconds > 0.0 { n / seconds } else { 0.0 };
        let h = &measured.latency_ns;
        Self {
            settings,
            began_unix_ms: measured.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
                as u64,
            elapsed_s: seconds,
            requests: h.len(),
            records: measured.work.records,
            failures: measured.failures,
            first_failure: measured.first_failure.clone(),
            requests_per_s: rate(h.len() as f64),
            records_per_s: rate(measured.work.records as f64),
            mb_per_s: rate(measured.work.bytes as f64) / 1e6,
            latency_us: Latency::of(h),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// When stdout is gone, or when nothing at all was answered.
    pub fn write(&self, output: Output) -> Result<(), Failure> {
        if output.is_json() {
            output.json(self)?;
        } else {
            output.print(&self.text())?;
        }
        if self.requests == 0 {
            let why = self.first_failure.as_deref().unwrap_or("no request was answered in time");
            return Err(Failure::refused(format!("nothing was measured: {why}")));
        }
        Ok(())
    }

    fn text(&self) -> String {
        let time = |us: f64| units::duration(Duration::from_secs_f64(us / 1e6));
        let l = &self.latency_us;
        let mut text = format!(
            "{}\n{:>12} records/s   {:.1} MB/s   ({} records in {})\n\
             {:>12} p50   {} p90   {} p99   {} p99.9   {} max\n",
            self.settings.line(),
            units::grouped(self.records_per_s.round() as u64),
            self.mb_per_s,
            units::grouped(self.records),
            units::duration(Duration::from_secs_f64(self.elapsed_s)),
            time(l.p50),
            time(l.p90),
            time(l.p99),
            time(l.p999),
            time(l.max),
        );
        if let Some(first) = &self.first_failure {
            let failures = units::grouped(self.failures);
            let plural = if self.failures == 1 { "" } else { "s" };
            text.push_str(&format!("{failures:>12} request{plural} failed, the first: {first}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::load::Work;

    #[test]
    fn the_text() {
        let mut latency_ns = Histogram::new_with_bounds(100, 3_600_000_000_000, 3).unwrap();
        (1..=1000).for_each(|i| latency_ns.record(i * 1_000_000).unwrap());
        let measured = Measured {
            latency_ns,
            work: Work { records: 64_000, bytes: 64_000 * 128 },
            elapsed: Duration::from_secs(10),
            began: UNIX_EPOCH,
            failures: 1,
            first_failure: Some("busy".into()),
        };
        let settings = Settings {
            workload: "append (stream)".into(),
            endpoints: vec!["http://a:1".into()],
            clients: 16,
            connections: 1,
            in_flight: 4,
            batch: 64,
            size_bytes: 128,
            spread: 1,
            warm_up_s: 2.0,
        };
        let want = "\
append (stream): 16 clients, 1 connection, 64 records a request, 128 B values, 4 in flight each, 2 s warm-up, http://a:1
       6,400 records/s   0.8 MB/s   (64,000 records in 10.0 s)
      500 ms p50   900 ms p90   990 ms p99   999 ms p99.9   1.00 s max
           1 request failed, the first: busy
";
        assert_eq!(Report::new(settings, &measured).text(), want);
    }
}
