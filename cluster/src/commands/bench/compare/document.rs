//! What a comparison comes to, as it is kept: with everything that its figures are worth nothing
//! without.

use serde::Serialize;

use super::{
    super::{failover::Failover, overload::Overload, spread::Spread, systems::Running},
    loads::Row,
    summary::{OneRun, Summary},
};

/// The whole comparison, with the field names of `compare.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// When it began (UTC).
    pub date: String,
    /// What was typed.
    pub command: String,
    /// Where.
    pub machine: Machine,
    /// How often everything was measured.
    pub rounds: u32,
    /// Seconds of each measurement.
    pub duration_s: f64,
    /// Seconds of load before each.
    pub warm_up_s: f64,
    /// The machine's load average over a minute before anything was started.
    pub load_average_before: f64,
    /// Processors kept busy by others while it was measured.
    pub others_busy_cores: Option<Spread>,
    /// Who was measured.
    pub systems: Vec<System>,
    /// What was measured.
    pub rows: Vec<RowResult>,
    /// What killing the leader of each did.
    pub failover: Vec<Failover>,
    /// What Quorate does when offered more than it can take.
    pub overload: Option<Overload>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Its processor's name.
    pub processor: String,
    /// How many of them this process may use.
    pub cores: usize,
    /// Its memory in GiB.
    pub memory_gib: f64,
    /// Its operating system's kernel.
    pub kernel: String,
    /// The file system that all data is on.
    pub file_system: String,
}

/// One system in its settings.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "as in `Running`")]
pub struct System {
    pub name: String,
    pub version: String,
    pub settings: String,
    pub acknowledges: String,
}

impl From<&Running> for System {
    fn from(running: &Running) -> Self {
        Self {
            name: running.name.into(),
            version: running.version.clone(),
            settings: running.settings.into(),
            acknowledges: running.acknowledges.into(),
        }
    }
}

/// One row's runs.
#[derive(Clone, Debug, Serialize)]
pub struct RowResult {
    /// The group it belongs to.
    pub group: String,
    /// What was measured.
    pub title: String,
    /// Bytes of a value.
    pub size: u32,
    /// Requests unanswered at a time.
    pub callers: u32,
    /// Who did how well.
    pub entries: Vec<Entry>,
}

impl RowResult {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(row: &Row) -> Self {
        Self {
            group: row.group.into(),
            title: row.title.clone(),
            size: row.size,
            callers: row.callers,
            entries: Vec::new(),
        }
    }
}

/// One system's runs in a row.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The system.
    pub system: String,
    /// In which way, if there are several.
    pub variant: String,
    /// The command of the last run.
    pub command: String,
    /// The runs summed up; absent if none went well.
    pub summary: Option<Summary>,
    /// Why a run did not go well, if one didn't.
    pub trouble: Option<String>,
    /// The runs.
    pub runs: Vec<OneRun>,
}

impl Entry {
    /// What to call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self.variant.as_str() {
            "" => self.system.clone(),
            variant => format!("{}, {variant}", self.system),
        }
    }
}

impl Machine {
    /// This one; `data` is where the data goes.
    #[must_use]
    pub fn this(data: &std::path::Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|l| l.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let unknown = || "unknown".to_owned();
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib = memory.and_then(|m| m.split(' ').next()?.parse::<f64>().ok()).unwrap_or_default();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kib / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/self/mounts"), data).unwrap_or_else(unknown),
        }
    }
}

/// The type of the file system with the longest mount point above `path`.
fn file_system(mounts: &str, path: &std::path::Path) -> Option<String> {
    let mounts = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    let above = mounts.filter(|m| m.len() > 2 && path.starts_with(m[1]));
    above.max_by_key(|m| m[1].len()).map(|m| m[2].to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use hdrhistogram::Histogram;

    use super::*;
    use crate::commands::bench::{
        compare::sample::Used,
        load::{Measured, Work},
        report::{Report, Settings},
    };

    fn entry(system: &str, variant: &str, rates: &[u64], failures: u64) -> Entry {
        let run = |(i, rate): (usize, &u64)| {
            let mut latency_ns = Histogram::new_with_bounds(100, 3_600_000_000_000, 3).unwrap();
            for (us, count) in [(250, 900), (1250, 95), (10_000, 5)] {
                latency_ns.record_n(us * 1000, count).unwrap();
            }
            let measured = Measured {
                latency_ns,
                work: Work { records: *rate, bytes: rate * 128 },
                elapsed: Duration::from_secs(1),
                began: UNIX_EPOCH,
                failures,
                first_failure: (failures > 0).then(|| "busy".into()),
            };
            let settings = Settings {
                workload: "append".into(),
                endpoints: vec![],
                clients: 64,
                connections: 1,
                in_flight: 1,
                batch: 1,
                size_bytes: 128,
                spread: 1,
                warm_up_s: 1.0,
            };
            let used = Used {
                cpu_s: *rate as f64 * 12.5e-6,
                written_bytes: *rate as f64 * 128.0 * 3.2,
                resident_bytes: 0.0,
            };
            OneRun::new(i as u32 + 1, Report::new(settings, &measured), Some(used), Some(1.5))
        };
        let runs: Vec<OneRun> = rates.iter().enumerate().map(run).collect();
        Entry {
            system: system.into(),
            variant: variant.into(),
            command: "quorate bench append".into(),
            summary: Summary::of(&runs),
            trouble: rates.is_empty().then(|| "it would not".into()),
            runs,
        }
    }

    /// A small one, for the tests of what is made of it.
    pub fn comparison() -> Comparison {
        let system = |name: &str, version: &str| System {
            name: name.into(),
            version: version.into(),
            settings: "defaults".into(),
            acknowledges: "synced to disk by a majority".into(),
        };
        let row = |title: &str, group: &str, entries| RowResult {
            group: group.into(),
            title: title.into(),
            size: 128,
            callers: 64,
            entries,
        };
        let entries = vec![
            entry("Quorate", "stream", &[20_000, 40_000], 0),
            entry("etcd", "", &[10_000], 3),
            entry("Redis", "", &[], 0),
        ];
        Comparison {
            date: "2026-11-21 <all> & one".into(),
            command: "cluster/compare.sh --rounds 2".into(),
            machine: Machine {
                processor: "P".into(),
                cores: 4,
                memory_gib: 24.0,
                kernel: "6".into(),
                file_system: "ext4".into(),
            },
            rounds: 2,
            duration_s: 1.0,
            warm_up_s: 1.0,
            load_average_before: 0.5,
            others_busy_cores: Spread::of([1.5]),
            systems: vec![system("Quorate", "0.1.0"), system("etcd", "3.7.3")],
            rows: vec![row("append, 64 at a time, 128 B", "append", entries)],
            failover: Vec::new(),
            overload: None,
        }
    }

    /// As the load generator's own process prints it and this one takes it.
    #[test]
    fn a_report_can_be_read_again() {
        let report = &comparison().rows[0].entries[0].runs[0].report;
        let again: Report = serde_json::from_value(serde_json::json!(report)).expect("the same");
        assert_eq!((again.records, again.elapsed_s), (report.records, report.elapsed_s));
        assert_eq!(again.latency_us.p99, report.latency_us.p99);
    }

    #[test]
    fn the_nearest_mount() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/b /run/x xfs rw 0 0\n";
        let of = |path: &str| file_system(mounts, std::path::Path::new(path));
        assert_eq!(of("/home").as_deref(), Some("ext4"));
        assert_eq!(of("/run/y").as_deref(), Some("tmpfs"));
        assert_eq!(of("/run/x/y").as_deref(), Some("xfs"));
        assert_eq!(of("/running").as_deref(), Some("ext4"));
    }
}
