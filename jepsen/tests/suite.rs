//! The `jepsen` program end to end: a run is stored and valid, judging it again says the same, a
//! damaged history is invalid by the right name, and a run whose fault did nothing is no pass.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

fn jepsen(store: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jepsen"));
    command.args(arguments).env("QUORATE_JEPSEN_STORE", store);
    let output = command.output()?;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// Judges a run and expects this exit code and these words.
fn judged(store: &Path, run: &Path, code: i32, words: &[&str]) -> Result<()> {
    let output = jepsen(store, &["analyze", &run.display().to_string()])?;
    ensure!(output.status.code() == Some(code), "analyze ended by {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let page = fs::read_to_string(run.join("index.html"))?;
    for word in words {
        ensure!(said.contains(word), "{word:?} is not in {said}");
        ensure!(page.contains(word), "{word:?} is not on the page");
    }
    Ok(())
}

/// A copy of a run with one file changed.
fn changed(run: &Path, to: &str, file: &str, change: impl Fn(&str) -> String) -> Result<PathBuf> {
    let copy = run.with_file_name(to);
    fs::create_dir(&copy)?;
    for name in ["history.jsonl", "timeline.jsonl", "options.json"] {
        let text = fs::read_to_string(run.join(name))?;
        let text = if name == file { change(&text) } else { text };
        fs::write(copy.join(name), text)?;
    }
    Ok(copy)
}

#[test]
fn a_run_is_stored_and_judged_and_judged_again() -> Result<()> {
    let exe = PathBuf::from(env!("CARGO_BIN_EXE_jepsen"));
    let target = exe.parent().context("a program is in a folder")?;
    let store = target.join(format!("jepsen-runs/suite-{}", std::process::id()));
    let arguments = ["test", "--nemesis", "partition,kill", "--time-limit", "12"];
    // Without root, as most people run it; hosts of their own have a test below.
    let arguments = [&arguments[..], &["--backend", "process"]].concat();
    let arguments = [&arguments[..], &["--nemesis-interval", "3", "--rate", "300"]].concat();
    let output = jepsen(&store, &arguments)?;
    ensure!(output.status.code() == Some(0), "the run ended by {}", output.status);
    let run = store.join("latest").canonicalize()?;
    for file in ["results.json", "history.txt", "schedule.json", "versions.json", "node1.log"] {
        ensure!(run.join(file).exists(), "{file} is missing");
    }
    ensure!(!run.join("node1").exists(), "a valid run needs no data");
    judged(&store, &run, 0, &["Valid", "partition", "kill"])?;

    // A record that a reader of the replicas would have missed.
    let appended = |line: &&str| line.contains(r#""appended""#) && !line.contains("deduplicated");
    let lost = changed(&run, "lost", "history.jsonl", |text| {
        // The answer names an offset one further on than where the record is.
        let victim = text.lines().find(appended).unwrap_or_default().to_owned();
        let at = victim.find(r#""first_offset":"#).unwrap_or_default() + 15;
        let end = victim[at..].find(',').unwrap_or_default() + at;
        let offset: u64 = victim[at..end].parse().unwrap_or_default();
        let moved = format!("{}{}{}", &victim[..at], offset + 1, &victim[end..]);
        text.replace(&victim, &moved)
    })?;
    judged(&store, &lost, 1, &["wrong-count"])?;

    // A fault that never did anything.
    let idle = changed(&run, "idle", "timeline.jsonl", |text| {
        let lines = text.lines().map(|line| match line.find(r#""count":"#) {
            Some(at) => {
                let end = line[at..].find(',').unwrap_or_default() + at;
                format!(r#"{}"count":0{}"#, &line[..at], &line[end..])
            }
            None => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    })?;
    judged(&store, &idle, 2, &["never did anything"])?;

    // A service that did not resume.
    let stuck = changed(&run, "stuck", "timeline.jsonl", |text| {
        format!("{text}{{\"mark\":\"failure\",\"at\":1,\"what\":\"no leader came up\"}}\n")
    })?;
    judged(&store, &stuck, 1, &["no leader came up"])?;

    let output = jepsen(&store, &["test", "--nemesis", "earthquake"])?;
    ensure!(output.status.code() == Some(254), "bad arguments ended by {}", output.status);
    let output = jepsen(&store, &["analyze", "nowhere"])?;
    ensure!(output.status.code() == Some(255), "no run ended by {}", output.status);
    fs::remove_dir_all(&store)?;
    Ok(())
}

/// The same verdict where nodes are hosts; and a runner that is killed leaves nothing running.
#[test]
fn nodes_are_hosts_and_nothing_is_left_behind() -> Result<()> {
    let exe = PathBuf::from(env!("CARGO_BIN_EXE_jepsen"));
    let target = exe.parent().context("a program is in a folder")?;
    let store = target.join(format!("jepsen-runs/hosts-{}", std::process::id()));
    let faults = ["test", "--backend", "netns", "--nemesis", "partition,one-way,reply-loss,delay"];
    let faults =
        [&faults[..], &["--nemesis-interval", "4", "--rate", "200", "--time-limit"]].concat();
    let output = jepsen(&store, &[&faults[..], &["20"]].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(254) && said.contains("--backend netns") {
        println!("SKIPPED: this machine has no hosts for nodes");
        return Ok(());
    }
    ensure!(output.status.code() == Some(0), "the run ended by {}", output.status);

    let mut runner = Command::new(env!("CARGO_BIN_EXE_jepsen"))
        .args([&faults[..], &["60"]].concat())
        .env("QUORATE_JEPSEN_STORE", &store)
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    // Its folder and the line that says who leads: all nodes run.
    let mut said = BufReader::new(runner.stderr.take().context("no output")?).lines();
    let started = said.any(|line| line.is_ok_and(|line| line.contains("leads term")));
    let nodes = children(runner.id())?;
    runner.kill()?;
    runner.wait()?;
    fs::remove_dir_all(&store)?;
    ensure!(started && nodes.len() == 3, "there were {} nodes", nodes.len());
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some(left) = nodes.iter().find(|pid| runs(**pid)) {
        ensure!(Instant::now() < deadline, "node {left} outlived its runner");
        std::thread::yield_now();
    }
    Ok(())
}

fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A process whose parent has not looked yet is as good as gone.
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// The processes that this one started. Not every kernel lists them, so all are asked for their parent.
fn children(pid: u32) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(child) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // Gone meanwhile: nobody's child.
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if parent.is_some_and(|parent| parent.parse() == Ok(pid)) {
            all.push(child);
        }
    }
    Ok(all)
}
