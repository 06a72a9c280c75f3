//! `quorate bench compare`: the same loads against several systems on this machine, in turns.
//!
//! [`systems`] starts them, [`loads`] says what is measured, [`sample`] watches the servers,
//! [`summary`] finds the middle, [`document`] is what is kept, [`markdown`] and [`chart`] show it.
//! Every run is this same program again with a command line of its own: a fresh process each, and
//! one that anybody can repeat alone.

mod chart;
mod document;
mod loads;
mod markdown;
mod outages;
mod sample;
mod summary;

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};

use self::{
    document::{Comparison, Entry, Machine, RowResult},
    loads::{Bench, Row, Target},
    sample::{Samples, machine_busy},
    summary::{OneRun, Summary},
};
use super::{
    here::{Data, beside_this, load_average},
    report::Report,
    spread::Spread,
    systems::{self, Id, Program, Running, quorate::Shape},
};
use crate::{
    args::CompareArgs,
    exit::Failure,
    output::{Output, json_text, units},
};

/// Between two runs: what the one before left to be done (flushes, compactions) should not be
/// measured with the next.
const REST: Duration = Duration::from_millis(500);

/// Groups of the cluster that has several: one for each core of a small machine.
const GROUPS: u32 = 4;

/// The name of the disk in tables.
const DISK: &str = "the disk alone (append + fdatasync)";

/// Compares.
///
/// # Errors
/// No system can be started, or nothing can be written.
pub async fn run(args: &CompareArgs, output: Output) -> Result<(), Failure> {
    let rows = chosen(&args.only)?;
    let data = Data::make(&args.data, "compare")?;
    let load_average_before = load_average();
    let (began, date) = (std::time::Instant::now(), now());
    let mut comparison = Comparison {
        date,
        command: command(),
        machine: Machine::this(data.path()),
        rounds: args.rounds,
        duration_s: args.duration.as_secs_f64(),
        warm_up_s: args.warm_up.as_secs_f64(),
        load_average_before,
        others_busy_cores: None,
        systems: Vec::new(),
        rows: Vec::new(),
        failover: Vec::new(),
        overload: None,
    };
    for row in &rows {
        // Everybody begins each row with nothing: what a row leaves behind is not the next one's
        // burden, and the disk need not hold all of it.
        let of_row = Data::make(data.path(), "row")?;
        let mut systems = start(args, row, of_row.path()).await?;
        let result = measure(row, args, &mut systems, of_row.path(), output).await?;
        for system in &systems {
            if !comparison.systems.iter().any(|known| known.name == system.name) {
                comparison.systems.push(system.into());
            }
        }
        comparison.rows.push(result);
        let entries = comparison.rows.iter().flat_map(|r| &r.entries);
        comparison.others_busy_cores =
            Spread::of(entries.flat_map(|e| &e.runs).filter_map(|r| r.others_busy_cores));
        // After each row: an interruption should not cost what is there.
        write(&comparison, data.path(), &args.out)?;
    }
    if wants(&args.only, FAILOVER) {
        comparison.failover = outages::failover(args, data.path(), output).await?;
        write(&comparison, data.path(), &args.out)?;
    }
    if wants(&args.only, OVERLOAD) {
        comparison.overload = Some(outages::overload(args, data.path(), output).await?);
        write(&comparison, data.path(), &args.out)?;
    }
    output.note(&format!("done in {}", units::duration(began.elapsed())));
    match output.is_json() {
        true => output.print(&(without(json_text(&comparison, true), data.path()) + "\n")),
        false => output.print(&without(markdown::page(&comparison), data.path())),
    }
}

/// What is no row: measured with nodes of its own.
const FAILOVER: &str = "failover";
const OVERLOAD: &str = "overload";

fn wants(only: &[String], group: &str) -> bool {
    only.is_empty() || only.iter().any(|name| name == group)
}

fn chosen(only: &[String]) -> Result<Vec<Row>, Failure> {
    let all = loads::rows();
    let mut groups: Vec<&str> = all.iter().map(|row| row.group).collect();
    groups.extend([FAILOVER, OVERLOAD]);
    if let Some(unknown) = only.iter().find(|name| !groups.contains(&name.as_str())) {
        groups.dedup();
        let what = format!("--only {unknown}: there is {}", groups.join(", "));
        return Err(Failure::usage(what));
    }
    Ok(all.into_iter().filter(|row| wants(only, row.group)).collect())
}

/// The systems that a row is about, as far as their programs are there.
async fn start(args: &CompareArgs, row: &Row, data: &Path) -> Result<Vec<Running>, Failure> {
    let node = match &args.node {
        Some(path) => path.clone(),
        None => beside_this("quorate-node")?,
    };
    let program =
        |name, path, dir: &str| Program { name, path, dir: data.join(dir), cpus: Vec::new() };
    let wanted = |id| row.benches.iter().any(|bench| bench.target == Target::System(id));
    let mut systems = Vec::new();
    if wanted(Id::Quorate) {
        let one = program("Quorate", &node, "quorate");
        systems.push(systems::quorate::start(&one, &Shape::groups(1)).await?.0);
    }
    if wanted(Id::QuorateGroups) {
        let several = program("Quorate, four groups", &node, "quorate-groups");
        systems.push(systems::quorate::start(&several, &Shape::groups(GROUPS)).await?.0);
    }
    if let (true, Some(etcd)) = (wanted(Id::Etcd), &args.etcd) {
        systems.push(systems::etcd::start(&program("etcd", etcd, "etcd")).await?);
    }
    if let (true, Some(nats)) = (wanted(Id::NatsAlways), &args.nats) {
        let always = program("NATS, sync always", nats, "nats-always");
        systems.push(systems::nats::start(&always, true).await?);
    }
    if let (true, Some(nats)) = (wanted(Id::NatsDefault), &args.nats) {
        let default = program("NATS, default", nats, "nats-default");
        systems.push(systems::nats::start(&default, false).await?);
    }
    if let (true, Some(redis)) = (wanted(Id::Redis), &args.redis) {
        systems.push(systems::redis::start(&program("Redis", redis, "redis")).await?);
    }
    Ok(systems)
}

/// A row, round after round.
async fn measure(
    row: &Row,
    args: &CompareArgs,
    systems: &mut [Running],
    data: &Path,
    output: Output,
) -> Result<RowResult, Failure> {
    output.note(&row.title);
    let mut result = RowResult::new(row);
    for bench in &row.benches {
        let system = match bench.target {
            Target::Disk => DISK,
            Target::System(id) => match systems.iter().find(|s| s.id == id) {
                Some(system) => system.name,
                None => continue,
            },
        };
        let (system, variant) = (system.to_owned(), bench.variant.to_owned());
        let (command, runs) = (String::new(), Vec::new());
        let entry = Entry { system, variant, command, summary: None, trouble: None, runs };
        result.entries.push(entry);
    }
    let has = |bench: &&Bench| match bench.target {
        Target::Disk => true,
        Target::System(id) => systems.iter().any(|s| s.id == id),
    };
    let benches: Vec<Bench> = row.benches.iter().filter(has).cloned().collect();
    for round in 1..=args.rounds {
        for (bench, entry) in benches.iter().zip(&mut result.entries) {
            let system = systems.iter_mut().find(|s| bench.target == Target::System(s.id));
            match one_run(round, bench, args, system, data, entry).await {
                Ok(run) => entry.runs.push(run),
                Err(failure) => {
                    output.note(&format!("  {}: {}", entry.name(), failure.what));
                    entry.trouble.get_or_insert(failure.what);
                }
            }
            tokio::time::sleep(REST).await;
        }
    }
    for entry in &mut result.entries {
        entry.summary = Summary::of(&entry.runs);
        if let Some(summary) = &entry.summary {
            let rate = units::grouped(summary.records_per_s.median.round() as u64);
            let (p50, p99) = (summary.p50_us.median, summary.p99_us.median);
            let times = format!("{} p50, {} p99", markdown::time(p50), markdown::time(p99));
            output.note(&format!("  {:<44}{rate:>10} records/s   {times}", entry.name()));
        }
    }
    Ok(result)
}

/// One run: this program again, with an eye on the servers.
async fn one_run(
    round: u32,
    bench: &Bench,
    args: &CompareArgs,
    mut system: Option<&mut Running>,
    data: &Path,
    entry: &mut Entry,
) -> Result<OneRun, Failure> {
    if let Some(failure) = system.as_mut().and_then(|s| s.ended()) {
        return Err(failure);
    }
    let mut words = bench.command(system.as_deref(), data);
    let ms = |time: Duration| format!("{}ms", time.as_millis());
    words.extend(["--duration".into(), ms(args.duration), "--warm-up".into(), ms(args.warm_up)]);
    entry.command = format!("quorate {}", words.join(" "));
    words.extend(["--output".into(), "json".into()]);
    let exe = std::env::current_exe().map_err(|e| Failure::refused(e.to_string()))?;
    let mut child = tokio::process::Command::new(exe);
    child.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let before = Busy::now(system.as_deref());
    let began = std::time::Instant::now();
    let output = child.output();
    tokio::pin!(output);
    let mut samples = Samples::default();
    let mut look = tokio::time::interval(sample::EVERY);
    let ended = loop {
        tokio::select! {
            ended = &mut output => break ended,
            _ = look.tick() => watch(&mut samples, system.as_deref()),
        }
    };
    watch(&mut samples, system.as_deref());
    let ended = ended.map_err(|e| Failure::refused(format!("the load generator: {e}")))?;
    if !ended.status.success() {
        return Err(refusal(&ended.stderr));
    }
    let report: Report = serde_json::from_slice(&ended.stdout)
        .map_err(|e| Failure::refused(format!("the load generator's report: {e}")))?;
    let used = samples.used(report.began_unix_ms, report.elapsed_s);
    let others = Busy::now(system.as_deref()).others_since(&before, began.elapsed());
    Ok(OneRun::new(round, report, used, others))
}

fn watch(samples: &mut Samples, system: Option<&Running>) {
    // A server that has ended makes the run fail; that is where it is noticed.
    if let Some(Ok(usage)) = system.map(Running::usage) {
        samples.add(SystemTime::now(), usage);
    }
}

/// The load generator's own words, without the JSON around them.
fn refusal(stderr: &[u8]) -> Failure {
    let document: Option<serde_json::Value> = serde_json::from_slice(stderr).ok();
    let message = document.as_ref().and_then(|d| d["error"]["message"].as_str());
    let text = String::from_utf8_lossy(stderr);
    Failure::refused(message.unwrap_or(text.trim()))
}

/// Processor time since the machine's start.
struct Busy {
    machine: Option<Duration>,
    servers: Duration,
    load_generator: Duration,
}

impl Busy {
    fn now(system: Option<&Running>) -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let servers = system.and_then(|s| s.usage().ok()).unwrap_or_default().cpu;
        Self { machine: machine_busy(&stat), servers, load_generator: children() }
    }

    /// Processors that others kept busy, in the mean.
    fn others_since(&self, before: &Self, elapsed: Duration) -> Option<f64> {
        let all = self.machine?.saturating_sub(before.machine?);
        let ours = self.servers.saturating_sub(before.servers)
            + self.load_generator.saturating_sub(before.load_generator);
        Some(all.saturating_sub(ours).as_secs_f64() / elapsed.as_secs_f64().max(1e-3))
    }
}

/// Processor time of the children of this process that have ended.
fn children() -> Duration {
    // SAFETY: getrusage fills in the struct, for which zeroes are valid.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// What was typed, without the folders that only this machine has.
fn command() -> String {
    let typed = match std::env::var("QUORATE_COMPARE_COMMAND") {
        Ok(front) => front,
        Err(_) => std::iter::once("quorate".to_owned())
            .chain(std::env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" "),
    };
    typed.split(' ').map(portable).collect::<Vec<_>>().join(" ")
}

/// A word of a command line; of a path from the root, its end.
fn portable(word: &str) -> String {
    let (option, value) = match word.split_once('=') {
        Some((option, value)) => (format!("{option}="), value),
        None => (String::new(), word),
    };
    match value.strip_prefix('/') {
        Some(path) => option + path.rsplit('/').next().unwrap_or_default(),
        None => word.to_owned(),
    }
}

/// Text without the folder that the servers had their data in.
fn without(text: String, data: &Path) -> String {
    text.replace(&*data.to_string_lossy(), "DATA")
}

fn write(comparison: &Comparison, data: &Path, out: &Path) -> Result<(), Failure> {
    let files = [
        ("compare.json", json_text(comparison, false) + "\n"),
        ("compare.md", markdown::page(comparison)),
        ("compare.svg", chart::svg(comparison)),
    ];
    std::fs::create_dir_all(out)
        .and_then(|()| {
            let mut files = files.into_iter();
            files.try_for_each(|(name, text)| std::fs::write(out.join(name), without(text, data)))
        })
        .map_err(|e| Failure::refused(format!("{}: {e}", out.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folders_of_this_machine() {
        let table = [
            ("--etcd", "--etcd"),
            ("/usr/bin/etcd", "etcd"),
            ("--out=/home/me/figures", "--out=figures"),
            ("docs/performance", "docs/performance"),
            ("--set=a=b", "--set=a=b"),
        ];
        for (word, want) in table {
            assert_eq!(portable(word), want);
        }
        let text = without(
            "quorate bench disk --dir /run/x/compare-7/row-7".into(),
            Path::new("/run/x/compare-7"),
        );
        assert_eq!(text, "quorate bench disk --dir DATA/row-7");
    }

    #[test]
    fn only_what_there_is() {
        let only = |name: &str| chosen(&[name.to_owned()]).map(|rows| rows.len());
        assert_eq!((only("failover").unwrap(), only("groups").unwrap()), (0, 1));
        let refusal = only("nothing").unwrap_err();
        assert!(refusal.what.contains("append, batches, groups, read"), "{}", refusal.what);
    }
}
