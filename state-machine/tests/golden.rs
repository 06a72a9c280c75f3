//! Every script in `tests/golden` prints what it printed when somebody last looked at it closely.
//! `QUORATE_BLESS=1` rewrites the scripts; the difference is then for a person to judge.

mod script;

use std::{collections::BTreeSet, fs, path::PathBuf};

use script::Runner;

fn scripts() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = fs::read_dir(folder).expect("tests/golden exists");
    let mut scripts: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "there are scripts");
    scripts
}

/// All of them in one test, so that it can also say whether they show every kind of outcome.
#[test]
fn scripts_print_what_they_did() {
    #[expect(clippy::disallowed_methods, reason = "a switch of the test, not of the state machine")]
    let bless = std::env::var_os("QUORATE_BLESS").is_some();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for path in scripts() {
        let script = fs::read_to_string(&path).expect("readable");
        let mut runner = Runner::default();
        let printed = runner.run(&script);
        if bless {
            fs::write(&path, &printed).expect("writable");
        } else if printed != script {
            let differing = script.lines().zip(printed.lines()).position(|(a, b)| a != b);
            let line = differing.unwrap_or(script.lines().count().min(printed.lines().count()));
            wrong.push(format!(
                "{}:{}: expected {:?}, printed {:?}",
                path.display(),
                line + 1,
                script.lines().nth(line),
                printed.lines().nth(line)
            ));
        }
        for size in [2, 3, 7, usize::MAX] {
            runner.check_in_batches_of(size);
        }
        seen.append(&mut runner.seen);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let missing: Vec<_> = EVERY_OUTCOME.iter().filter(|kind| !seen.contains(**kind)).collect();
    assert!(missing.is_empty(), "no script shows {missing:?}");
    let unknown: Vec<_> = seen.iter().filter(|kind| !EVERY_OUTCOME.contains(&&***kind)).collect();
    assert!(unknown.is_empty(), "{unknown:?} should be in EVERY_OUTCOME");
}

const EVERY_OUTCOME: [&str; 23] = [
    "Appended",
    "Created",
    "Deleted",
    "Trimmed",
    "Fenced",
    "Marked",
    "ReadLevelSet",
    "REFUSED LogNotFound",
    "REFUSED LogExists",
    "REFUSED LogRecreated",
    "REFUSED OffsetMismatch",
    "REFUSED Fenced",
    "REFUSED EpochNotGranted",
    "REFUSED SequenceGap",
    "REFUSED SequenceStale",
    "REFUSED SequenceReused",
    "REFUSED ProducerUnknown",
    "REFUSED TooManyProducers",
    "REFUSED TrimBeyondEnd",
    "REFUSED TooManyLogs",
    "REFUSED DuplicateLog",
    "REFUSED Overflow",
    "REFUSED Undecodable",
];
