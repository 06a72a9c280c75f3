//! The ssh backend on real sshds: three hosts made of namespaces (`jepsen/ssh-hosts.sh`). A run with
//! faults is valid, a mutant is not, a runner that is killed leaves nothing, a wrong host is named.
//!
//! Built only with the feature `ssh-hosts`, as the default run must do without sshd. It needs root,
//! openssh-server and `quorate-node-planted`, and fails without (`jepsen/ssh-hosts.sh test` has all built).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a host shows of us: our table, our processes, our folder but for the server.
const TRACES: &str = "PATH=$PATH:/usr/sbin; nft list tables | grep quorate; \
                      ls /var/tmp/quorate-jepsen-root | grep -vx bin; \
                      ps ax -o args | grep -e '[-]-config node[.]toml' -e '[q]uorate-jepsen-keepe[r]'; true";

/// Hosts that end with the test, however it ends.
struct Hosts {
    dir: PathBuf,
    store: PathBuf,
}

impl Hosts {
    fn up(name: &str) -> Result<Self> {
        let exe = PathBuf::from(env!("CARGO_BIN_EXE_jepsen"));
        let target = exe.parent().context("a program is in a folder")?;
        let name = format!("jepsen-runs/ssh-{name}-{}", std::process::id());
        let dir = target.join(name);
        let hosts = Self { store: dir.with_extension("store"), dir };
        done(&hosts.script(&["up"]).output()?, "bringing hosts up (as root, with openssh-server)")?;
        Ok(hosts)
    }

    fn script(&self, words: &[&str]) -> Command {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ssh-hosts.sh");
        let mut command = Command::new(script);
        let bin = Path::new(env!("CARGO_BIN_EXE_jepsen")).parent().unwrap_or(Path::new("/"));
        command.args(words).env("QUORATE_SSH_HOSTS_DIR", &self.dir);
        command.env("QUORATE_BIN_DIR", bin).env("QUORATE_JEPSEN_STORE", &self.store);
        command
    }

    /// `jepsen` where the hosts are.
    fn run(&self, words: &[&str]) -> Result<Output> {
        let output = self.script(&[&["run"], words].concat()).output()?;
        println!("{}", String::from_utf8_lossy(&output.stdout));
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        Ok(output)
    }

    fn traces(&self) -> Result<String> {
        let mut all = String::new();
        for host in ["H1", "H2", "H3"] {
            let output = self.script(&["in", "ssh", host, TRACES]).output()?;
            all += &done(&output, "looking at a host")?;
        }
        Ok(all)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // Without it the next `up` does it.
        drop(self.script(&["down"]).output());
        drop(fs::remove_dir_all(&self.store));
    }
}

/// Killed with the test.
struct Runner(Child);

impl Drop for Runner {
    fn drop(&mut self) {
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

fn done(output: &Output, what: &str) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn until(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !look()? {
        ensure!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

#[test]
fn a_run_is_valid_and_leaves_only_the_server() -> Result<()> {
    let hosts = Hosts::up("valid")?;
    let faults = ["--nemesis", "partition,kill,pause,reply-loss", "--nemesis-interval", "3"];
    let output = hosts
        .run(&[&["test", "--workload", "append", "--time-limit", "20"], &faults[..]].concat())?;
    ensure!(output.status.code() == Some(0), "the run ended by {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    for fault in ["partition", "kill", "pause", "reply-loss"] {
        ensure!(said.contains(&format!("\n{fault} ")), "{fault} is missing");
    }
    for file in ["results.json", "node1.log", "node3.log", "schedule.json"] {
        ensure!(hosts.store.join("latest").join(file).exists(), "{file} is missing");
    }
    let traces = hosts.traces()?;
    ensure!(traces.is_empty(), "left on hosts: {traces}");
    Ok(())
}

#[test]
fn a_mutant_is_found_and_its_data_stays() -> Result<()> {
    let hosts = Hosts::up("mutant")?;
    let schedule = hosts.dir.join("schedule.json");
    // The leader, alone, from the third second to the ninth.
    fs::write(
        &schedule,
        r#"{"windows": [{"at_ms": 3000, "for_ms": 6000,
            "fault": "partition", "shape": "leader-alone", "gate": "hold"}]}"#,
    )?;
    let schedule = schedule.display().to_string();
    let what = ["test", "--mutant", "stale_leader_read", "--schedule", &schedule];
    let how = ["--workload", "append", "--time-limit", "12", "--concurrency", "24"];
    let output = hosts.run(&[&what[..], &how[..]].concat())?;
    ensure!(output.status.code() == Some(1), "the run ended by {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("stale-read"), "it is called something else");
    let traces = hosts.traces()?;
    let kept = |line: &str| line.starts_with("kept-");
    ensure!(traces.lines().count() == 3 && traces.lines().all(kept), "on hosts: {traces}");
    Ok(())
}

#[test]
fn a_runner_that_is_killed_leaves_no_node_and_no_rule() -> Result<()> {
    let hosts = Hosts::up("killed")?;
    let mut command =
        hosts.script(&["run", "test", "--nemesis", "partition", "--time-limit", "90"]);
    command.args(["--workload", "append", "--nemesis-interval", "3"]);
    // All of them are this process, one after the other: bash, nsenter and bash become `jepsen`.
    let mut runner = Runner(command.stdout(Stdio::null()).spawn()?);
    until("a fault", || {
        ensure!(runner.0.try_wait()?.is_none(), "the run has ended");
        let run = fs::read_to_string(hosts.store.join("latest/history.jsonl")).unwrap_or_default();
        Ok(run.contains("partition gate="))
    })?;
    let traces = hosts.traces()?;
    ensure!(traces.contains("table inet quorate_jepsen"), "before: {traces}");
    ensure!(traces.contains("--config node.toml"), "before: {traces}");
    runner.0.kill()?;
    until("tidy hosts", || Ok(hosts.traces()?.is_empty()))
}

#[test]
fn a_wrong_host_is_named_and_nothing_is_left_on_the_others() -> Result<()> {
    let hosts = Hosts::up("wrong")?;
    let list = hosts.dir.join("hosts");
    fs::write(&list, fs::read_to_string(&list)?.replace(".3\n", ".3:2222\n"))?;
    let output = hosts.run(&["test"])?;
    ensure!(output.status.code() == Some(254), "ended by {}", output.status);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("198.18.200.3:2222: cannot be reached by ssh"), "{said}");
    let output = hosts.run(&["test", "--nemesis", "kill,power-all"])?;
    ensure!(output.status.code() == Some(254), "ended by {}", output.status);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("power-all (") && said.contains("--backend ssh does not do"), "{said}");
    ensure!(hosts.traces()?.is_empty(), "left on hosts: {}", hosts.traces()?);
    Ok(())
}
