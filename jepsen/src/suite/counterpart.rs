//! The run that a hunted mutant's run is compared with: the same, without the planted fault. Each of the
//! two names the other, so that their pages can.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    drive::{self, Finished},
    results,
};

/// The file in a run's folder.
pub const FILE: &str = "counterpart.json";

/// The other run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counterpart {
    /// The verdict on it.
    pub verdict: String,
    /// Where it is in the store: its name and its time.
    pub run: String,
}

impl Counterpart {
    /// What another run says of this one.
    fn of(run: &Finished) -> Self {
        let parts: Vec<_> =
            run.dir.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        let run_of = parts.iter().rev().map(AsRef::as_ref).collect::<Vec<&str>>().join("/");
        Self { verdict: results::name(run.results.verdict()).to_owned(), run: run_of }
    }

    /// Of the run in this folder, if it has one.
    ///
    /// # Errors
    /// The file cannot be read, or is none of these.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why).with_context(|| format!("opening {}", path.display())),
        };
        let known = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} names no run", path.display()))?;
        Ok(Some(known))
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        std::fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// Lets each of the two name the other, and writes their pages anew.
///
/// # Errors
/// A folder cannot be written, or a run in it not be read.
pub fn join(one: &Finished, other: &Finished) -> Result<()> {
    for (of, with) in [(one, other), (other, one)] {
        Counterpart::of(with).write(&of.dir)?;
        drive::analyze(&of.dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_jepsen_core::history::History;

    use super::*;
    use crate::suite::{mutant_table, options::Options, results::Results, timeline};

    #[test]
    fn a_run_is_known_by_its_name_and_time_and_read_back() {
        let dir = std::env::temp_dir().join(format!("quorate-counterpart-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(Counterpart::read(&dir).unwrap(), None);
        let results = Results::of(&History::default(), &[], 30_000);
        let run = Finished { dir: "/store/mutant-x-absent/2026".into(), results };
        let known = Counterpart::of(&run);
        assert_eq!((&*known.run, &*known.verdict), ("mutant-x-absent/2026", "unknown"));
        known.write(&dir).unwrap();
        assert_eq!(Counterpart::read(&dir).unwrap(), Some(known));
        std::fs::write(dir.join(FILE), "{}").unwrap();
        let why = Counterpart::read(&dir).unwrap_err();
        assert!(format!("{why:#}").contains("names no run"), "{why:#}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
    #[test]
    fn each_page_links_to_the_other() {
        let store = std::env::temp_dir().join(format!("quorate-joined-{}", std::process::id()));
        let run = |name: &str, options: &Options| {
            let dir = store.join(name).join("2026");
            std::fs::create_dir_all(&dir).unwrap();
            let history = History { name: name.to_owned(), seed: 5, ..History::default() };
            history.write(std::fs::File::create(dir.join("history.jsonl")).unwrap()).unwrap();
            std::fs::write(dir.join(timeline::FILE), "").unwrap();
            let options = serde_json::to_vec(options).unwrap();
            std::fs::write(dir.join("options.json"), options).unwrap();
            let results = drive::analyze(&dir).unwrap().1;
            Finished { dir, results }
        };
        let mutant = &mutant_table::ALL[0];
        let [of_mutant, without] = [true, false].map(|planted| {
            let options = mutant.options(&Options::default(), planted);
            run(&options.name().unwrap(), &options)
        });
        let page = |run: &Finished| std::fs::read_to_string(run.dir.join("index.html")).unwrap();
        assert!(page(&of_mutant).contains("not compared with a run"));
        join(&of_mutant, &without).unwrap();
        for (of, with) in [(&of_mutant, &without), (&without, &of_mutant)] {
            let (text, other) = (page(of), Counterpart::of(with).run);
            for part in [
                format!("../../{other}/index.html\">unknown</a>"),
                format!("jepsen/run.sh mutants --only {} --seed 5<", mutant.name),
            ] {
                assert!(text.contains(&part), "{part:?} is not in {text}");
            }
        }
        std::fs::remove_dir_all(&store).unwrap();
    }
}
