//! What holds while a write is under way: nobody waits, nothing is mixed up, everybody is answered.

use std::{
    fs::File,
    io,
    sync::{Arc, Condvar, Mutex, mpsc},
};

use super::{super::*, all, append, entry, open_with, options, run, scratch};

#[derive(Default)]
struct State {
    /// Writes that may still pass.
    passes: u64,
    /// Writes that are waiting.
    waiting: bool,
    failing: bool,
}

/// A disk whose every write waits until the test lets it pass.
#[derive(Default)]
struct GatedDisk {
    state: Mutex<State>,
    changed: Condvar,
}

impl GatedDisk {
    fn pass(&self, writes: u64) {
        self.state.lock().unwrap().passes += writes;
        self.changed.notify_all();
    }

    fn fail(&self) {
        self.state.lock().unwrap().failing = true;
        self.pass(1);
    }

    /// Returns when a write is waiting at the gate.
    fn wait_for_write(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |s| !s.waiting || s.passes > 0).unwrap());
    }
}

impl Disk for GatedDisk {
    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.waiting = true;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |s| s.passes == 0).unwrap();
        state.waiting = false;
        state.passes -= 1;
        if state.failing {
            return Err(io::Error::other("the gate has failed"));
        }
        drop(state);
        RealDisk.write(file, at, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }
}

/// A log without entries, whose next write waits at the gate.
fn gated(dir: &Path) -> (LogStore, Arc<GatedDisk>) {
    let disk = Arc::new(GatedDisk::default());
    // The header of the first segment.
    disk.pass(1);
    let gated = Options { disk: disk.clone(), cache_bytes: 0, ..options() };
    (open_with(dir, gated).0, disk)
}

fn ignore() -> Done {
    Box::new(|_| ())
}

#[test]
fn an_index_used_again_is_not_mixed_up_with_what_is_on_its_way() {
    let dir = scratch();
    let (store, disk) = gated(dir.path());
    let log = store.group(0);
    log.append(vec![entry(1, 0, 100)], ignore());
    disk.wait_for_write();
    // The old entry 0 is being written while a new one takes its place.
    let truncation = std::thread::scope(|scope| {
        let truncation = scope.spawn(|| run(log.truncate_after(None)));
        while log.state().last.is_some() {
            std::thread::yield_now();
        }
        log.append(vec![entry(2, 0, 200)], ignore());
        disk.pass(1);
        disk.wait_for_write();
        // Nothing stays in memory that is written; the new entry is not.
        assert_eq!(all(&log), [(2, 0, 200)]);
        disk.pass(100);
        truncation.join().unwrap()
    });
    truncation.unwrap();
    store.close();
    let (store, _) = open_with(dir.path(), options());
    assert_eq!(all(&store.group(0)), [(2, 0, 200)]);
}

#[test]
fn a_failure_answers_everybody_in_order() {
    let dir = scratch();
    let (store, disk) = gated(dir.path());
    let log = store.group(0);
    let (sender, receiver) = mpsc::channel();
    for index in 0..50 {
        let (sender, seen) = (sender.clone(), log.clone());
        let done = move |result: io::Result<()>| {
            // An answer may call back.
            assert!(seen.state().last.is_some());
            sender.send((index, result.is_ok())).unwrap();
        };
        log.append(vec![entry(1, index, 10)], Box::new(done));
        if index == 0 {
            disk.wait_for_write();
        }
    }
    disk.fail();
    let answers: Vec<_> = receiver.iter().take(50).collect();
    assert_eq!(answers, (0..50).map(|index| (index, false)).collect::<Vec<_>>());
    let mut failed = store.failed();
    let why = run(failed.wait_for(Option::is_some)).unwrap().clone().unwrap();
    assert!(why.contains("the gate has failed"), "{why}");
    // Later ones, too; and they may call back.
    let again = log.clone();
    log.append(
        vec![entry(1, 50, 10)],
        Box::new(move |result| {
            sender.send((again.state().last.unwrap().1, result.is_ok())).unwrap()
        }),
    );
    assert_eq!(receiver.recv().unwrap(), (50, false));
    assert!(run(log.purge(1, 3)).unwrap_err().to_string().contains("the gate has failed"));
}

#[test]
fn the_last_handle_may_go_in_an_answer() {
    let dir = scratch();
    let store = open_with(dir.path(), options()).0;
    let log = store.group(0);
    let (sender, receiver) = mpsc::channel();
    log.append(
        vec![entry(1, 0, 10)],
        Box::new(move |result| {
            drop(store);
            sender.send(result.is_ok()).unwrap();
        }),
    );
    assert!(receiver.recv().unwrap());
    // Answered, and refused once the thread is gone; which lets go of the directory.
    while append(&log, vec![entry(1, log.state().last.unwrap().1 + 1, 10)]).is_ok() {}
    while matches!(LogStore::open(dir.path(), options()), Err(OpenError::InUse { .. })) {
        std::thread::yield_now();
    }
}

#[test]
fn a_purge_on_its_way_does_not_free_what_a_start_needs() {
    let dir = scratch();
    let (store, disk) = gated(dir.path());
    disk.pass(1000);
    let (busy, idle) = (store.group(0), store.group(1));
    append(&idle, vec![entry(1, 0, 10), entry(1, 1, 10)]).unwrap();
    // Five segments, of which an idle group's entries hold the first.
    let mut index = 0;
    while store.segments() < 5 {
        append(&busy, vec![entry(1, index, 3000)]).unwrap();
        run(busy.purge(1, index)).unwrap();
        index += 1;
    }
    let passes = std::mem::take(&mut disk.state.lock().unwrap().passes);
    assert!(passes > 0, "the test must raise its number of passes");
    busy.append(vec![entry(1, index, 10)], ignore());
    disk.wait_for_write();
    // Queued behind the write: the purge, and so much that a segment is begun before it is written.
    for n in 0..30 {
        busy.append(vec![entry(1, index + 1 + n, 3000)], ignore());
    }
    std::thread::scope(|scope| {
        scope.spawn(|| run(idle.purge(1, 1)));
        while idle.state().purged.is_none() {
            std::thread::yield_now();
        }
        // The write under way, what fills the segment, the next one's header. Not the rest.
        disk.pass(3);
        disk.wait_for_write();
        disk.fail();
    });
    store.close();
    let (store, _) = open_with(dir.path(), options());
    assert_eq!(all(&store.group(1)), [(1, 0, 10), (1, 1, 10)]);
}
