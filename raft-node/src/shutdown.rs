//! The end of a node that is told to stop: phases in order, each with a limit, because an operator
//! who stops a node wants it stopped. A phase that takes longer is given up and the next one
//! begins: nothing acknowledged depends on a clean end, which only spares the others a timeout and
//! this node some recovery.

use std::{io, time::Duration};

use futures::future::BoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{observe::exit::ExitCode, runtime};

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches both from now on. Called before anything is started: a stop that comes during the
    /// start must not be lost.
    ///
    /// # Errors
    /// The operating system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them and gives its name. From then on the next one ends the process at
    /// once with [`ExitCode::Software`], even if the event loop hangs by then. May be dropped and
    /// called again while nothing came.
    ///
    /// # Errors
    /// The operating system refuses the handler for the second signal.
    pub async fn first(&mut self) -> io::Result<&'static str> {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        exit_on(libc::SIGTERM)?;
        exit_on(libc::SIGINT)?;
        Ok(name)
    }
}

const CUT_SHORT: &[u8] = b"a second signal: stopped at once; nothing acknowledged is lost\n";

/// Only async-signal-safe calls (signal-safety(7)).
extern "C" fn cut_short(_: libc::c_int) {
    // SAFETY: writes a static buffer and leaves; neither call returns to code that was interrupted.
    unsafe {
        libc::write(libc::STDERR_FILENO, CUT_SHORT.as_ptr().cast(), CUT_SHORT.len());
        libc::_exit(libc::c_int::from(ExitCode::Software.code()));
    }
}

fn exit_on(signal: libc::c_int) -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = cut_short;
    // SAFETY: an all-zero sigaction is valid (no flags, empty mask); the handler has the type that
    // goes with the absence of SA_SIGINFO and lives as long as the process.
    let failed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigaction(signal, &action, std::ptr::null_mut())
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

type Work<'a> = Box<dyn FnOnce() -> BoxFuture<'a, ()> + Send + 'a>;

struct Phase<'a> {
    name: &'static str,
    limit: Duration,
    work: Work<'a>,
}

/// What a shutdown consists of, in order.
#[derive(Default)]
pub struct Phases<'a> {
    phases: Vec<Phase<'a>>,
}

/// How a shutdown went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Phases that were given up at their limit.
    pub late: Vec<&'static str>,
}

impl<'a> Phases<'a> {
    /// No phase yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a phase after those before it. `work` is called when its turn comes; its future is
    /// dropped when it is not done within `limit`, so it must be safe to drop. What it blocks a
    /// thread with is not limited by this: blocking work goes through [`runtime::blocking`].
    #[must_use]
    pub fn then<F>(
        mut self,
        name: &'static str,
        limit: Duration,
        work: impl FnOnce() -> F + Send + 'a,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'a,
    {
        self.phases.push(Phase { name, limit, work: Box::new(|| Box::pin(work())) });
        self
    }

    /// Runs them all.
    pub async fn run(self) -> Report {
        let mut report = Report::default();
        for Phase { name, limit, work } in self.phases {
            let began = runtime::now();
            match runtime::timeout(limit, work()).await {
                Ok(()) => {
                    let ms = began.elapsed().as_millis() as u64;
                    tracing::info!(phase = name, ms, "shutdown phase done");
                }
                Err(_) => {
                    let limit_ms = limit.as_millis() as u64;
                    tracing::warn!(phase = name, limit_ms, "shutdown phase given up at its limit");
                    report.late.push(name);
                }
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What happened, with the virtual time of it.
    struct Diary {
        began: runtime::Instant,
        lines: Mutex<Vec<String>>,
    }

    impl Diary {
        fn new() -> Self {
            Self { began: runtime::now(), lines: Mutex::default() }
        }

        fn note(&self, what: &str) {
            let ms = self.began.elapsed().as_millis();
            self.lines.lock().unwrap().push(format!("{ms}: {what}"));
        }

        /// Takes so long, and notes when it was left before its end.
        async fn work(&self, name: &str, ms: u64) {
            struct Left<'a>(&'a Diary, String, bool);
            impl Drop for Left<'_> {
                fn drop(&mut self) {
                    if !self.2 {
                        self.0.note(&format!("{} dropped", self.1));
                    }
                }
            }
            self.note(&format!("{name} begins"));
            let mut left = Left(self, name.to_owned(), false);
            runtime::sleep(Duration::from_millis(ms)).await;
            left.2 = true;
            self.note(&format!("{name} done"));
        }
    }

    const LIMIT: Duration = Duration::from_millis(1_000);

    #[tokio::test(start_paused = true)]
    async fn phases_run_one_after_the_other() {
        let diary = &Diary::new();
        let phases = Phases::new()
            .then("drain", LIMIT, || diary.work("drain", 300))
            .then("hand over", LIMIT, || diary.work("hand over", 0))
            .then("close", LIMIT, || async { diary.note("close") });
        assert_eq!(*diary.lines.lock().unwrap(), [""; 0], "nothing begins before its turn");
        assert_eq!(phases.run().await, Report::default());
        let want =
            ["0: drain begins", "300: drain done", "300: hand over begins", "301: hand over done"];
        let got = diary.lines.lock().unwrap();
        assert_eq!(got[..3], want[..3]);
        assert!(got[4].ends_with(": close"), "{got:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_phase_that_hangs_is_given_up_and_the_next_begins() {
        let diary = &Diary::new();
        let report = Phases::new()
            .then("drain", LIMIT, || diary.work("drain", 60_000))
            .then("never", LIMIT, || async {
                diary.note("never begins");
                std::future::pending().await
            })
            .then("close", LIMIT, || async { diary.note("close") })
            .run()
            .await;
        assert_eq!(report.late, ["drain", "never"]);
        let got = diary.lines.lock().unwrap();
        assert_eq!(got.len(), 4, "{got:?}");
        // Timers are kept to the millisecond, rounded up.
        for (line, (from, what)) in got.iter().zip([
            (0, "drain begins"),
            (1_000, "drain dropped"),
            (1_000, "never begins"),
            (2_000, "close"),
        ]) {
            let (ms, line) = line.split_once(": ").unwrap();
            let ms: u64 = ms.parse().unwrap();
            assert!(line == what && (from..from + 5).contains(&ms), "{got:?}");
        }
    }
}
