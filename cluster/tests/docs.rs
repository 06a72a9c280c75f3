//! What the documents name exists.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the checkout").to_owned()
}

/// The words between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// `file` → `test`, `test` as in `docs/guarantees.md`.
fn named_tests(text: &str) -> Vec<(String, String)> {
    let mut named = Vec::new();
    for line in text.lines() {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('→') {
            let file = quoted(before).last().unwrap_or_default();
            let of_this = after.split_once('→').map_or(after, |(this, _)| this);
            let tests = quoted(of_this).filter(|word| !word.contains(['/', ' ', '-', '.']));
            named.extend(tests.map(|test| (file.to_owned(), test.to_owned())));
            rest = after;
        }
    }
    named
}

#[test]
fn every_test_that_a_guarantee_names_exists() {
    let text = fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let named = named_tests(&text);
    assert!(named.len() > 40, "the page is not read as it is written: {named:?}");
    let missing: Vec<_> = named
        .iter()
        .filter(|(file, test)| {
            let source = fs::read_to_string(root().join(file)).unwrap_or_default();
            !source.contains(&format!("fn {test}("))
        })
        .collect();
    assert!(missing.is_empty(), "docs/guarantees.md names what does not exist: {missing:#?}");
    let unproven: Vec<_> = text
        .split("\n## ")
        .skip(1)
        .filter(|section| named_tests(section).is_empty())
        .map(|section| section.lines().next().unwrap_or_default())
        .collect();
    assert!(unproven.is_empty(), "guarantees without a test: {unproven:?}");
}

#[test]
fn relative_links_lead_somewhere() {
    let pages = ["README.md", "docs", "docs/adr"].iter().flat_map(|place| {
        let path = root().join(place);
        let listed: Vec<PathBuf> = match fs::read_dir(&path) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => vec![path],
        };
        listed.into_iter().filter(|page| page.extension().is_some_and(|e| e == "md"))
    });
    let mut broken = Vec::new();
    let mut links = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            if !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(links > 10, "the pages are not read as they are written");
    assert!(broken.is_empty(), "{broken:#?}");
}
