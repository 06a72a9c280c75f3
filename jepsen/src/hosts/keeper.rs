//! The conversation with the script that keeps a host: a line, and a line of answer.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{error::Why, ssh::Ssh};

const SCRIPT: &str = include_str!("keeper.sh");

/// Between two signs of life. The keeper gives up after four times five seconds without one.
const BEAT_EVERY: Duration = Duration::from_secs(2);

/// How long a keeper may tidy up before it is left to do so alone.
const TIDY_WITHIN: Duration = Duration::from_secs(20);

/// The script on one host. When this is dropped, the node there ends, rules go, folders are removed.
#[derive(Debug)]
pub struct Keeper(Mutex<Talk>);

#[derive(Debug)]
pub(super) struct Talk {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Keeper {
    /// Starts it. The thread that does must outlive it.
    ///
    /// # Errors
    /// Another run has the host, or the connection is gone.
    pub fn start(ssh: &Ssh, base: &str) -> Result<Self, Why> {
        let mut command = ssh.command(&["sh", "-c", SCRIPT, "quorate-jepsen-keeper", base]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Why::NoClient(error.to_string()))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Why::Lost("it has no standard input".to_owned()));
        };
        let mut talk = Talk { child, to: Some(to), from: BufReader::new(from) };
        match talk.line()?.as_str() {
            "ready" => Ok(Self(Mutex::new(talk))),
            said => match said.strip_prefix("busy ") {
                Some(by) => Err(Why::Busy(by.to_owned())),
                None => Err(Why::Failed { what: "starting our keeper", said: said.to_owned() }),
            },
        }
    }

    /// For a line or several, with nobody in between.
    pub(super) fn talk(&self) -> MutexGuard<'_, Talk> {
        // A conversation that broke off in the middle is found broken by the next.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says a line and waits for its answer.
    ///
    /// # Errors
    /// The host could not do it, or is gone.
    pub fn ask(&self, what: &'static str, line: &str) -> Result<String, Why> {
        let mut talk = self.talk();
        talk.say(line)?;
        talk.answer(what)
    }
}

impl Talk {
    pub(super) fn say(&mut self, line: &str) -> Result<(), Why> {
        let Some(to) = &mut self.to else { return Err(Why::Lost("it was let go".to_owned())) };
        let said = to.write_all(format!("{line}\n").as_bytes()).and_then(|()| to.flush());
        said.map_err(|error| Why::Lost(error.to_string()))
    }

    pub(super) fn answer(&mut self, what: &'static str) -> Result<String, Why> {
        let line = self.line()?;
        let (code, said) = line.split_once(' ').unwrap_or((&line, ""));
        let said = said.trim().to_owned();
        if code == "0" { Ok(said) } else { Err(Why::Failed { what, said }) }
    }

    fn line(&mut self) -> Result<String, Why> {
        let mut line = String::new();
        match self.from.read_line(&mut line) {
            Ok(1..) if line.ends_with('\n') => Ok(line.trim_end().to_owned()),
            Err(error) => Err(Why::Lost(error.to_string())),
            Ok(_) => {
                // It has ended, so its last words have an end.
                let mut said = String::new();
                if let Some(mut stderr) = self.child.stderr.take() {
                    // What cannot be read is missing in the message, no more.
                    let _ = stderr.read_to_string(&mut said);
                }
                Err(Why::Lost(said.trim().to_owned()))
            }
        }
    }

    /// Lets it tidy up and go.
    pub(super) fn end(&mut self) {
        self.to = None;
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > TIDY_WITHIN {
                // It goes on without us: its input has ended.
                drop(self.child.kill());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.end();
    }
}

/// Tells keepers that the runner lives, until it is dropped.
#[derive(Debug)]
pub(super) struct Heart {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    pub(super) fn start(keepers: Vec<Arc<Keeper>>) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(BEAT_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                for keeper in &keepers {
                    // Who is talking to it is a sign of life, too. One that is gone is noticed by
                    // whoever wants something of it.
                    if let Ok(mut talk) = keeper.0.try_lock() {
                        drop(talk.say("beat"));
                    }
                }
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, there is nothing left to stop.
            drop(thread.join());
        }
    }
}
