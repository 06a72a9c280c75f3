//! A disk under the Raft log that stalls, lies and crashes when the test says so.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use quorate_raft_node::log_store::Disk;

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It is in the file when the call returns.
    Honest,
    /// It waits.
    Stalled,
    /// It returns at once and is not in the file: a crash shows that it never was.
    Lying,
    /// The machine is off.
    Dead,
}

/// A write is durable when it is in the file, because these tests crash processes and never cut
/// the power. So a sync has nothing to do, and a write that did not begin before [`Self::freeze`]
/// is lost.
pub struct TestDisk {
    mode: Mutex<Mode>,
    changed: Condvar,
}

impl Default for TestDisk {
    fn default() -> Self {
        Self { mode: Mutex::new(Mode::Honest), changed: Condvar::new() }
    }
}

impl TestDisk {
    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, mode: Mode) {
        *self.mode() = mode;
        self.changed.notify_all();
    }

    /// From now on nothing is written, and nobody is told.
    pub fn stall(&self) {
        self.set(Mode::Stalled);
    }

    /// What waited is written.
    pub fn go_on(&self) {
        self.set(Mode::Honest);
    }

    /// From now on writes are confirmed and forgotten.
    pub fn lie(&self) {
        self.set(Mode::Lying);
    }

    /// What is in the files when this returns is what a crash now would leave.
    pub fn freeze(&self) {
        // A write holds the lock to its end.
        self.set(Mode::Stalled);
    }

    /// Fails what waits and all that comes.
    pub fn die(&self) {
        self.set(Mode::Dead);
    }
}

impl Disk for TestDisk {
    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mode = self.mode();
        let mode = self
            .changed
            .wait_while(mode, |mode| *mode == Mode::Stalled)
            .unwrap_or_else(PoisonError::into_inner);
        match *mode {
            Mode::Honest => file.write_all_at(bytes, at),
            Mode::Lying => Ok(()),
            Mode::Dead => Err(io::Error::other("the machine is off")),
            Mode::Stalled => unreachable!("waited for above"),
        }
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
}
