//! A network of its own for a process: a Linux network namespace without a name.
//!
//! It lives as long as a process or an open descriptor uses it. So nothing of it is left behind,
//! however the runner ends: its nodes are told to die with it, and the kernel takes the interfaces,
//! addresses and rules down.

use std::{
    fs::File,
    io::Write as _,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, ensure};

/// An open network namespace.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl Namespace {
    /// Makes one, empty but for a loopback interface that is down.
    ///
    /// # Errors
    /// Not root, or the kernel has none.
    pub fn new() -> Result<Self> {
        // Of a thread, because only threads move; this one ends at once.
        let made = std::thread::spawn(|| -> Result<OwnedFd> {
            // SAFETY: unshare with this flag changes the calling thread and touches no memory.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(std::io::Error::last_os_error()).context("a network namespace");
            }
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        });
        Ok(Self(joined(made)??))
    }

    /// Its descriptor as a path that other programs can open while this process lives.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Moves the calling thread, and all threads it starts, into it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(&self) -> std::io::Result<()> {
        // SAFETY: the descriptor is open as long as `self`; the call touches no memory.
        match unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    /// Lets a command run in it.
    pub fn hold(&self, command: &mut Command) {
        let namespace = self.0.as_raw_fd();
        // SAFETY: setns is async-signal-safe and touches no memory. The descriptor is still open:
        // whoever starts the command has `self`, or a lab that has it.
        unsafe {
            command.pre_exec(move || match libc::setns(namespace, libc::CLONE_NEWNET) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
    }

    /// Does something on a thread inside it.
    ///
    /// # Errors
    /// The kernel refuses, or what is done panics.
    pub fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<T> {
                self.enter().context("entering a network namespace")?;
                Ok(what())
            });
            thread.join().map_err(|_| anyhow!("a thread in a network namespace panicked"))?
        })
    }

    /// Runs a program in it, with this on its standard input, and gives what it says.
    ///
    /// # Errors
    /// There is no such program, or it fails.
    pub fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.hold(&mut command);
        let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        // Inputs are smaller than a pipe. A program that ends without reading says why below.
        let written = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{program} {}: {}: {}",
            arguments.join(" "),
            output.status,
            said.trim()
        );
        written.with_context(|| format!("telling {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn joined<T>(thread: std::thread::JoinHandle<T>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))
}
