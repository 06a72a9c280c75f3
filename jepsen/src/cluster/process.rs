//! One node's process, over several lives.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use quorate_jepsen_core::ids::Node;
use tokio::process::{Child, Command};

use crate::network::Lab;

/// Whether a process was ended by SIGKILL.
pub const KILLED: fn(ExitStatus) -> bool = |status| status.signal() == Some(libc::SIGKILL);

/// What a process holds of the machine's memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes resident now.
    pub resident: u64,
    /// The most that ever were.
    pub peak: u64,
}

#[derive(Debug)]
pub(super) struct Process {
    node: Node,
    log_path: PathBuf,
    /// Where in the log the present life began.
    life_from: u64,
    /// `Some` from the start until the end was noticed.
    child: Option<Child>,
    /// An end that was noticed and that nobody waited for.
    exited: Option<ExitStatus>,
}

impl Process {
    pub(super) fn new(node: Node, dir: &Path) -> Self {
        let log_path = dir.join(format!("node{node}.log"));
        Self { node, log_path, life_from: 0, child: None, exited: None }
    }

    pub(super) fn log_path(&self) -> &Path {
        &self.log_path
    }

    pub(super) fn start(
        &mut self,
        binary: &Path,
        config: &Path,
        env: &[(String, String)],
        lab: Option<&Lab>,
    ) -> Result<()> {
        if self.is_running() {
            bail!("node {} runs already", self.node);
        }
        let mut log = File::options().create(true).append(true).open(&self.log_path)?;
        self.life_from = log.seek(SeekFrom::End(0))?;
        writeln!(log, "---- start {env:?}")?;
        let mut command = Command::new(binary);
        command.arg("--config").arg(config);
        // What is set for the tests is not meant for the node, which refuses unknown settings.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(name);
            }
        }
        command.envs(env.iter().cloned()).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        if let Some(lab) = lab {
            lab.hold(self.node, command.as_std_mut());
        }
        // If the test dies in a way that runs no destructors, its nodes die, too.
        // SAFETY: prctl with these arguments is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        (self.child, self.exited) = (Some(child), None);
        Ok(())
    }

    /// Kills it and waits, without a runtime, for a few seconds.
    pub(super) fn end(&mut self) {
        let Some(child) = &mut self.child else { return };
        // Both fail only when it has ended.
        let _ = child.start_kill();
        for _ in 0..300 {
            if !matches!(child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child = None;
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.exited();
        self.child.is_some()
    }

    /// Notices an end.
    pub(super) fn exited(&mut self) -> Option<ExitStatus> {
        if let Some(child) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            (self.child, self.exited) = (None, Some(status));
        }
        self.exited
    }

    /// Waits for the end; whoever does expects it, and it is no longer in `exited`.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(child) = &mut self.child {
            let status = child.wait().await.context("waiting for the process")?;
            (self.child, self.exited) = (None, Some(status));
        }
        self.exited.take().with_context(|| format!("node {} does not run", self.node))
    }

    pub(super) fn pid(&self) -> Result<u32> {
        let pid = self.child.as_ref().and_then(Child::id);
        pid.with_context(|| format!("node {} does not run", self.node))
    }

    pub(super) fn signal(&mut self, signal: i32) -> Result<()> {
        let pid = i32::try_from(self.pid()?)?;
        // SAFETY: kill has no memory effects; the pid is of a child that was not waited for yet.
        if unsafe { libc::kill(pid, signal) } != 0 {
            return Err(std::io::Error::last_os_error()).context("kill");
        }
        Ok(())
    }

    /// Whether the kernel has stopped it (SIGSTOP).
    pub(super) fn is_stopped(&self) -> Result<bool> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        // The state comes behind the name, which is in parentheses and may hold anything.
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        Ok(state == Some('T'))
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()).context("no field")?;
            Ok(kib.parse::<u64>()? * 1024)
        };
        Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    pub(super) fn log_of_last_life(&self) -> Result<String> {
        let mut log = File::open(&self.log_path)?;
        log.seek(SeekFrom::Start(self.life_from))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
