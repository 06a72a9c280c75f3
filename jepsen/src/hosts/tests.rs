//! The scripts that run on hosts, run here: a shell is a shell. `nft` is one that notes what it is told.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::survey::{INSTALL, PREPARE, SURVEY, Survey};

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that takes a host's place; whatever of ours runs in it ends with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quorate-hosts-test-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let place = Self(dir);
        fs::create_dir_all(place.base().join("bin")).unwrap();
        fs::create_dir_all(place.0.join("tools")).unwrap();
        place.program("tools/nft", "echo \"$@\" >>\"${0%/*}/../told\"; cat >>\"${0%/*}/../told\"");
        // Stands still until it is killed.
        place.program("base/bin/node", "echo up; while :; do sleep 1; done");
        place
    }

    fn base(&self) -> PathBuf {
        self.0.join("base")
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, script: &str, name: &str, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-c", script, name]).args(arguments);
        command.env("PATH", format!("{}:{path}", self.0.join("tools").display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    fn keeper(&self, every: &str) -> Running {
        let base = self.base().display().to_string();
        let script = include_str!("keeper.sh");
        let mut command = self.command(script, "quorate-jepsen-keeper", &[&base, every]);
        Running::start(command.stderr(Stdio::null()))
    }

    /// A life of a node that runs this program.
    fn node(&self, program: &str) -> Running {
        let base = self.base().display().to_string();
        let arguments = [&base, program, "QUORATE_X=it's 1"];
        let mut node =
            Running::start(&mut self.command(include_str!("node.sh"), "node", &arguments));
        node.say("node_id = 1");
        node.to = None;
        node
    }

    fn told(&self) -> String {
        fs::read_to_string(self.0.join("told")).unwrap_or_default()
    }

    /// Nothing that a run puts there is there any more.
    fn is_tidy(&self) -> bool {
        !self.base().join("run").exists() && !self.base().join("keeper").exists()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A node that a test which failed has left.
        let pid = fs::read_to_string(self.base().join("run/pid")).unwrap_or_default();
        if !pid.is_empty() && pid.trim() != std::process::id().to_string() {
            drop(Command::new("kill").args(["-KILL", pid.trim()]).status());
        }
        drop(fs::remove_dir_all(&self.0));
    }
}

struct Running {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.to.as_mut().unwrap(), "{line}").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.line()
    }

    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait("an end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

fn runs(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

fn pid(place: &Place) -> String {
    let path = place.base().join("run/pid");
    wait("a process id", || path.exists());
    fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn a_keeper_does_what_it_is_told_and_tidies_up_when_nobody_is_there() {
    let place = Place::new();
    let mut keeper = place.keeper("5");
    assert_eq!(keeper.line(), "ready");
    assert_eq!(keeper.ask("begin"), "0");
    let mut node = place.node("node");
    assert_eq!(node.line(), "up");
    keeper.say("beat");
    assert!(keeper.ask("state").starts_with("0 State:"), "a sign of life has no answer");
    assert_eq!(keeper.ask("signal STOP"), "0");
    wait("a stop", || keeper.ask("state").contains("(stopped)"));
    assert_eq!(keeper.ask("rules add table inet quorate_jepsen; list"), "0");
    assert!(
        place.told().contains("-f -\nadd table inet quorate_jepsen; list\n"),
        "{}",
        place.told()
    );
    assert!(keeper.ask("dance").starts_with("1 unknown"));

    let process = pid(&place);
    keeper.to = None;
    assert!(keeper.end().success());
    assert_eq!(node.end().code(), Some(137), "a shell's word for SIGKILL");
    assert!(!runs(&process) && place.is_tidy());
    assert!(place.told().ends_with("delete table inet quorate_jepsen\n"), "{}", place.told());
}

#[test]
fn a_host_from_which_nothing_is_heard_is_tidied_up() {
    let place = Place::new();
    let mut keeper = place.keeper("2");
    assert_eq!((keeper.line(), keeper.ask("begin")), ("ready".to_owned(), "0".to_owned()));
    let mut node = place.node("node");
    // The way to it is open, and nobody says anything: a cable is cut.
    assert_eq!(keeper.end().signal(), Some(libc::SIGKILL));
    assert_eq!(node.end().code(), Some(137));
    wait("a tidy host", || place.is_tidy());
    assert!(place.told().contains("delete table inet quorate_jepsen"));
}

#[test]
fn a_host_whose_keeper_was_killed_is_tidied_up() {
    let place = Place::new();
    let mut keeper = place.keeper("2");
    assert_eq!((keeper.line(), keeper.ask("begin")), ("ready".to_owned(), "0".to_owned()));
    let mut node = place.node("node");
    keeper.child.kill().unwrap();
    assert_eq!(node.end().code(), Some(137));
    wait("a tidy host", || place.is_tidy());
}

#[test]
fn a_host_has_one_keeper_and_what_a_crash_left_goes() {
    let place = Place::new();
    let mut first = place.keeper("5");
    assert_eq!((first.line(), first.ask("begin")), ("ready".to_owned(), "0".to_owned()));
    let mut second = place.keeper("5");
    assert!(second.line().starts_with("busy "));
    assert!(second.end().success() && place.base().join("run").exists(), "it is not the second's");
    first.to = None;
    assert!(first.end().success());

    // As after a crash of the host: files, and a process id that is somebody else's now.
    fs::create_dir(place.base().join("keeper")).unwrap();
    fs::create_dir(place.base().join("run")).unwrap();
    let own = std::process::id().to_string();
    fs::write(place.base().join("keeper/pid"), &own).unwrap();
    fs::write(place.base().join("run/pid"), &own).unwrap();
    let mut third = place.keeper("5");
    assert_eq!(third.line(), "ready", "and this process lives");
    assert!(!place.base().join("run").exists());
    third.to = None;
    assert!(third.end().success());
}

#[test]
fn data_is_removed_or_set_aside() {
    let place = Place::new();
    let mut keeper = place.keeper("5");
    assert_eq!((keeper.line(), keeper.ask("begin")), ("ready".to_owned(), "0".to_owned()));
    fs::write(place.base().join("run/data"), "x").unwrap();
    assert_eq!(keeper.ask("aside kept-1"), "0");
    assert_eq!((keeper.ask("begin"), keeper.ask("remove")), ("0".to_owned(), "0".to_owned()));
    assert!(!place.base().join("run").exists());
    keeper.to = None;
    assert!(keeper.end().success());
    assert_eq!(fs::read_to_string(place.base().join("kept-1/data")).unwrap(), "x");
}

#[test]
fn a_node_s_end_is_told_as_it_was() {
    let place = Place::new();
    fs::create_dir(place.base().join("run")).unwrap();
    let end = |script: &str| {
        place.program("base/bin/odd", script);
        place.node("odd").end().code()
    };
    assert_eq!(end("exit 0"), Some(0));
    assert_eq!(end("exit 3"), Some(3));
    assert_eq!(end("exit 255"), Some(254), "that one is ssh's own");
    assert_eq!(end("kill -KILL $$"), Some(128 + libc::SIGKILL));
    assert_eq!(
        end("[ \"$QUORATE_X\" = \"it's 1\" ] && [ \"$(cat \"$2\")\" = 'node_id = 1' ]"),
        Some(0)
    );
    assert!(!place.base().join("run/pid").exists());
    // All is over: whoever comes late is not started.
    fs::write(place.base().join("run/ended"), "").unwrap();
    assert_eq!(end("exit 0"), Some(1));
}

#[test]
fn a_program_is_stored_whole_and_alone_or_not_at_all() {
    let place = Place::new();
    let base = place.base().display().to_string();
    let run = |script: &str, arguments: &[&str], input: &str| {
        let mut running = Running::start(&mut place.command(script, "x", arguments));
        running.to.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
        running.to = None;
        let success = running.end().success();
        let mut said = String::new();
        while let line @ 1.. = running.from.read_line(&mut said).unwrap() {
            assert!(line > 0);
        }
        (success, said)
    };
    // printf abc | sha256sum
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let prepared = || Survey::read(&run(PREPARE, &[&base, hash], "").1);
    assert_eq!((prepared().get("folder"), prepared().get("program")), ("ok", ""));
    assert!(prepared().get("nft").is_empty() && !prepared().get("on").is_empty());
    assert!(!run(INSTALL, &[&base, hash], "ab").0, "half of it came");
    assert_eq!(prepared().get("program"), "");
    assert!(run(INSTALL, &[&base, hash], "abc").0);
    assert_eq!(prepared().get("program"), "there");
    assert_eq!(fs::read_dir(place.base().join("bin")).unwrap().count(), 1);

    // A folder that leads elsewhere is somebody else's trick.
    let link = place.0.join("link").display().to_string();
    std::os::unix::fs::symlink(&base, &link).unwrap();
    let said = Survey::read(&run(PREPARE, &[&link, hash], "").1);
    assert!(said.prepared(&link).is_err());
    let survey = Survey::read(&run(SURVEY, &[], "").1);
    assert!(!survey.get("user").is_empty() && !survey.get("root").is_empty());
    assert!(survey.get("machine").starts_with("Linux "));
}
