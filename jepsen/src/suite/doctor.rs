//! What this machine can do to a cluster, tried out rather than guessed.

use std::{path::Path, process::Command, sync::Arc};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cluster::{Between, Clock, Cluster, FrozenThreads, Settings, server_binary},
    disk::{Fault, FaultyDisk, LoopDisk},
    hosts::Fleet,
    nemesis::fault::Kind,
    network::lab,
    suite::options::Backend,
};

/// One thing, and whether it works here.
#[derive(Debug)]
pub struct Probe {
    /// What.
    pub name: &'static str,
    /// The backend that needs it; none: all do.
    pub backend: Option<Backend>,
    /// The faults that need it; none: every run does.
    pub for_faults: &'static [Kind],
    /// Why it does not work.
    pub outcome: Result<String>,
}

/// Something to try, before it is.
struct Trial {
    name: &'static str,
    backend: Option<Backend>,
    for_faults: &'static [Kind],
    run: fn(&Path) -> Result<String>,
}

const TRIALS: &[Trial] = &[
    Trial::any("server binary", &[], |_| server()),
    Trial::netns("hosts, partitions", &[], |_| lab::probe::partition()),
    Trial::netns("one direction's calls", &[Kind::OneWay, Kind::Aside], |_| lab::probe::one_way()),
    Trial::netns("lost replies", &[Kind::ReplyLoss], |_| lab::probe::reply_loss()),
    Trial::netns("slow links", &[Kind::Delay, Kind::SlowLink], |_| lab::probe::slow()),
    Trial::any("preloaded disk faults", Kind::BY_PRELOAD, preload),
    Trial::any("power loss", &[Kind::PowerAll], power),
    Trial::any("stopped threads", &[Kind::StallApply], |_| threads()),
    Trial::any("wrong clocks", &[Kind::ClockJump, Kind::FastClock], clocks),
];

impl Trial {
    const fn any(
        name: &'static str,
        for_faults: &'static [Kind],
        run: fn(&Path) -> Result<String>,
    ) -> Self {
        Self { name, backend: None, for_faults, run }
    }

    const fn netns(
        name: &'static str,
        for_faults: &'static [Kind],
        run: fn(&Path) -> Result<String>,
    ) -> Self {
        Self { name, backend: Some(Backend::Netns), for_faults, run }
    }
}

/// Tries everything.
///
/// # Errors
/// Not even a folder for trying can be made.
pub fn probe(store: &Path) -> Result<Vec<Probe>> {
    tried(store, |_| true)
}

fn tried(store: &Path, wanted: impl Fn(&Trial) -> bool) -> Result<Vec<Probe>> {
    std::fs::create_dir_all(store).with_context(|| format!("creating {}", store.display()))?;
    let dir = store.join(format!("doctor-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let probe = |trial: &Trial| Probe {
        name: trial.name,
        backend: trial.backend,
        for_faults: trial.for_faults,
        outcome: (trial.run)(&dir),
    };
    let probes = TRIALS.iter().filter(|trial| wanted(trial)).map(probe).collect();
    // The next build or the next doctor removes what could not be removed now.
    let _ = std::fs::remove_dir_all(&dir);
    Ok(probes)
}

/// Tries a cluster on hosts of the user's, and each cut of its links: what worked, and what ended it.
pub fn hosts(store: &Path, fleet: &Arc<Fleet>) -> (Vec<(&'static str, String)>, Result<()>) {
    let mut worked = Vec::new();
    let outcome = on_hosts(store, fleet, &mut worked);
    (worked, outcome)
}

fn on_hosts(
    store: &Path,
    fleet: &Arc<Fleet>,
    worked: &mut Vec<(&'static str, String)>,
) -> Result<()> {
    let dir = store.join(format!("doctor-{}", std::process::id()));
    let network = Between::Fleet(fleet.clone());
    let settings = Settings { nodes: fleet.room(), network, ..Settings::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Their ends are noticed by a runtime.
    let _entered = runtime.enter();
    let mut cluster = Cluster::in_dir(dir, settings)?;
    let nodes = cluster.nodes();
    nodes.iter().try_for_each(|node| cluster.start_node(*node))?;
    let outcome = (|| -> Result<()> {
        cluster.check_reach()?;
        worked.push(("nodes", "started, and called by each other and from here".to_owned()));
        worked.extend(fleet.try_cuts()?);
        fleet.signal(&nodes, libc::SIGSTOP)?;
        for node in &nodes {
            ensure!(cluster.is_stopped(*node)?, "n{node} was to be stopped");
        }
        fleet.signal(&nodes, libc::SIGCONT)?;
        worked.push(("pauses", "stopped, and let go on".to_owned()));
        Ok(())
    })();
    runtime.block_on(cluster.kill(&nodes))?;
    outcome?;
    worked.push(("kill -9", "all ended".to_owned()));
    cluster.finish();
    Ok(())
}

/// What is missing for these faults; nothing, if they can all be done. Trying costs a moment: only
/// what is asked for is tried, and what a backend needs was tried when it was chosen.
///
/// # Errors
/// As [`probe`].
pub fn missing(store: &Path, kinds: &[Kind]) -> Result<Vec<String>> {
    let probes = tried(store, |trial| {
        trial.backend.is_none()
            && (trial.for_faults.is_empty()
                || trial.for_faults.iter().any(|kind| kinds.contains(kind)))
    })?;
    Ok(probes
        .into_iter()
        .filter_map(|probe| probe.outcome.err().map(|why| format!("{}: {why:#}", probe.name)))
        .collect())
}

fn server() -> Result<String> {
    let path = server_binary()?;
    let output = Command::new(&path).arg("--version").output();
    let output = output.with_context(|| format!("starting {}", path.display()))?;
    ensure!(output.status.success(), "{} --version: {}", path.display(), output.status);
    Ok(format!("{}, {}", path.display(), String::from_utf8_lossy(&output.stdout).trim()))
}

fn preload(dir: &Path) -> Result<String> {
    let below = dir.join("faulty");
    std::fs::create_dir_all(&below)?;
    let disk = FaultyDisk::new(dir, "doctor", &below)?;
    disk.set(Fault::WriteError(libc::EIO))?;
    let script = format!("echo x > '{}'", below.join("file").display());
    let status = Command::new("sh")
        .args(["-c", &script])
        .envs(disk.environment()?)
        .stderr(std::process::Stdio::null())
        .status()?;
    ensure!(!status.success() && disk.done()? > 0, "the library was loaded and did nothing");
    Ok("a write failed as it was told to".to_owned())
}

fn power(dir: &Path) -> Result<String> {
    use std::io::Write as _;
    let disk = LoopDisk::new(dir, "doctor")?;
    let path = disk.path().join("file");
    std::fs::File::create(&path)?.write_all(b"not synced")?;
    disk.cut()?;
    disk.reboot()?;
    let left = std::fs::read(&path).unwrap_or_default();
    ensure!(left.is_empty(), "what was not synced survived");
    Ok("what was not synced was gone".to_owned())
}

fn threads() -> Result<String> {
    let mut child = Command::new("sleep").arg("60").spawn().context("starting sleep")?;
    let start = std::time::Instant::now();
    let frozen = loop {
        // Before it has become `sleep` it has this program's name.
        match FrozenThreads::freeze(child.id(), "sleep") {
            Err(why) if start.elapsed().as_secs() >= 5 => break Err(why),
            Err(_) => std::thread::yield_now(),
            frozen => break frozen,
        }
    };
    let standing = frozen.as_ref().map(FrozenThreads::standing).unwrap_or_default();
    drop(child.kill().and_then(|()| child.wait()));
    frozen?;
    ensure!(standing == 1, "a thread was to stand still and did not");
    Ok("a thread stood still".to_owned())
}

fn clocks(dir: &Path) -> Result<String> {
    let clock = Clock::new(dir, "doctor")?;
    let now = || -> Result<i64> {
        let mut date = Command::new("date");
        let output = date.arg("+%s").envs(clock.environment()).output().context("starting date")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    };
    let before = now()?;
    clock.set(-3600)?;
    let back = before - now()?;
    ensure!((3500..=3600).contains(&back), "put back by an hour, the clock went back {back} s");
    Ok("a clock was put back by an hour".to_owned())
}
