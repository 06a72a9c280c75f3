//! Disks that fail on command.
//!
//! [`FaultyDisk`] is a small library preloaded into one node, told what to do through a file both
//! have mapped. It needs a C compiler (as building the server does), and no root. [`LoopDisk`] loses
//! power, and needs root. [`batches`], [`damage`], [`tear`] and [`find_record`] change what lies on a disk.

mod power;
mod segment;
mod stored;

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

pub use power::LoopDisk;
pub use segment::{Found, batches, damage, tear};
pub use stored::{Stored, find_record};

const SOURCE: &str = include_str!("preload.c");

/// What the library is told; see its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every fsync, fdatasync and durable write fails with this error number.
    SyncError(i32),
    /// Every write fails with this error number.
    WriteError(i32),
    /// Every sync and write takes so many milliseconds longer.
    Stall(u32),
    /// Writes end after half of their bytes.
    ShortWrites,
    /// One bit of every n-th read is flipped.
    FlipOneIn(u32),
}

impl Fault {
    fn word(self) -> (u64, u32) {
        match self {
            Self::SyncError(number) => (0, number as u32),
            Self::WriteError(number) => (1, number as u32),
            Self::Stall(ms) => (2, ms),
            Self::ShortWrites => (3, 1),
            Self::FlipOneIn(n) => (4, n),
        }
    }
}

const BYTES: u64 = 64;
const DONE: u64 = 8;

/// The disk of one node.
#[derive(Debug)]
pub struct FaultyDisk {
    library: PathBuf,
    control_path: PathBuf,
    control: File,
    below: PathBuf,
}

impl FaultyDisk {
    /// Builds the library into `dir` if it is not there, and a control file named after `name`;
    /// faults hit files whose path begins with `below`.
    ///
    /// # Errors
    /// There is no C compiler, or `dir` cannot be written.
    pub fn new(dir: &Path, name: &str, below: &Path) -> Result<Self> {
        let library = dir.join("preload.so");
        if !library.exists() {
            let source = dir.join("preload.c");
            std::fs::write(&source, SOURCE)?;
            let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
            let built = Command::new(&compiler)
                .args(["-O2", "-shared", "-fPIC", "-o"])
                .args([&library, &source])
                .arg("-ldl")
                .output()
                .with_context(|| format!("starting the C compiler {}", compiler.display()))?;
            let said = String::from_utf8_lossy(&built.stderr);
            ensure!(built.status.success(), "building the preloaded library: {said}");
        }
        let control_path = dir.join(format!("{name}.faults"));
        let control = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&control_path)?;
        control.set_len(BYTES)?;
        // The library compares with what the kernel says, which knows no symbolic links.
        let below = below.canonicalize().unwrap_or_else(|_| below.to_owned());
        Ok(Self { library, control_path, control, below })
    }

    /// What a node's environment needs.
    ///
    /// # Errors
    /// A path is no UTF-8.
    pub fn environment(&self) -> Result<Vec<(String, String)>> {
        let text = |path: &Path| -> Result<String> {
            Ok(path.to_str().context("a path is no UTF-8")?.to_owned())
        };
        Ok(vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)?),
            ("FAULT_CONTROL".to_owned(), text(&self.control_path)?),
            ("FAULT_DIR".to_owned(), text(&self.below)?),
        ])
    }

    /// From now on.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn set(&self, fault: Fault) -> Result<()> {
        let (word, value) = fault.word();
        Ok(self.control.write_all_at(&value.to_ne_bytes(), word * 4)?)
    }

    /// All faults end.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn heal(&self) -> Result<()> {
        Ok(self.control.write_all_at(&[0; (DONE * 4) as usize], 0)?)
    }

    /// How often a fault was done to the node.
    ///
    /// # Errors
    /// The control file cannot be read.
    pub fn done(&self) -> Result<u32> {
        let mut word = [0; 4];
        self.control.read_exact_at(&mut word, DONE * 4)?;
        Ok(u32::from_ne_bytes(word))
    }
}
