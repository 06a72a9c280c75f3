//! Stops some threads of a process while its others go on: what a signal cannot do. The kernel's
//! tracing does it, so the process needs no hook for it.

use std::{
    path::PathBuf,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, ensure};

/// Threads that are stopped until this is dropped.
#[derive(Debug)]
pub struct FrozenThreads {
    states: Vec<PathBuf>,
    /// Closed when they may go on.
    held: Option<mpsc::Sender<()>>,
    /// Only the thread that stopped them can let them go.
    tracer: Option<JoinHandle<()>>,
}

impl FrozenThreads {
    /// Stops all threads of this name.
    ///
    /// # Errors
    /// There are none, or the kernel allows no tracing.
    pub fn freeze(pid: u32, name: &str) -> Result<Self> {
        let mut threads = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            let thread: libc::pid_t = task.file_name().to_string_lossy().parse()?;
            // One that has just ended has no name any more.
            let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if comm.trim_end() == name {
                threads.push(thread);
            }
        }
        ensure!(!threads.is_empty(), "process {pid} has no thread {name:?}");
        let states = threads.iter().map(|id| format!("/proc/{pid}/task/{id}/stat").into());
        let states = states.collect();
        let (held, release) = mpsc::channel::<()>();
        let (say, said) = mpsc::channel();
        let tracer = thread::spawn(move || {
            let stopped = threads.iter().try_for_each(|id| stop(*id));
            // Whoever asked waits for this.
            let _ = say.send(stopped);
            // An error is the end of `held`, which is what is waited for.
            let _ = release.recv();
            threads.iter().for_each(|id| let_go(*id));
        });
        let frozen = Self { states, held: Some(held), tracer: Some(tracer) };
        said.recv().map_err(|_| anyhow!("the tracing thread died"))??;
        Ok(frozen)
    }

    /// How many stand still.
    #[must_use]
    pub fn standing(&self) -> usize {
        let stands = |path: &&PathBuf| {
            let stat = std::fs::read_to_string(path).unwrap_or_default();
            // The state comes behind the name, which is in parentheses.
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('t'))
        };
        self.states.iter().filter(stands).count()
    }
}

impl Drop for FrozenThreads {
    fn drop(&mut self) {
        self.held = None;
        if let Some(tracer) = self.tracer.take() {
            // If it panicked, its end let the threads go.
            let _ = tracer.join();
        }
    }
}

fn stop(thread: libc::pid_t) -> Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests read and write no memory of this process.
    unsafe {
        for (request, what) in
            [(libc::PTRACE_SEIZE, "tracing a thread"), (libc::PTRACE_INTERRUPT, "stopping it")]
        {
            if libc::ptrace(request, thread, none, none) != 0 {
                return Err(std::io::Error::last_os_error()).context(what);
            }
        }
        let mut status = 0;
        if libc::waitpid(thread, &raw mut status, libc::__WALL) != thread {
            return Err(std::io::Error::last_os_error()).context("waiting for it to stop");
        }
        ensure!(libc::WIFSTOPPED(status), "thread {thread} ended when it was to be stopped");
    }
    Ok(())
}

fn let_go(thread: libc::pid_t) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: as in `stop`. It fails only for a thread that is gone.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, thread, none, none) };
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    /// Kills it if the test fails half-way.
    struct Echo(Child);

    impl Drop for Echo {
        fn drop(&mut self) {
            // It may have ended.
            let _ = self.0.kill().and_then(|()| self.0.wait());
        }
    }

    #[test]
    fn threads_stand_still_until_they_are_let_go() {
        let mut command = Command::new("cat");
        let mut echo =
            Echo(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat starts"));
        let (mut to, from) = (echo.0.stdin.take().unwrap(), echo.0.stdout.take().unwrap());
        let mut from = BufReader::new(from);
        let mut line = String::new();
        // It goes on, so it has become `cat`: before, it had this program's name.
        to.write_all(b"before\n").unwrap();
        from.read_line(&mut line).unwrap();
        let frozen = FrozenThreads::freeze(echo.0.id(), "cat").unwrap();
        assert_eq!(frozen.standing(), 1);
        // Work for it; the kernel says that it does not wake up for that.
        to.write_all(b"behind\n").unwrap();
        assert_eq!(frozen.standing(), 1);
        drop(frozen);
        from.read_line(&mut line).unwrap();
        assert_eq!(line, "before\nbehind\n");
        drop(to);
        let start = Instant::now();
        while echo.0.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "it was not let go");
            thread::yield_now();
        }
        assert!(FrozenThreads::freeze(echo.0.id(), "cat").is_err());
    }
}
