//! Stored runs: `store/<name>/<time>/`, and `latest` links to the last of a name and of all.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};

/// Makes the folder of a new run.
///
/// # Errors
/// It cannot be made.
pub fn begin(store: &Path, name: &str) -> Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    // A second run within the same millisecond waits for the next one.
    for more_ms in 0..1000 {
        let dir = store.join(name).join(stamp(now.as_millis() as u64 + more_ms));
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        match fs::create_dir(&dir) {
            Ok(()) => {
                let dir = dir.canonicalize()?;
                link(&dir, &store.join("latest"))?;
                link(&dir, &store.join(name).join("latest"))?;
                return Ok(dir);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("creating {}", dir.display())),
        }
    }
    bail!("no free name for a run below {}", store.join(name).display())
}

/// By name, so that it is replaced and never missing.
fn link(to: &Path, link: &Path) -> Result<()> {
    let new = link.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(to, &new)?;
    Ok(fs::rename(&new, link)?)
}

/// `20261121T081500.123Z`: names sort by time.
fn stamp(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}{month:02}{day:02}T{h:02}{m:02}{s:02}.{ms:03}Z")
}

/// Days since 1970 as a date (Gregorian, any year from then on).
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

/// All stored runs, oldest first.
///
/// # Errors
/// The store cannot be read; an absent one is empty.
pub fn runs(store: &Path) -> Result<Vec<PathBuf>> {
    let mut runs = Vec::new();
    if !store.exists() {
        return Ok(runs);
    }
    for name in fs::read_dir(store)? {
        let name = name?;
        if !name.file_type()?.is_dir() {
            continue;
        }
        for run in fs::read_dir(name.path())? {
            let run = run?;
            if run.file_type()?.is_dir() {
                runs.push(run.path());
            }
        }
    }
    runs.sort_by_key(|run| run.file_name().map(ToOwned::to_owned));
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_dates() {
        assert_eq!(stamp(0), "19700101T000000.000Z");
        assert_eq!(stamp(951_782_400_000), "20000229T000000.000Z");
        assert_eq!(stamp(1_795_248_000_123), "20261121T080000.123Z");
        assert_eq!(stamp(1_798_761_599_000), "20261231T235959.000Z");
    }
}
