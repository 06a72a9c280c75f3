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
    durability::{Method, sync_dir},
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
    /// Made ahead of need.
    wanted: usize,
    /// Kept at most, of what is given back; more than `wanted`, so that in a steady state nothing is
    /// made and nothing removed.
    kept: usize,
    method: Method,
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
        kept: usize,
        method: Method,
        spares: Vec<PathBuf>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let next_number = next_number(&spares);
        let pool = Arc::new(Pool {
            dir,
            bytes,
            wanted,
            kept: wanted.saturating_add(kept.max(1)),
            method,
            ready: Mutex::new(spares.into()),
            next_number: AtomicU64::new(next_number),
            shared,
        });
        let (jobs, work) = mpsc::channel();
        let for_thread = pool.clone();
        let thread = thread::Builder::new().name("log-prepare".to_owned()).spawn(move || {
            let mut waiting = VecDeque::new();
            for job in work {
                if let Err(error) = for_thread.carry_out(job, &mut waiting) {
                    // The sync thread meets the same error when it needs a segment, and stops
                    // the node; a full disk that is emptied in time does no harm.
                    let dir = for_thread.dir.display();
                    tracing::warn!(%error, %dir, "could not prepare a log segment");
                }
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
        segment::make_spare(&self.dir, number, self.bytes, self.method)
    }

    /// Carries out `job`, after the segments that could not be given back before: a younger one
    /// must never be gone while an older one is there, or the next start takes it for lost.
    fn carry_out(&self, job: Job, waiting: &mut VecDeque<Arc<Segment>>) -> io::Result<()> {
        if let Job::Recycle(segment) = job {
            waiting.push_back(segment);
        }
        while let Some(oldest) = waiting.front() {
            self.recycle(oldest)?;
            waiting.pop_front();
        }
        self.fill()
    }

    fn fill(&self) -> io::Result<()> {
        while self.ready().len() < self.wanted {
            let spare = self.make()?;
            self.ready().push_back(spare);
        }
        Ok(())
    }

    fn recycle(&self, segment: &Arc<Segment>) -> io::Result<()> {
        // A reader may hold it still: then the name goes, and the bytes stay until he is done.
        if self.ready().len() >= self.kept
            || Arc::strong_count(segment) > 1
            || segment.file_bytes()? != self.bytes
        {
            std::fs::remove_file(&segment.path).or_else(gone_already)?;
            return sync_dir(&self.dir);
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let spare = match segment::retire(&self.dir, &segment.path, number) {
            // A spare of the first try; the next start finds it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return sync_dir(&self.dir),
            spare => spare?,
        };
        Counters::add(&self.shared.counters.recycled, 1);
        self.ready().push_back(spare);
        Ok(())
    }
}

/// The second try with a file whose directory could not be synced at the first.
fn gone_already(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// A number for a spare's name; they only have to differ from each other.
pub(super) fn next_number(spares: &[PathBuf]) -> u64 {
    spares
        .iter()
        .filter_map(|p| u64::from_str_radix(p.file_stem()?.to_str()?, 16).ok())
        .max()
        .map_or(0, |n| n + 1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_younger_segment_never_goes_before_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::new(std::collections::BTreeMap::new(), 0, 0));
        let pool = Pool {
            dir: dir.path().to_owned(),
            // Not theirs: both are to be removed.
            bytes: 1,
            wanted: 0,
            kept: 1,
            method: Method::Fdatasync,
            ready: Mutex::default(),
            next_number: AtomicU64::new(0),
            shared,
        };
        let (older, younger) = (dir.path().join("1"), dir.path().join("2"));
        // A directory can't be removed as a file.
        fs::create_dir(&older).unwrap();
        fs::write(&younger, "").unwrap();
        let job = |id, path: &PathBuf| {
            Job::Recycle(Arc::new(Segment::open(id, path.clone(), 0, 0).unwrap()))
        };
        let mut waiting = VecDeque::new();
        pool.carry_out(job(1, &older), &mut waiting).unwrap_err();
        pool.carry_out(job(2, &younger), &mut waiting).unwrap_err();
        assert!(younger.exists());
        fs::remove_dir(&older).unwrap();
        pool.carry_out(Job::Fill, &mut waiting).unwrap();
        assert!(!younger.exists() && waiting.is_empty());
    }
}
