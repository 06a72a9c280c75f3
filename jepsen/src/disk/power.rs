//! A disk that loses power: a file system of its own in a loop device, shut down so that what was
//! not synced is gone. Killing processes proves nothing about fsync, because the kernel keeps their
//! writes; this does. Needs root.

use std::{
    fs::File,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// `EXT4_IOC_SHUTDOWN`, the same number as other file systems'.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;

/// Without writing the journal out first.
const NO_LOG_FLUSH: u32 = 2;

/// Room for a run's data; the file has holes, so only what is written takes space.
const IMAGE_BYTES: u64 = 2 << 30;

/// The disk of one node.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    mounted_at: PathBuf,
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(())
}

impl LoopDisk {
    /// Makes a file system in `<dir>/<name>.img` and mounts it at `<dir>/<name>.disk`.
    ///
    /// # Errors
    /// Not root, no loop devices, or no `mkfs.ext4`.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let image = dir.join(format!("{name}.img"));
        File::create(&image)?.set_len(IMAGE_BYTES)?;
        // Inode tables at once: initialising them later would write during the test.
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(&image))?;
        let mounted_at = dir.join(format!("{name}.disk"));
        std::fs::create_dir_all(&mounted_at)?;
        let disk = Self { image, mounted_at };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mounted_at
    }

    /// Nothing reaches the disk from now on, and what only the page cache had is lost.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cut(&self) -> Result<()> {
        let dir = File::open(&self.mounted_at)?;
        let how = NO_LOG_FLUSH;
        // SAFETY: the call reads the number behind the pointer, which outlives it.
        let failed = unsafe { libc::ioctl(dir.as_raw_fd(), SHUTDOWN, &raw const how) };
        if failed != 0 {
            return Err(std::io::Error::last_os_error()).context("shutting the file system down");
        }
        Ok(())
    }

    /// Mounts it again as after a reboot. Nobody may use it.
    ///
    /// # Errors
    /// It is in use, or the file system is beyond repair.
    pub fn reboot(&self) -> Result<()> {
        run(Command::new("umount").arg(&self.mounted_at))?;
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mounted_at))
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg(&self.mounted_at));
        // Whoever still uses it loses it when done.
        if unmounted.is_err()
            && let Err(why) = run(Command::new("umount").arg("-l").arg(&self.mounted_at))
        {
            eprintln!("left mounted: {}: {why:#}", self.mounted_at.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A power loss that loses nothing would make every other test of it worthless.
    #[test]
    fn what_was_not_synced_is_gone() {
        let dir = std::env::temp_dir().join(format!("quorate-power-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let disk = match LoopDisk::new(&dir, "test") {
            Ok(disk) => disk,
            Err(why) => {
                println!("SKIPPED: this machine cannot lose power: {why:#}");
                return;
            }
        };
        let write = |name: &str, sync: bool| {
            let mut file = File::create(disk.path().join(name)).unwrap();
            file.write_all(b"promised").unwrap();
            if sync {
                file.sync_all().unwrap();
                File::open(disk.path()).unwrap().sync_all().unwrap();
            }
        };
        write("synced", true);
        write("not synced", false);
        disk.cut().unwrap();
        disk.reboot().unwrap();
        let read = |name: &str| std::fs::read(disk.path().join(name)).unwrap_or_default();
        assert_eq!(read("synced"), b"promised");
        assert_eq!(read("not synced"), b"");
        drop(disk);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
