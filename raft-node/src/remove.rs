//! Removes directories of large files without taking the disk from the log.
//!
//! A file system mounted with `discard` (most images for clouds are) tells the device about every
//! block that it gets back, and devices serve little else meanwhile: removing eight files of 64 MiB
//! one after the other left a writer like the log's 18 durable writes a second out of 32,000. So one
//! thread for the whole process gives large files back in steps, and rests between them.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

/// Given back at once, bytes. A quarter of it takes twice as long in all; four times as much holds up
/// the log's writes ten times as long (docs/adr/0015).
const STEP: u64 = 8 << 20;

/// Rests between steps are so many times as long as the step took, while little waits.
const REST: f64 = 3.0;

/// From so many waiting bytes on there are no rests: room that others need is not kept back.
const HURRY: u64 = 4 << 30;

/// No rest is longer: a device that hangs once must not put off the next step for minutes.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Removes the directory `path`, which nobody uses any more, soon and elsewhere. What is left when
/// the process ends is for the next start to sweep. Its name must not be used again meanwhile.
///
/// Files with another name (a hard link) stay whole under that, and those that are open in this
/// process stay whole for who has them open: neither is cut.
pub fn directory(path: PathBuf) {
    // Another thread would finish whenever it likes.
    if cfg!(feature = "simulation") {
        return at_once(&path);
    }
    static QUEUE: OnceLock<Sender<PathBuf>> = OnceLock::new();
    let queue = QUEUE.get_or_init(|| {
        let (queue, jobs) = mpsc::channel();
        if let Err(error) = thread::Builder::new().name("remove".to_owned()).spawn(|| run(jobs)) {
            tracing::warn!(%error, "no thread to remove directories: done at once instead");
        }
        queue
    });
    if let Err(mpsc::SendError(path)) = queue.send(path) {
        at_once(&path);
    }
}

/// Removes the directory `path`, if it is there, before this returns.
pub fn at_once(path: &Path) {
    told(path, fs::remove_dir_all(path));
}

/// Costs disk, never correctness: leftovers are swept at the next start.
fn told(path: &Path, removed: io::Result<()>) {
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "could not remove an obsolete directory");
    }
}

fn run(jobs: Receiver<PathBuf>) {
    let mut backlog = Backlog { jobs, waiting: VecDeque::new(), left: 0 };
    while let Ok(path) = backlog.next() {
        told(&path, remove(&path, &mut backlog));
    }
}

/// Directories that wait, each with what it gives back.
struct Backlog {
    jobs: Receiver<PathBuf>,
    waiting: VecDeque<(PathBuf, u64)>,
    /// What the one that is being removed still gives back.
    left: u64,
}

impl Backlog {
    fn next(&mut self) -> Result<PathBuf, mpsc::RecvError> {
        self.take_all();
        let next = match self.waiting.pop_front() {
            Some(next) => next,
            None => measured(self.jobs.recv()?),
        };
        self.left = next.1;
        Ok(next.0)
    }

    fn take_all(&mut self) {
        while let Ok(path) = self.jobs.try_recv() {
            self.waiting.push_back(measured(path));
        }
    }

    /// Rests behind a step that took so long, and gave so much back.
    fn rest(&mut self, took: Duration, bytes: u64) {
        self.take_all();
        self.left = self.left.saturating_sub(bytes);
        let waiting: u64 = self.waiting.iter().map(|(_, bytes)| bytes).sum();
        thread::sleep(rest(took, self.left + waiting));
    }
}

fn measured(path: PathBuf) -> (PathBuf, u64) {
    let bytes = bytes_of(&path).unwrap_or(0);
    (path, bytes)
}

fn rest(took: Duration, waiting: u64) -> Duration {
    let calm = 1.0 - waiting.min(HURRY) as f64 / HURRY as f64;
    took.mul_f64(REST * calm).min(LONGEST_REST)
}

/// Bytes that removing the directory gives back.
fn bytes_of(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for item in fs::read_dir(path)? {
        let meta = item?.metadata()?;
        bytes += if meta.is_file() && meta.nlink() == 1 { meta.len() } else { 0 };
    }
    Ok(bytes)
}

fn remove(dir: &Path, backlog: &mut Backlog) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            fs::remove_dir_all(item.path())?;
        } else {
            match give_back(&item.path(), |took, bytes| backlog.rest(took, bytes)) {
                // Who made it has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
    }
    fs::remove_dir(dir)
}

/// Removes one file: in steps from its end, if this is its only name and nobody here reads it. Nobody
/// can begin to: its name is in a directory that nobody uses.
fn give_back(path: &Path, mut rest: impl FnMut(Duration, u64)) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let only_here = meta.is_file() && meta.nlink() == 1;
    let mut left = if only_here { meta.len() } else { 0 };
    if left > STEP && !is_open(&meta)? {
        let file = File::options().write(true).open(path)?;
        for step in (1..left.div_ceil(STEP)).rev() {
            let began = Instant::now();
            file.set_len(step * STEP)?;
            rest(began.elapsed(), left - step * STEP);
            left = step * STEP;
        }
    }
    let began = Instant::now();
    fs::remove_file(path)?;
    rest(began.elapsed(), left);
    Ok(())
}

/// Whether this process has the file open: a reader of a state that was replaced since, whose
/// RocksDB keeps files open that have no name any more.
fn is_open(meta: &fs::Metadata) -> io::Result<bool> {
    for open in fs::read_dir("/proc/self/fd")? {
        // One that was closed meanwhile is no file any more.
        let Ok(open) = fs::metadata(open?.path()) else { continue };
        if (open.dev(), open.ino()) == (meta.dev(), meta.ino()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn large(path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(3 * STEP + 1).unwrap();
    }

    #[test]
    fn a_file_goes_in_steps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("7.blob");
        large(&path);
        let mut left = Vec::new();
        give_back(&path, |_, _| left.push(fs::metadata(&path).ok().map(|meta| meta.len())))
            .unwrap();
        assert_eq!(left, [Some(3 * STEP), Some(2 * STEP), Some(STEP), None]);
    }

    #[test]
    fn a_file_with_another_name_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("7.blob"), dir.path().join("other"));
        large(&path);
        fs::hard_link(&path, &other).unwrap();
        let mut steps = 0;
        give_back(&path, |_, _| steps += 1).unwrap();
        assert!(!path.exists());
        assert_eq!((fs::metadata(&other).unwrap().len(), steps), (3 * STEP + 1, 1));
    }

    #[test]
    fn a_file_that_is_read_stays_whole_for_its_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("7.blob");
        large(&path);
        let reader = File::open(&path).unwrap();
        give_back(&path, |_, bytes| assert_eq!(bytes, 3 * STEP + 1, "at once")).unwrap();
        assert!(!path.exists());
        assert_eq!(reader.metadata().unwrap().len(), 3 * STEP + 1);
    }

    #[test]
    fn rests_end_when_much_waits() {
        assert_eq!(rest(ms(10), 0), ms(30));
        assert_eq!(rest(ms(10), HURRY / 2), ms(15));
        assert_eq!(rest(ms(10), HURRY), Duration::ZERO);
        assert_eq!(rest(ms(10), u64::MAX), Duration::ZERO);
        assert_eq!(rest(Duration::from_secs(60), 0), LONGEST_REST);
    }

    #[test]
    fn what_waits_is_what_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        large(&one.join("a"));
        fs::hard_link(one.join("a"), two.join("a")).unwrap();
        large(&two.join("b"));
        assert_eq!((bytes_of(&one).unwrap(), bytes_of(&two).unwrap()), (0, 3 * STEP + 1));
        assert!(bytes_of(&dir.path().join("3")).is_err());
    }

    #[test]
    fn directories_go_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [1, 2, 3].map(|n| dir.path().join(n.to_string()));
        for path in &paths {
            fs::create_dir_all(path.join("sub")).unwrap();
            large(&path.join("a"));
            directory(path.clone());
        }
        directory(dir.path().join("missing"));
        let end = Instant::now() + Duration::from_secs(30);
        while paths.iter().any(|path| path.exists()) {
            assert!(Instant::now() < end, "they go");
            thread::sleep(ms(5));
        }
    }
}
