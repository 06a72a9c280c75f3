//! Clocks of one node that are wrong on command: libfaketime, preloaded.
//!
//! The wall clock can be put forward and back while the node runs. Clocks that measure time can run
//! fast from a start on; they are never put back, because no kernel does that, and never run slow,
//! because an age proven by a slow clock is too young by as much: that clocks run about right is the
//! one thing the proof assumes of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Where Debian and its kin put the library, below the folder of the machine's kind.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The clocks of one node.
#[derive(Debug)]
pub struct Clock {
    library: String,
    /// The library reads it at each look at the wall clock.
    offset: PathBuf,
    /// Percent of the true rate, at the next start.
    percent: u32,
}

/// Environment variables.
pub type Environment = Vec<(String, String)>;

impl Clock {
    /// Right clocks, for now; the offset is kept in `<dir>/<name>.clock`.
    ///
    /// # Errors
    /// There is no libfaketime.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let clock =
            Self { library: library()?, offset: dir.join(format!("{name}.clock")), percent: 100 };
        clock.set(0)?;
        Ok(clock)
    }

    /// Puts the wall clock so many seconds before or behind the truth.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // By name: the node never reads half of it.
        let new = self.offset.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(fs::rename(&new, &self.offset)?)
    }

    /// How fast all clocks run from the next start on.
    pub fn run_at(&mut self, percent: u32) {
        self.percent = percent;
    }

    /// What the node's environment needs.
    #[must_use]
    pub fn environment(&self) -> Environment {
        let mut environment = vec![("LD_PRELOAD".to_owned(), self.library.clone())];
        let mut set =
            |name: &str, value: &str| environment.push((name.to_owned(), value.to_owned()));
        if self.percent == 100 {
            set("FAKETIME_TIMESTAMP_FILE", &self.offset.to_string_lossy());
            set("FAKETIME_NO_CACHE", "1");
            set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        } else {
            set("FAKETIME", &format!("+0 x{}.{:02}", self.percent / 100, self.percent % 100));
        }
        environment
    }

    /// Whether a process has the library; one that did not load it has right clocks.
    ///
    /// # Errors
    /// There is no such process.
    pub fn governs(&self, pid: u32) -> Result<bool> {
        Ok(fs::read_to_string(format!("/proc/{pid}/maps"))?.contains("libfaketime"))
    }
}

fn library() -> Result<String> {
    for dir in fs::read_dir("/usr/lib").context("/usr/lib")? {
        let path = dir?.path().join(LIBRARY);
        if path.exists() {
            return Ok(path.to_str().context("a path is no UTF-8")?.to_owned());
        }
    }
    bail!("no {LIBRARY} in any folder of /usr/lib: install faketime")
}

/// One environment of several: what is preloaded is preloaded together.
#[must_use]
pub fn joined(all: impl IntoIterator<Item = Environment>) -> Environment {
    let mut environment: Environment = Vec::new();
    for (name, value) in all.into_iter().flatten() {
        let before = environment.iter_mut().find(|(known, _)| *known == name);
        match before {
            Some((_, before)) if name == "LD_PRELOAD" => *before = format!("{before}:{value}"),
            Some((_, before)) => *before = value,
            None => environment.push((name, value)),
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preloaded_libraries_add_up_and_the_rest_is_replaced() {
        let of = |pairs: &[(&str, &str)]| -> Environment {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let all = [of(&[("LD_PRELOAD", "a"), ("X", "1")]), of(&[("X", "2"), ("LD_PRELOAD", "b")])];
        assert_eq!(joined(all), of(&[("LD_PRELOAD", "a:b"), ("X", "2")]));
    }
}
