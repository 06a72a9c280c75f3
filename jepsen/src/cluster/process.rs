//! One node's process, over several lives.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use quorate_jepsen_core::ids::Node;
use tokio::process::{Child, Command};

use super::Between;
use crate::{
    hosts::{
        Fleet,
        error::{HostError, Why},
        ssh::SSH_FAILED,
    },
    network::Lab,
};

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

/// Where a process runs.
#[derive(Clone, Debug)]
pub(super) enum Host {
    Here,
    Lab(Arc<Lab>),
    /// With the name that the program has there.
    Fleet(Arc<Fleet>, String),
}

impl Host {
    pub(super) fn of(network: &Between, binary: &Path) -> Result<Self> {
        Ok(match network {
            Between::Nothing | Between::Proxies => Self::Here,
            Between::Lab(lab) => Self::Lab(lab.clone()),
            Between::Fleet(fleet) => Self::Fleet(fleet.clone(), fleet.install(binary)?),
        })
    }
}

#[derive(Debug)]
pub(super) struct Process {
    node: Node,
    log_path: PathBuf,
    /// Where in the log the present life began.
    life_from: u64,
    /// Of the present or last life.
    host: Host,
    /// `Some` from the start until the end was noticed; of ssh, where the process is elsewhere: it ends
    /// with it, and as it did.
    child: Option<Child>,
    /// An end that was noticed and that nobody waited for.
    exited: Option<ExitStatus>,
}

impl Process {
    pub(super) fn new(node: Node, dir: &Path) -> Self {
        let log_path = dir.join(format!("node{node}.log"));
        Self { node, log_path, life_from: 0, host: Host::Here, child: None, exited: None }
    }

    pub(super) fn log_path(&self) -> &Path {
        &self.log_path
    }

    pub(super) fn start(
        &mut self,
        binary: &Path,
        config: &Path,
        env: &[(String, String)],
        host: Host,
    ) -> Result<()> {
        if self.is_running() {
            bail!("node {} runs already", self.node);
        }
        let mut log = File::options().create(true).append(true).open(&self.log_path)?;
        self.life_from = log.seek(SeekFrom::End(0))?;
        writeln!(log, "---- start {env:?}")?;
        let mut command = match &host {
            Host::Fleet(fleet, program) => {
                let mut command = Command::from(fleet.node(self.node, program, env));
                command.stdin(File::open(config)?);
                command
            }
            Host::Here | Host::Lab(_) => {
                let mut command = Command::new(binary);
                command.arg("--config").arg(config).envs(env.iter().cloned()).stdin(Stdio::null());
                command
            }
        };
        // What is set for the tests is not meant for the node, which refuses unknown settings.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(name);
            }
        }
        command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        if let Host::Lab(lab) = &host {
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
        (self.host, self.child, self.exited) = (host, Some(child), None);
        Ok(())
    }

    /// Kills it and waits, without a runtime, for a few seconds.
    pub(super) fn end(&mut self) {
        let Some(child) = &mut self.child else { return };
        // All of this fails only when it has ended, or is where nobody can reach it.
        let _ = match &self.host {
            Host::Fleet(fleet, _) => fleet.signal(&[self.node], libc::SIGKILL),
            Host::Here | Host::Lab(_) => child.start_kill().map_err(Into::into),
        };
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
            (self.child, self.exited) = (None, Some(self.of_process(status)));
        }
        self.exited
    }

    /// How the process ended, where ssh says it: as shells say it.
    fn of_process(&self, status: ExitStatus) -> ExitStatus {
        match (&self.host, status.code()) {
            (Host::Fleet(..), Some(code @ 129..SSH_FAILED)) => ExitStatus::from_raw(code - 128),
            _ => status,
        }
    }

    /// An end that says nothing of the process: the way to its host is gone.
    ///
    /// # Errors
    /// It is.
    pub(super) fn is_heard(&self, status: ExitStatus) -> Result<()> {
        if matches!(self.host, Host::Fleet(..)) && status.code() == Some(SSH_FAILED) {
            let log = self.log_of_last_life()?;
            // ssh's words stand among the node's, which begin with a date.
            let said = log.lines().rfind(|line| !line.starts_with(|c: char| c.is_ascii_digit()));
            let why = Why::Lost(said.unwrap_or_default().to_owned());
            return Err(HostError { host: format!("n{}", self.node), why }.into());
        }
        Ok(())
    }

    /// Waits for the end; whoever does expects it, and it is no longer in `exited`.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(child) = &mut self.child {
            let status = child.wait().await.context("waiting for the process")?;
            (self.child, self.exited) = (None, Some(self.of_process(status)));
        }
        if let Some(status) = self.exited {
            self.is_heard(status)?;
        }
        self.exited.take().with_context(|| format!("node {} does not run", self.node))
    }

    pub(super) fn pid(&self) -> Result<u32> {
        let pid = self.child.as_ref().and_then(Child::id);
        pid.with_context(|| format!("node {} does not run", self.node))
    }

    pub(super) fn signal(&mut self, signal: i32) -> Result<()> {
        let pid = i32::try_from(self.pid()?)?;
        if let Host::Fleet(fleet, _) = &self.host {
            return fleet.signal(&[self.node], signal);
        }
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
