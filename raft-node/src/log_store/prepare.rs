//! Makes segments ready before they are needed, on a thread of its own: the sync thread neither
//! fills files nor waits for directories, as long as this keeps up.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use super::{
    durability::sync_dir,
    segment::{self, Segment},
    shared::{Counters, Shared},
};

enum Job {
    /// See that enough spares are there.
    Fill,
    /// Nobody needs it any more.
    Recycle(Arc<Segment>),
}

struct Pool {
    dir: PathBuf,
    bytes: u64,
    wanted: usize,
    ready: Mutex<VecDeque<PathBuf>>,
    next_number: AtomicU64,
    shared: Arc<Shared>,
}

/// The sync thread's side. Ends the thread when it is dropped.
pub(super) struct Preparer {
    pool: Arc<Pool>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Preparer {
    /// Starts the thread. `spares` were found at the start.
    pub fn start(
        dir: PathBuf,
        bytes: u64,
        wanted: usize,
        spares: Vec<PathBuf>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        // Numbers of spares only have to differ from each other.
        let next_number = spares
            .iter()
            .filter_map(|p| u64::from_str_radix(p.file_stem()?.to_str()?, 16).ok())
            .max()
            .map_or(0, |n| n + 1);
        let pool = Arc::new(Pool {
            dir,
            bytes,
            wanted,
            ready: Mutex::new(spares.into()),
            next_number: AtomicU64::new(next_number),
            shared,
        });
        let (jobs, work) = mpsc::channel();
        let for_thread = pool.clone();
        let thread = thread::Builder::new().name("log-prepare".to_owned()).spawn(move || {
            for job in work {
                for_thread.carry_out(job);
            }
        })?;
        let this = Self { pool, jobs: Some(jobs), thread: Some(thread) };
        this.send(Job::Fill);
        Ok(this)
    }

    fn send(&self, job: Job) {
        // The thread ends only when this handle is dropped.
        let _ = self.jobs.as_ref().expect("there until dropped").send(job);
    }

    /// A spare; made on the spot if none is ready.
    pub fn take(&self) -> io::Result<PathBuf> {
        let ready = self.pool.ready().pop_front();
        self.send(Job::Fill);
        match ready {
            Some(spare) => Ok(spare),
            None => {
                Counters::add(&self.pool.shared.counters.unprepared, 1);
                self.pool.make()
            }
        }
    }

    /// Gives back a segment whose entries are all purged.
    pub fn recycle(&self, segment: Arc<Segment>) {
        self.send(Job::Recycle(segment));
    }

    /// Spares that are ready.
    pub fn ready(&self) -> usize {
        self.pool.ready().len()
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the hook already.
            let _ = thread.join();
        }
    }
}

impl Pool {
    fn ready(&self) -> std::sync::MutexGuard<'_, VecDeque<PathBuf>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> io::Result<PathBuf> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        segment::make_spare(&self.dir, number, self.bytes)
    }

    fn carry_out(&self, job: Job) {
        let result = match job {
            Job::Fill => self.fill(),
            Job::Recycle(segment) => self.recycle(segment),
        };
        if let Err(error) = result {
            // The sync thread meets the same error when it needs a segment, and stops the node; a
            // full disk that is emptied in time does no harm.
            tracing::warn!(%error, dir = %self.dir.display(), "could not prepare a log segment");
        }
    }

    fn fill(&self) -> io::Result<()> {
        while self.ready().len() < self.wanted {
            let spare = self.make()?;
            self.ready().push_back(spare);
        }
        Ok(())
    }

    fn recycle(&self, segment: Arc<Segment>) -> io::Result<()> {
        // A reader may hold it still: then the name goes, and the bytes stay until he is done.
        // One more than is ever made: in a steady state nothing is made and nothing removed.
        if self.ready().len() > self.wanted || Arc::strong_count(&segment) > 1 {
            std::fs::remove_file(&segment.path)?;
            return sync_dir(&self.dir);
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let spare = segment::retire(&self.dir, &segment.path, number)?;
        Counters::add(&self.shared.counters.recycled, 1);
        self.ready().push_back(spare);
        Ok(())
    }
}
