//! What servers use while they are under load: looked at often, and read off for the time that was
//! measured.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::local::process::Usage;

/// Between two looks. Processor time is counted in hundredths of a second.
pub const EVERY: Duration = Duration::from_millis(50);

/// Looks at a system's usage, in the order of time.
#[derive(Debug, Default)]
pub struct Samples(Vec<(f64, Usage)>);

/// What was used in some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// Seconds of processor time.
    pub cpu_s: f64,
    /// Bytes written to disk.
    pub written_bytes: f64,
    /// Resident memory at the end.
    pub resident_bytes: f64,
}

impl Samples {
    /// Adds a look at `now`.
    pub fn add(&mut self, now: SystemTime, usage: Usage) {
        self.0.push((seconds(now), usage));
    }

    /// What was used from `began` for so many seconds; `None` if nobody looked then.
    #[must_use]
    pub fn used(&self, began_unix_ms: u64, elapsed_s: f64) -> Option<Used> {
        let began = began_unix_ms as f64 / 1e3;
        let (from, to) = (self.at(began)?, self.at(began + elapsed_s)?);
        Some(Used {
            cpu_s: to.cpu_s - from.cpu_s,
            written_bytes: to.written_bytes - from.written_bytes,
            resident_bytes: to.resident_bytes,
        })
    }

    /// On the line between the looks around `time`.
    fn at(&self, time: f64) -> Option<Used> {
        let after = self.0.iter().position(|(at, _)| *at >= time)?;
        let (t1, one) = self.0.get(after.checked_sub(1)?)?;
        let (t2, two) = self.0.get(after)?;
        let share = if t2 > t1 { (time - t1) / (t2 - t1) } else { 1.0 };
        let between = |a: f64, b: f64| a + (b - a) * share;
        Some(Used {
            cpu_s: between(one.cpu.as_secs_f64(), two.cpu.as_secs_f64()),
            written_bytes: between(one.written_bytes as f64, two.written_bytes as f64),
            resident_bytes: between(one.resident_bytes as f64, two.resident_bytes as f64),
        })
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// How busy the whole machine was: processor time of everything, from `/proc/stat`.
#[must_use]
pub fn machine_busy(stat: &str) -> Option<Duration> {
    let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|w| w.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are part of user.
    let busy = [0, 1, 2, 5, 6].iter().map(|i| ticks.get(*i)).sum::<Option<u64>>()?;
    // SAFETY: sysconf only answers.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    Some(Duration::from_millis(busy * 1000 / per_second.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_looks_it_is_a_line() {
        let mut samples = Samples::default();
        for (ms, cpu, written) in [(1000, 10, 0), (1100, 20, 1000), (1200, 20, 3000)] {
            let usage =
                Usage { cpu: Duration::from_secs(cpu), written_bytes: written, resident_bytes: 7 };
            samples.add(UNIX_EPOCH + Duration::from_millis(ms), usage);
        }
        let used = samples.used(1050, 0.1).expect("looked at");
        assert!((used.cpu_s - 5.0).abs() < 1e-6, "{used:?}");
        assert!((used.written_bytes - 1500.0).abs() < 1e-3, "{used:?}");
        assert_eq!(samples.used(900, 0.2), None, "nobody looked before");
        assert_eq!(samples.used(1100, 0.2), None, "nobody looked behind");
    }

    #[test]
    fn everything_but_waiting() {
        let stat = "cpu  100 20 30 9999 77 4 6 50 0 0\ncpu0 1 1 1 1\n";
        assert_eq!(machine_busy(stat), Some(Duration::from_millis(1600)), "at 100 ticks a second");
        assert_eq!(machine_busy("cpu  1 2\n"), None);
    }
}
