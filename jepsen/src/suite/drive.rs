//! One run from the options to the stored result.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use quorate_jepsen_core::{
    edn,
    history::History,
    ids::{Moment, Node},
    seed::Seed,
};
use tokio::sync::watch;

use super::{
    again,
    counterpart::Counterpart,
    options::Options,
    results::{self, Results},
    scenarios::Scenario,
    settings::settings,
    store,
    timeline::{self, FaultMark, Mark, NodeSample, Timeline},
};
use crate::{
    cluster::{Cluster, Unhealthy},
    endpoints::Endpoints,
    nemesis::{
        fault::Kind,
        inject::Ongoing,
        schedule::{Plan, Schedule, Window},
    },
    network::Network,
    node_api::NodeApi,
    readback,
    record::Recorder,
    report::{self, About},
    run::progress,
    workload,
};

/// Between two looks at what the nodes say about themselves.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);

/// Between two looks at a fault that is done bit by bit.
const GO_ON_EVERY: Duration = Duration::from_millis(50);

/// Of a record, where logs are to be purged within seconds: whole files of a log go, and those have
/// 16 MiB at least.
const BYTES_TO_PURGE: usize = 8 * 1024;

/// Operations a second at most, where logs are to be purged: some 6 MB/s. A leader keeps eight retentions
/// for a node that gets a snapshot, and who takes longer than that needs the next one.
const RATE_TO_PURGE: u64 = 250;

/// A stored run and its verdict.
#[derive(Debug)]
pub struct Finished {
    /// Its folder.
    pub dir: PathBuf,
    /// What came out.
    pub results: Results,
}

/// Does one run.
///
/// # Errors
/// The run itself broke; what the servers did wrong is in the results instead.
pub async fn run(options: &Options, seed: u64) -> Result<Finished> {
    run_as(options, &schedule(options, seed)?, seed).await
}

/// Does one run with these faults, whatever the options say of them.
///
/// # Errors
/// As [`run`].
pub async fn run_as(options: &Options, schedule: &Schedule, seed: u64) -> Result<Finished> {
    let name = options.name().map_err(anyhow::Error::msg)?;
    let dir = store::begin(&options.store, &name)?;
    let write = |file: &str, value: &serde_json::Value| -> Result<()> {
        Ok(std::fs::write(dir.join(file), serde_json::to_string_pretty(value)? + "\n")?)
    };
    write("schedule.json", &serde_json::to_value(schedule)?)?;
    write("options.json", &serde_json::to_value(options)?)?;
    let mut cluster = Cluster::in_dir(dir.clone(), settings(options, schedule)?)?;
    write("versions.json", &versions(&cluster)?)?;
    let recorder = Recorder::new(&dir, &name, seed)?;
    let timeline = Timeline::create(&dir)?;
    eprintln!("{name}: --seed {seed}, in {}", dir.display());

    if let Err(why) = drive(&mut cluster, &recorder, &timeline, options, schedule, seed).await {
        // What the servers did wrong is a result. Anything else is this program's own trouble.
        let Some(unhealthy) = why.downcast_ref::<Unhealthy>() else {
            return Err(why).with_context(|| format!("the run in {} broke off", dir.display()));
        };
        let what = format!("{why:#}");
        let what = if what.is_empty() { unhealthy.to_string() } else { what };
        recorder.fault(format!("FAILED: {what}"));
        timeline.add(&Mark::Failure { at: recorder.moment(), what })?;
        // What the replicas hold may say more than that something does not work. If it cannot be
        // had, the history says that it is missing.
        let logs = workload::Workload::logs();
        if let Err(why) = readback::collect(&mut cluster, &recorder, &logs).await {
            recorder.fault(format!("not read back: {why:#}"));
        }
    }
    let history = recorder.history()?;
    let results = judge(&dir, &history, options)?;
    if results::name(results.verdict()) == "valid" && !options.keep_data {
        cluster.remove_data();
    }
    cluster.keep();
    Ok(Finished { dir, results })
}

/// Judges a stored run again.
///
/// # Errors
/// It cannot be read.
pub fn analyze(dir: &Path) -> Result<(History, Results)> {
    let path = dir.join("history.jsonl");
    let file = std::fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    let history = History::read(std::io::BufReader::new(file))?;
    let options: Options = serde_json::from_slice(&std::fs::read(dir.join("options.json"))?)?;
    let results = judge(dir, &history, &options)?;
    Ok((history, results))
}

/// Judges, and writes all that is derived from a run's history and timeline.
fn judge(dir: &Path, history: &History, options: &Options) -> Result<Results> {
    let marks = timeline::read(dir)?;
    let results = Results::of(history, &marks, options.recovery_limit * 1000);
    let json = serde_json::to_string_pretty(&results.json(history))?;
    std::fs::write(dir.join("results.json"), json + "\n")?;
    let mut text = String::new();
    for op in &history.ops {
        text += &results::line(op);
        text.push('\n');
    }
    std::fs::write(dir.join("history.txt"), text)?;
    let edn = |file: &str, write: fn(&History, &mut dyn Write) -> io::Result<()>| -> Result<()> {
        let mut to = BufWriter::new(std::fs::File::create(dir.join(file))?);
        write(history, &mut to)?;
        Ok(to.flush()?)
    };
    edn("history.edn", |history, to| edn::plain::write(history, to))?;
    edn("elle.edn", |history, to| edn::elle::write(history, to))?;
    std::fs::write(dir.join("results.txt"), results.to_string())?;
    let about = About {
        planted: options.mutant.clone(),
        counterpart: Counterpart::read(dir)?,
        again: again::command(options, history.seed)?,
    };
    let page = report::page(history, &marks, &results, &about);
    std::fs::write(dir.join("index.html"), page)?;
    Ok(results)
}

/// The schedule of a run: from the file that the options name, or drawn.
///
/// # Errors
/// The file is no schedule, or a fault is asked for that there is not.
pub fn schedule(options: &Options, seed: u64) -> Result<Schedule> {
    if let Some(path) = &options.schedule {
        let bytes = std::fs::read(path).with_context(|| format!("opening {}", path.display()))?;
        return serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no schedule", path.display()));
    }
    if let Some(name) = &options.scenario {
        return Scenario::named(name)?.schedule();
    }
    Ok(Schedule::draw(
        &Seed::new(seed),
        &Plan {
            kinds: options.kinds().map_err(anyhow::Error::msg)?,
            time_limit_ms: options.time_limit * 1000,
            interval_ms: (options.nemesis_interval * 1000.0) as u64,
        },
    ))
}

fn versions(cluster: &Cluster) -> Result<serde_json::Value> {
    let output = std::process::Command::new(cluster.binary()).arg("--version").output()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok(serde_json::json!({
        "node": String::from_utf8_lossy(&output.stdout).trim(),
        "runner": env!("CARGO_PKG_VERSION"),
        "kernel": kernel.trim(),
    }))
}

async fn drive(
    cluster: &mut Cluster,
    recorder: &Recorder,
    timeline: &Timeline,
    options: &Options,
    schedule: &Schedule,
    seed: u64,
) -> Result<()> {
    for node in cluster.nodes() {
        cluster.start_node(node)?;
    }
    cluster.check_reach()?;
    let leader = cluster.wait_leader().await?;
    recorder.fault(format!("n{} leads term {}", leader.node, leader.term));
    let purges = schedule.kinds().contains(&Kind::FallBehind);
    let rate = if purges { options.rate.min(RATE_TO_PURGE) } else { options.rate };
    let mut mix = options.workload.mix(options.concurrency as usize, rate);
    if purges {
        mix.record_bytes = BYTES_TO_PURGE;
    }
    let pauses = schedule.windows.iter().filter(|window| window.fault.kind() == Kind::Pause);
    let longest = pauses.map(|window| Duration::from_millis(window.for_ms)).max();
    mix.patience = longest.filter(|pause| *pause > mix.deadline).map(|pause| pause + mix.deadline);
    let seed = Seed::new(seed);
    let load = workload::Workload::start(cluster.endpoints(), recorder, &seed, &mix).await?;
    let from = recorder.moment();
    let (stop, stopped) = watch::channel(false);
    let endpoints = cluster.endpoints().clone();
    let all = (1..=endpoints.urls().len() as u64).map(|node| cluster.api(Node(node)));
    let apis = all.collect::<Result<Vec<_>>>()?;
    let sampling = sample(apis, endpoints, recorder.clone(), timeline.clone(), stopped);
    let sampler = tokio::spawn(sampling);

    let done = faults(cluster, recorder, timeline, options, schedule).await;
    // Whatever went wrong, clients and sampler end and the history is complete as far as it goes.
    let healed = cluster.network().and_then(Network::heal);
    let served = match done.and(healed) {
        Ok(()) => progress(recorder, 20).await,
        Err(why) => Err(why),
    };
    let ended = load.stop().await;
    stop.send_replace(true);
    sampler.await.context("the sampler panicked")??;
    timeline.add(&Mark::Load { from, to: recorder.moment() })?;
    served?;
    ended?;
    readback::collect(cluster, recorder, &workload::Workload::logs()).await
}

/// Does the schedule, beginning now, and waits for the end of the time.
async fn faults(
    cluster: &mut Cluster,
    recorder: &Recorder,
    timeline: &Timeline,
    options: &Options,
    schedule: &Schedule,
) -> Result<()> {
    let start = Instant::now();
    let until = |ms: u64| start + Duration::from_millis(ms);
    for window in &schedule.windows {
        tokio::time::sleep_until(until(window.at_ms).into()).await;
        let what = fault_text(window)?;
        let mut ongoing = Ongoing::begin(cluster, window.fault.clone())
            .await
            .with_context(|| format!("installing {what}"))?;
        let from = recorder.moment();
        let hit: Vec<_> = ongoing.hit.iter().map(|node| format!("n{node}")).collect();
        recorder.fault(format!("{what} -> {}", hit.join(" ")));
        // Installing may have taken its time: it lasts as long as drawn all the same.
        let end = Instant::now() + Duration::from_millis(window.for_ms);
        while Instant::now() < end {
            ongoing.go_on(cluster, recorder).await.with_context(|| format!("during {what}"))?;
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(GO_ON_EVERY)).await;
        }
        let (hit, hit_leader) = (ongoing.hit.clone(), ongoing.hit_leader);
        let (apart, healing) = (ongoing.apart.clone(), Some(recorder.moment()));
        let effect = ongoing.end(cluster).await.with_context(|| format!("healing {what}"))?;
        recorder.fault(format!("healed {} ({})", window.fault.kind(), effect.what));
        timeline.add(&Mark::Fault(FaultMark {
            kind: window.fault.kind(),
            what,
            from,
            to: recorder.moment(),
            hit,
            hit_leader,
            healing,
            apart,
            count: effect.count,
            effect: effect.what,
        }))?;
        // All must be back before the next fault, or more would be down than it says.
        cluster
            .wait_converged()
            .await
            .with_context(|| format!("nodes did not come back after {}", window.fault.kind()))?;
    }
    tokio::time::sleep_until(until(options.time_limit * 1000).into()).await;
    Ok(())
}

/// The fault as its JSON says it, without punctuation that means nothing to people.
fn fault_text(window: &Window) -> Result<String> {
    let value = serde_json::to_value(&window.fault)?;
    let mut text = window.fault.kind().to_string();
    for (key, value) in value.as_object().context("a fault is an object")? {
        if key != "fault" {
            let value = value.to_string().replace(['"', '{', '}'], "").replace(':', " ");
            text += &format!(" {}={value}", key.replace('_', "-"));
        }
    }
    Ok(text)
}

async fn sample(
    apis: Vec<NodeApi>,
    endpoints: Endpoints,
    recorder: Recorder,
    timeline: Timeline,
    mut stopped: watch::Receiver<bool>,
) -> Result<()> {
    loop {
        let at = recorder.moment();
        let there = apis.iter().filter(|api| endpoints.has(api.node())).cloned();
        let asked = there.map(|mut api| async move {
            let status = tokio::time::timeout(SAMPLE_EVERY, api.status()).await.ok()?.ok()?;
            let group = status.groups.first()?;
            Some(NodeSample {
                node: api.node(),
                leads: group.role() == quorate_proto::v1::Role::Leader,
                term: group.term,
                committed: group.commit_index,
                applied: group.applied_index,
                age_ms: group.age_ms,
            })
        });
        let nodes: Vec<_> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        timeline.add(&Mark::Sample { at, nodes })?;
        let next = Duration::from_nanos(recorder.moment().0 - at.0);
        tokio::select! {
            _ = tokio::time::sleep(SAMPLE_EVERY.saturating_sub(next)) => {}
            _ = stopped.changed() => return Ok(()),
        }
    }
}

/// The moment in seconds, for people.
#[must_use]
pub fn seconds(at: Moment) -> f64 {
    at.0 as f64 / 1e9
}
