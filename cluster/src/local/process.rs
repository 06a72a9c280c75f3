//! One server's process.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// A child that is killed when this is dropped, and by the kernel when the thread that started it
/// ends in any other way. So start it on a thread that lives as long as it should.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// What a process has used of the machine since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, of the program and of the kernel for it.
    pub cpu: Duration,
    /// Bytes it caused to be written to disk.
    pub written_bytes: u64,
    /// Memory that is resident now.
    pub resident_bytes: u64,
}

impl Usage {
    /// Of the process with that id.
    ///
    /// # Errors
    /// It is gone, or `/proc` doesn't say.
    pub fn of(id: u32) -> io::Result<Self> {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}"));
        let missing = || io::Error::other("/proc has another form than expected");
        let written_bytes = field(&file("io")?, "write_bytes:").ok_or_else(missing)?;
        let resident_kib = field(&file("status")?, "VmRSS:").ok_or_else(missing)?;
        let cpu = cpu(&file("stat")?).ok_or_else(missing)?;
        Ok(Self { cpu, written_bytes, resident_bytes: resident_kib * 1024 })
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            written_bytes: self.written_bytes + other.written_bytes,
            resident_bytes: self.resident_bytes + other.resident_bytes,
        }
    }
}

/// Between two looks at a process that should end.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Process {
    /// Starts `command` with its output appended to the file `log`.
    ///
    /// # Errors
    /// The program can't be run, or the file not be written.
    pub fn start(command: Command, log: &Path) -> io::Result<Self> {
        Self::start_on(command, log, &[])
    }

    /// As [`Process::start`], on these processors only; on all that this process has if there are
    /// none.
    ///
    /// # Errors
    /// As there, or there are no such processors.
    pub fn start_on(mut command: Command, log: &Path, cpus: &[usize]) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let err = out.try_clone()?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        // A process group of its own: Ctrl-C is for the one who started it, who then ends it.
        command.process_group(0);
        let cpus = (!cpus.is_empty()).then(|| cpu_set(cpus));
        let checked = |result| match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        // SAFETY: between fork and exec, only async-signal-safe calls: both are system calls, and
        // the set was made before.
        unsafe {
            command.pre_exec(move || {
                if let Some(set) = &cpus {
                    checked(libc::sched_setaffinity(0, size_of_val(set), set))?;
                }
                checked(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))
            });
        }
        Ok(Self { child: command.spawn()?, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let pid = libc::pid_t::try_from(self.child.id()).map_err(io::Error::other)?;
        // SAFETY: kill has no effect on our memory; the pid is of a child not yet waited for, or
        // waited for through `child`, which then is gone and gives an error.
        match unsafe { libc::kill(pid, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The kernel's refusal to say.
    pub fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it at once (`kill -9`) and waits until it is gone.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Asks it to stop, and kills it when it hasn't after `patience`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn stop(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.exited()? {
            return Ok(status);
        }
        self.signal(libc::SIGTERM)?;
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.kill()
    }

    /// The last lines of its output, for an error message.
    #[must_use]
    pub fn last_words(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// What it has used.
    ///
    /// # Errors
    /// It is gone, or `/proc` doesn't say.
    pub fn usage(&self) -> io::Result<Usage> {
        Usage::of(self.id())
    }

    /// Bytes written to disk by its threads that live, by their names. Those of a thread that has
    /// ended are in [`Usage::written_bytes`] alone.
    ///
    /// # Errors
    /// It is gone.
    pub fn written_by_thread(&self) -> io::Result<BTreeMap<String, u64>> {
        let mut written = BTreeMap::new();
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let path = thread?.path();
            let read = |name: &str| std::fs::read_to_string(path.join(name));
            // A thread may end between two looks at it.
            let (Ok(name), Ok(io)) = (read("comm"), read("io")) else { continue };
            if let Some(bytes) = field(&io, "write_bytes:") {
                *written.entry(name.trim().to_owned()).or_default() += bytes;
            }
        }
        Ok(written)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.kill();
    }
}

fn cpu_set(cpus: &[usize]) -> libc::cpu_set_t {
    // SAFETY: the set is plain numbers, for which zeroes are valid; CPU_SET ignores processors
    // beyond its end.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        set
    }
}

/// The number behind `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// User and system time of `/proc/PID/stat`: its fields 14 and 15.
fn cpu(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // SAFETY: sysconf only answers.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    Some(Duration::from_millis(ticks * 1000 / per_second.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 100 200 300";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)), "at 100 ticks a second");
        assert_eq!(
            field("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 1\n", "write_bytes:"),
            Some(4096)
        );
        assert_eq!(field("a: 1\n", "b:"), None);
    }

    fn shell(script: &str, log: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command, log).expect("a shell runs")
    }

    #[test]
    fn it_ends_with_its_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let process = shell("echo one; echo two >&2; exec sleep 1000", &log);
        let end = Instant::now() + Duration::from_secs(60);
        while process.last_words(1) != "two" {
            assert!(Instant::now() < end, "{}", process.last_words(9));
            std::thread::yield_now();
        }
        assert!(process.usage().expect("it runs").resident_bytes > 0);
        let proc = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(proc.exists());
        drop(process);
        assert!(!proc.exists(), "dropped, and still there");
    }

    #[test]
    fn one_that_does_not_listen_is_killed() {
        use std::os::unix::process::ExitStatusExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let mut deaf = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done", &log);
        let end = Instant::now() + Duration::from_secs(60);
        while deaf.last_words(1) != "ready" {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
        let status = deaf.stop(Duration::from_millis(50)).expect("it can be killed");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        let mut polite = shell("exec sleep 1000", &log);
        assert_eq!(polite.stop(Duration::from_secs(60)).unwrap().signal(), Some(libc::SIGTERM));
    }
}
