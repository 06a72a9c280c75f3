//! Stored histories, small enough to read: `good` is valid, `unknown` cannot be judged, and
//! `bad.<anomalies>` has at least the anomalies of its name.

use std::{collections::BTreeSet, fs, io::BufReader, path::Path};

use quorate_jepsen_core::{
    check::{Kind, Verdict, check},
    history::History,
};

#[test]
fn golden_histories_keep_their_verdicts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut judged = 0;
    let mut properties = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let history = History::read(BufReader::new(fs::File::open(&path).unwrap())).unwrap();
        let report = check(&history);
        let (verdict, kinds) = match name.split_once('.') {
            None if name == "good" => (Verdict::Valid, ""),
            None => (Verdict::Unknown, ""),
            Some((_, kinds)) => (Verdict::Invalid, kinds),
        };
        assert_eq!(report.verdict(), verdict, "{name}: {report}");
        for kind in kinds.split('+').filter(|kind| !kind.is_empty()) {
            let found = report.kinds().into_keys().find(|found| found.name() == kind);
            let Some(found) = found else { panic!("{name}: no {kind}: {report}") };
            properties.insert(found.property());
        }
        judged += 1;
    }
    assert!(judged >= 10, "only {judged} golden histories were found");
    // What a history can break; P15 and P16 are about runs (`jepsen/tests/suite.rs`).
    let all: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.property()).collect();
    assert_eq!(properties, all, "a bad history for each");
    let named = (1..=14).map(|number| format!("P{number}"));
    assert_eq!(all, named.collect::<Vec<_>>().iter().map(String::as_str).collect());
}

#[test]
fn a_line_that_is_no_event_is_named() {
    let error = History::read("{\"event\":\"expect\",\"replicas\":3}\n{}\n".as_bytes());
    assert!(error.unwrap_err().to_string().contains("line 2"));
    let twice =
        "{\"event\":\"return\",\"op\":1,\"at\":2,\"answer\":{\"unknown\":{\"kind\":\"x\"}}}\n";
    assert!(History::read(twice.as_bytes()).is_err(), "an answer without a call");
}
