//! How a write becomes durable, and the seam through which tests make disks fail.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
};

use quorate_state_machine::planted;

use super::{buffer::AlignedBuffer, frame::BLOCK};

/// The setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Direct where the file system takes it, else fdatasync.
    #[default]
    Auto,
    /// `O_DIRECT | O_DSYNC`: one system call per sync, nothing in the page cache.
    Direct,
    /// A buffered write and `fdatasync`.
    Fdatasync,
}

/// What is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// See [`Durability::Direct`].
    Direct,
    /// See [`Durability::Fdatasync`].
    Fdatasync,
}

impl Method {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct+dsync",
            Self::Fdatasync => "fdatasync",
        }
    }

    /// Opens a segment for writing.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if self == Self::Direct && !planted::is("skip_log_fsync") {
            options.custom_flags(libc::O_DIRECT | libc::O_DSYNC);
        }
        options.open(path)
    }

    /// Makes a file to be filled in large pieces: around the page cache where that is how the log
    /// is written, because zeros that nobody will read would push out what somebody will, and
    /// copying them there took a quarter of the CPU of a node under full load.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        if self == Self::Direct {
            options.custom_flags(libc::O_DIRECT);
        }
        options.open(path)
    }
}

/// Chooses, by trying a real aligned write in `dir`.
///
/// # Errors
/// The probe's, if direct writes were demanded and don't work.
pub fn probe(dir: &Path, asked: Durability) -> io::Result<Method> {
    let path = dir.join("probe");
    let remove = || match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    if asked == Durability::Fdatasync {
        // Of a start that was killed.
        return remove().map(|()| Method::Fdatasync);
    }
    let attempt = || -> io::Result<()> {
        File::create(&path)?.set_len(BLOCK as u64)?;
        let file = Method::Direct.open(&path)?;
        let mut buffer = AlignedBuffer::new(BLOCK);
        file.write_all_at(buffer.take(BLOCK), 0)
    };
    let result = attempt();
    remove()?;
    match (result, asked) {
        (Ok(()), _) => Ok(Method::Direct),
        (Err(_), Durability::Auto) => Ok(Method::Fdatasync),
        (Err(e), _) => Err(io::Error::new(
            e.kind(),
            format!(
                "log.durability = \"direct\", but {} takes no direct writes ({e}); use \"auto\"",
                dir.display()
            ),
        )),
    }
}

/// Where batches are written. Tests put something in front of the real disk.
pub trait Disk: Send + Sync + 'static {
    /// Writes `bytes` at `at`. With [`Method::Direct`] they are durable on return.
    ///
    /// # Errors
    /// Whatever the disk says; final.
    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// Whatever the disk says; final.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The real one.
#[derive(Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Makes names in `dir` durable.
///
/// # Errors
/// The file system's.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Takes the directory for this process, until the file is closed.
///
/// # Errors
/// `WouldBlock` if another process (or another store of this one) has it; or the file system's.
pub fn lock(dir: &Path) -> io::Result<File> {
    let file = File::open(dir)?;
    // SAFETY: the call has no memory effects; the descriptor is open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}
