//! The two commands of the README that need a cluster, as a newcomer runs them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use quorate_cluster::local::ports;

use crate::cluster::{bin_dir, node_binary, text, without_settings};

struct Scripts {
    dir: tempfile::TempDir,
    base_port: u16,
}

impl Scripts {
    fn run(&self, script: &str, args: &[&Path]) -> Output {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let mut command = Command::new("bash");
        without_settings(&mut command);
        command.arg(path).args(args);
        command.env("QUORATE_BIN_DIR", bin_dir()).env("QUORATE_RUN_DIR", self.run_dir());
        command.env("QUORATE_BASE_PORT", self.base_port.to_string());
        command.output().expect("bash runs")
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Processes of the nodes in this folder.
    fn running(&self) -> usize {
        let pids =
            (1..=3).map(|n| std::fs::read_to_string(self.run_dir().join(format!("node{n}.pid"))));
        let alive = |pid: &String| Path::new("/proc").join(pid.trim()).exists();
        pids.filter_map(Result::ok).filter(alive).count()
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        // Whatever a failed test left running.
        self.run("down.sh", &[Path::new("--wipe")]);
    }
}

#[test]
fn quickstart_and_down() {
    node_binary();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let scripts = Scripts { dir, base_port: ports::free(203).expect("free ports") };
    let file = scripts.dir.path().join("a file");
    std::fs::write(&file, (0..3000).map(|i| format!("line {i}\r\n")).collect::<String>() + "end")
        .unwrap();
    let output = scripts.run("quickstart.sh", &[&file]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    for part in [
        "a file (3001 lines, ",
        ", the leader, when ",
        "leads now (",
        "the log has 3001 records for 3001 lines",
        "node 1: byte for byte the file",
        "node 2: byte for byte the file",
        "node 3: byte for byte the file",
        "their digests agree",
        "Everything held.",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(text(&output.stderr).is_empty(), "{}", text(&output.stderr));
    assert_eq!(scripts.running(), 3, "it is left running");

    let down = scripts.run("down.sh", &[]);
    assert!(text(&down.stdout).contains("3 of 3 nodes ran; none does now"), "{down:?}");
    assert_eq!(scripts.running(), 0);
    assert!(scripts.run_dir().join("node1").exists(), "the data stays");
    let again = scripts.run("down.sh", &[]);
    assert!(again.status.success(), "{again:?}");
    scripts.run("down.sh", &[Path::new("--wipe")]);
    assert!(!scripts.run_dir().exists(), "nothing of it stays");
    assert_eq!(scripts.run("down.sh", &[Path::new("--nonsense")]).status.code(), Some(2));
    let missing = scripts.run("quickstart.sh", &[Path::new("/no/such/file")]);
    assert_eq!(missing.status.code(), Some(1));
}
