//! The long profile: every workload with every fault, in parts that each end within an hour.
//!
//! A part notes every run that is done, so that the same command goes on where it was interrupted.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::{
    drive,
    exit::{code_of, worse},
    options::{Options, Workload},
    results,
    summary::{self, Summary},
};
use crate::nemesis::fault::Kind;

/// Seconds of a part, at most a little more: an hour with a reserve for a busy machine.
const PART_S: u64 = 48 * 60;

/// Seconds of a run beside its load: starting, healing, reading back, judging.
const AROUND_S: u64 = 25;

/// Seconds of load, whatever the number of runs.
const LOAD_S: (u64, u64) = (20, 240);

/// What only `test-all` is asked.
#[derive(Debug, Args)]
pub struct Long {
    /// Every workload with every fault, instead of the faults given.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// The part of it to be done, such as 1/6: each of six ends within an hour. Once more with the
    /// same seed, it goes on where it was interrupted.
    #[arg(long, default_value = "1/6", requires = "profile")]
    part: Part,
    /// Faults to be left out of it, separated by commas.
    #[arg(long, value_delimiter = ',', requires = "profile")]
    without: Vec<Kind>,
}

/// Sets of runs with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// The whole matrix.
    Nightly,
}

impl Long {
    /// Whether a long profile was asked for at all.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.profile.is_some()
    }

    /// The faults that must be possible.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<_> =
            self.part.cells(matrix(&self.without, 0)).into_iter().flat_map(|c| c.faults).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Does what is left of the part; the exit code of the whole part.
    ///
    /// # Errors
    /// Its progress cannot be noted. A run that breaks is one of its results.
    pub async fn run(&self, common: &Options) -> Result<u8> {
        let seed = common.seed.map_or_else(tonight, Ok)?;
        let cells = self.part.cells(matrix(&self.without, seed));
        let mut progress = Progress::open(&common.store, seed, self.part)?;
        let load_s = load_s(cells.len());
        let mut took = Vec::new();
        for (number, cell) in cells.iter().enumerate() {
            if progress.of(cell).is_some() {
                continue;
            }
            let each = match took.as_slice() {
                [] => load_s + 15,
                some => some.iter().sum::<u64>() / some.len() as u64,
            };
            let options = cell.options(common, load_s);
            let name = options.name().map_err(anyhow::Error::msg)?;
            let left = each * (cells.len() - number) as u64 / 60;
            println!("\n[{}/{}] {name}; about {left} minutes left", number + 1, cells.len());
            let start = Instant::now();
            let (verdict, dir) = match drive::run(&options, cell.seed).await {
                Ok(run) => {
                    print!("\n{}", run.results);
                    (results::name(run.results.verdict()).to_owned(), run.dir)
                }
                // The others are worth something all the same.
                Err(why) => {
                    eprintln!("error: {why:#}");
                    ("broke".to_owned(), PathBuf::new())
                }
            };
            took.push(start.elapsed().as_secs());
            progress.add(Done { seed: cell.seed, name, verdict, dir })?;
            write_index(&common.store)?;
        }
        let mut worst = 0;
        println!();
        for done in progress.done() {
            let dir = done.dir.display();
            println!("{:<8} {:<40} --seed {:<10} {dir}", done.verdict, done.name, done.seed);
            worst = worse(worst, code_of(&done.verdict));
        }
        println!("\n{}", write_index(&common.store)?.display());
        Ok(worst)
    }
}

/// All stored runs as one page beside them.
fn write_index(store: &Path) -> Result<PathBuf> {
    let path = store.join("index.html");
    std::fs::write(&path, summary::page(&Summary::all(store)?, "", None))?;
    Ok(path)
}

/// Which part of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// From 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no part; one is 1/6, for the first of six");
        let (number, of) = text.split_once('/').ok_or_else(wrong)?;
        let (number, of) = (number.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
        if number == 0 || number > of { Err(wrong()) } else { Ok(Self { number, of }) }
    }
}

/// One run of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What clients do.
    pub workload: Workload,
    /// What is done to the cluster.
    pub faults: Vec<Kind>,
    /// Its seed, which no other cell has.
    pub seed: u64,
}

/// A line of the file that says how far a part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The run's seed.
    pub seed: u64,
    /// What was run.
    pub name: String,
    /// What came out; `broke` if the suite itself did.
    pub verdict: String,
    /// Where it is stored.
    pub dir: PathBuf,
}

/// Every workload with each fault alone, with the usual ones together, and with all.
#[must_use]
pub fn matrix(without: &[Kind], seed: u64) -> Vec<Cell> {
    let kinds = Kind::ALL.iter().copied().filter(|kind| !without.contains(kind));
    let kinds: Vec<_> = kinds.collect();
    let usual = [Kind::Partition, Kind::Kill, Kind::Pause, Kind::ReplyLoss];
    let usual = usual.into_iter().filter(|kind| kinds.contains(kind)).collect();
    let mut sets: Vec<Vec<Kind>> = kinds.iter().map(|kind| vec![*kind]).collect();
    sets.extend([usual, kinds]);
    let workloads = Workload::value_variants();
    let all = sets.iter().flat_map(|faults| workloads.iter().map(move |w| (*w, faults.clone())));
    (seed..).zip(all).map(|(seed, (workload, faults))| Cell { workload, faults, seed }).collect()
}

impl Part {
    /// The cells of this part: every n-th, so that each part has something of everything.
    #[must_use]
    pub fn cells(self, all: Vec<Cell>) -> Vec<Cell> {
        // Dealt out like cards, workload by workload: each part has as many of each.
        let workloads = Workload::value_variants().len();
        let sets = all.len() / workloads;
        let place = |at: usize| (at % workloads * sets + at / workloads) % self.of;
        let mine = all.into_iter().enumerate().filter(|(at, _)| place(*at) == self.number - 1);
        mine.map(|(_, cell)| cell).collect()
    }
}

/// Seconds of load for each of so many runs.
#[must_use]
pub fn load_s(runs: usize) -> u64 {
    let each = PART_S / (runs as u64).max(1);
    each.saturating_sub(AROUND_S).clamp(LOAD_S.0, LOAD_S.1)
}

impl Cell {
    /// The options of its run.
    #[must_use]
    pub fn options(&self, common: &Options, load_s: u64) -> Options {
        let names: Vec<_> = self.faults.iter().map(|kind| kind.name()).collect();
        Options {
            workload: self.workload,
            nemesis: names.join(","),
            time_limit: load_s,
            ..common.clone()
        }
    }
}

/// The seed of a night that was given none: the day in universal time, so that all parts of a night,
/// and a part that is begun again, have the same.
///
/// # Errors
/// The clock is before 1970.
pub fn tonight() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(now.as_secs() / 86_400 * 1_000)
}

/// What a part has done, in a file of its own.
#[derive(Debug)]
pub struct Progress {
    path: PathBuf,
    done: Vec<Done>,
}

impl Progress {
    /// Goes on with a part, or begins it.
    ///
    /// # Errors
    /// The file is of something else, or cannot be read.
    pub fn open(store: &Path, seed: u64, part: Part) -> Result<Self> {
        let dir = store.join(format!("nightly-{seed}"));
        std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let path = dir.join(format!("part-{}-of-{}.jsonl", part.number, part.of));
        let mut done = Vec::new();
        if path.exists() {
            let text = std::fs::read_to_string(&path)?;
            // What an interruption left half written was not done. Its rest is a line of its own,
            // because every line begins with its break.
            for line in text.lines().filter(|line| line.ends_with('}')) {
                let line = serde_json::from_str(line)
                    .with_context(|| format!("{} is no list of runs", path.display()))?;
                done.push(line);
            }
        }
        Ok(Self { path, done })
    }

    /// What is done, in its order.
    #[must_use]
    pub fn done(&self) -> &[Done] {
        &self.done
    }

    /// How this cell came out, if it was run.
    #[must_use]
    pub fn of(&self, cell: &Cell) -> Option<&Done> {
        self.done.iter().find(|done| done.seed == cell.seed)
    }

    /// Notes a run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, done: Done) -> Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(format!("\n{}", serde_json::to_string(&done)?).as_bytes())?;
        file.sync_data()?;
        self.done.push(done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn parts_make_the_whole_and_have_something_of_everything() {
        let all = matrix(&[], 1_000);
        for of in (1..=8).chain([all.len()]) {
            let parts = (1..=of).map(|number| Part { number, of }.cells(all.clone()));
            let parts: Vec<_> = parts.collect();
            let seeds: Vec<_> = parts.iter().flatten().map(|cell| cell.seed).collect();
            assert_eq!(seeds.len(), all.len());
            assert_eq!(seeds.iter().collect::<BTreeSet<_>>().len(), all.len());
            for cells in &parts {
                let most = all.len().div_ceil(of);
                assert!(
                    cells.len() <= most && !cells.is_empty(),
                    "{} of {}",
                    cells.len(),
                    all.len()
                );
                for workload in Workload::value_variants().iter().filter(|_| of <= 8) {
                    assert!(cells.iter().any(|cell| cell.workload == *workload), "{of} parts");
                }
                assert!((load_s(cells.len()) + AROUND_S) * cells.len() as u64 <= 3_600 || of < 4);
            }
        }
        let fewer = matrix(&[Kind::PowerAll], 1_000);
        assert!(fewer.iter().all(|cell| !cell.faults.contains(&Kind::PowerAll)));
    }

    #[test]
    fn parts_are_written_as_fractions() {
        assert_eq!("2/6".parse(), Ok(Part { number: 2, of: 6 }));
        for wrong in ["", "1", "0/6", "7/6", "1/0", "a/b"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_goes_on_where_it_was() -> Result<()> {
        let store = std::env::temp_dir().join(format!("quorate-nightly-{}", std::process::id()));
        let part = Part { number: 1, of: 6 };
        let cells = part.cells(matrix(&[], 7_000));
        let done = |at: usize| Done {
            seed: cells[at].seed,
            name: "append-kill".into(),
            verdict: "valid".into(),
            dir: "somewhere".into(),
        };
        let mut progress = Progress::open(&store, 7_000, part)?;
        progress.add(done(0))?;
        // An interruption in the middle of a line.
        let path = progress.path.clone();
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, format!("{text}\n{{\"seed\": 7001, \"na"))?;
        let mut progress = Progress::open(&store, 7_000, part)?;
        assert_eq!(progress.of(&cells[0]), Some(&done(0)));
        assert_eq!(progress.of(&cells[1]), None);
        progress.add(done(1))?;
        assert_eq!(Progress::open(&store, 7_000, part)?.done(), [done(0), done(1)]);
        assert!(Progress::open(&store, 8_000, part)?.done().is_empty(), "another night");
        Ok(std::fs::remove_dir_all(&store)?)
    }
}
