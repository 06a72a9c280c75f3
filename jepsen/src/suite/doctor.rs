//! What this machine can do to a cluster, tried out rather than guessed.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cluster::server_binary,
    disk::{Fault, FaultyDisk, LoopDisk},
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

/// Tries everything.
///
/// # Errors
/// Not even a folder for trying can be made.
pub fn probe(store: &Path) -> Result<Vec<Probe>> {
    std::fs::create_dir_all(store).with_context(|| format!("creating {}", store.display()))?;
    let dir = store.join(format!("doctor-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let any = |name, for_faults, outcome| Probe { name, backend: None, for_faults, outcome };
    let netns = |name, for_faults, outcome| Probe {
        name,
        backend: Some(Backend::Netns),
        for_faults,
        outcome,
    };
    let probes = vec![
        any("server binary", &[], server()),
        netns("hosts, partitions", &[], lab::probe::partition()),
        netns("one direction's calls", &[Kind::OneWay], lab::probe::one_way()),
        netns("lost replies", &[Kind::ReplyLoss], lab::probe::reply_loss()),
        netns("slow links", &[Kind::Delay, Kind::SlowLink], lab::probe::slow()),
        any("preloaded disk faults", &[Kind::SlowDisk, Kind::SyncError], preload(&dir)),
        any("power loss", &[Kind::PowerAll], power(&dir)),
    ];
    // The next build or the next doctor removes what could not be removed now.
    let _ = std::fs::remove_dir_all(&dir);
    Ok(probes)
}

/// What is missing for these faults; nothing, if they can all be done.
///
/// # Errors
/// As [`probe`].
pub fn missing(store: &Path, kinds: &[Kind]) -> Result<Vec<String>> {
    // What a backend needs was tried when it was chosen.
    let needed = |probe: &Probe| {
        probe.backend.is_none()
            && (probe.for_faults.is_empty()
                || probe.for_faults.iter().any(|kind| kinds.contains(kind)))
    };
    // Trying costs a moment: only what is asked for.
    if kinds.iter().all(|kind| ![Kind::SlowDisk, Kind::SyncError, Kind::PowerAll].contains(kind)) {
        return Ok(server().err().map(|why| format!("{why:#}")).into_iter().collect());
    }
    let probes = probe(store)?.into_iter().filter(needed);
    Ok(probes
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
