//! The history, written while it happens: a run that dies leaves all it saw.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result};
use quorate_jepsen_core::{
    history::{Event, History, write_event},
    ids::{Moment, OpId, Process, RecordId},
    op::{Answer, Call},
};

/// A history in the making, shared by all clients of a run.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next_op: u64,
    next_process: u32,
    next_record: u64,
    acknowledged: usize,
    events: Vec<Event>,
    file: BufWriter<File>,
}

impl Recorder {
    /// Starts the history of a run in `dir`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(dir: &Path, name: &str, seed: u64) -> Result<Self> {
        let path = dir.join("history.jsonl");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let state = State {
            next_op: 0,
            next_process: 0,
            next_record: 0,
            acknowledged: 0,
            events: Vec::new(),
            file: BufWriter::new(file),
        };
        let recorder =
            Self(Arc::new(Shared { start: Instant::now(), path, state: Mutex::new(state) }));
        recorder.add(Event::Run { name: name.to_owned(), seed });
        Ok(recorder)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A client that panicked between two pushes left nothing half done.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.0.start.elapsed().as_nanos()).expect("a run of 584 years"))
    }

    /// Where the history is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A new sequential client.
    #[must_use]
    pub fn process(&self) -> Process {
        let mut state = self.state();
        state.next_process += 1;
        Process(state.next_process)
    }

    /// Records that were never used before.
    #[must_use]
    pub fn fresh_records(&self, count: usize) -> Vec<RecordId> {
        let mut state = self.state();
        let first = state.next_record;
        state.next_record += count as u64;
        (first..state.next_record).map(RecordId).collect()
    }

    /// Notes a call. The time is taken under the lock: two submissions of one producer, made one
    /// after the other, have their times in that order.
    #[must_use]
    pub fn invoke(&self, process: Process, call: Call) -> OpId {
        let mut state = self.state();
        let op = OpId(state.next_op);
        state.next_op += 1;
        let at = self.now();
        state.push(Event::Invoke { op, process, at, call });
        op
    }

    /// Now, for [`Recorder::invoke_at`].
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.now()
    }

    /// Notes a call that was made at an earlier moment.
    #[must_use]
    pub fn invoke_at(&self, process: Process, call: Call, at: Moment) -> OpId {
        let mut state = self.state();
        let op = OpId(state.next_op);
        state.next_op += 1;
        state.push(Event::Invoke { op, process, at, call });
        op
    }

    /// Notes its answer.
    pub fn answer(&self, op: OpId, answer: Answer) {
        let at = self.now();
        self.add(Event::Return { op, at, answer });
    }

    /// Notes something done to the cluster, and shows it.
    pub fn fault(&self, what: impl Into<String>) {
        let (at, what) = (self.now(), what.into());
        eprintln!("{:>9.3} s  {what}", at.0 as f64 / 1e9);
        self.add(Event::Fault { at, what });
    }

    /// Adds an event.
    pub fn add(&self, event: Event) {
        self.state().push(event);
    }

    /// How many appends were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.state().acknowledged
    }

    /// The history so far.
    ///
    /// # Errors
    /// It cannot be written out, or is inconsistent.
    pub fn history(&self) -> Result<History> {
        let mut state = self.state();
        state.file.flush()?;
        Ok(History::from_events(state.events.iter().cloned())?)
    }
}

impl State {
    fn push(&mut self, event: Event) {
        write_event(&mut self.file, &event).expect("the history must be written");
        if matches!(event, Event::Return { answer: Answer::Appended { .. }, .. }) {
            self.acknowledged += 1;
        }
        self.events.push(event);
    }
}
