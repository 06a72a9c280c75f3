//! What a stored run came to, from its files, and all of them as one page.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::store;
use crate::report::{STYLE, escape};

/// A stored run, in one line of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its folder.
    pub dir: PathBuf,
    /// What was run.
    pub name: String,
    /// When, in universal time; also the last part of its folder.
    pub time: String,
    /// `valid`, `INVALID`, `unknown`; `broke` when it has no results, which a run that still goes on
    /// has not either.
    pub verdict: String,
    /// The seed.
    pub seed: Option<u64>,
    /// What was found wrong, or why nothing can be said.
    pub found: Vec<String>,
    /// Records acknowledged.
    pub acknowledged: Option<u64>,
}

impl Summary {
    /// Of the run in this folder. A file that is missing or no JSON shows as a run that broke: the
    /// list of runs must not depend on the worst of them.
    #[must_use]
    pub fn read(dir: &Path) -> Self {
        let part = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let results = std::fs::read(dir.join("results.json")).ok();
        let results: Option<serde_json::Value> =
            results.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut summary = Self {
            dir: dir.to_owned(),
            name: part(dir.parent()),
            time: part(Some(dir)),
            verdict: "broke".to_owned(),
            seed: None,
            found: Vec::new(),
            acknowledged: None,
        };
        let Some(results) = results else { return summary };
        if let Some(verdict) = results["verdict"].as_str() {
            verdict.clone_into(&mut summary.verdict);
        }
        summary.seed = results["seed"].as_u64();
        summary.acknowledged = results["records"]["acknowledged"].as_u64();
        for anomaly in results["anomalies"].as_array().into_iter().flatten() {
            if let (Some(name), Some(count)) =
                (anomaly["anomaly"].as_str(), anomaly["count"].as_u64())
            {
                summary.found.push(format!("{name} × {count}"));
            }
        }
        for list in ["failures", "cannot-be-judged", "coverage-gaps"] {
            let words = results[list].as_array().into_iter().flatten();
            summary.found.extend(words.filter_map(|word| word.as_str().map(ToOwned::to_owned)));
        }
        summary
    }

    /// All stored runs, the latest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn all(of: &Path) -> Result<Vec<Self>> {
        let mut runs: Vec<_> = store::runs(of)?.iter().map(|dir| Self::read(dir)).collect();
        runs.reverse();
        Ok(runs)
    }
}

/// All runs as a page. `files` comes before `<name>/<time>/` in links to a run's files, and `zip`, if
/// there is such a service, before `<name>/<time>` in those to all of them at once.
#[must_use]
pub fn page(runs: &[Summary], files: &str, zip: Option<&str>) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\"><title>Runs</title>\n<style>{STYLE}</style></head><body \
         class=\"wide\">\n<h1>Runs <small>{}</small></h1>\n",
        counted(runs)
    );
    let mut add = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes everything");
    };
    add(format_args!(
        "<table class=\"runs\"><tr><th>verdict</th><th>run</th><th>time (UTC)</th><th>seed</th>\
         <th>records</th><th>found</th><th>files</th></tr>\n"
    ));
    for run in runs {
        let path = format!("{}/{}", url(&run.name), url(&run.time));
        let link = |file: &str, name: &str| {
            if !run.dir.join(file).is_file() {
                return String::new();
            }
            format!("<a href=\"{files}{path}/{file}\">{name}</a> ")
        };
        let mut links = String::new();
        for (file, name) in [
            ("results.txt", "results"),
            ("history.txt", "history"),
            ("history.edn", "edn"),
            ("schedule.json", "schedule"),
        ] {
            links += &link(file, name);
        }
        for node in 1.. {
            let file = format!("node{node}.log");
            if !run.dir.join(&file).is_file() {
                break;
            }
            links += &link(&file, &format!("n{node}"));
        }
        if let Some(zip) = zip {
            links += &format!("<a href=\"{zip}{path}\">zip</a> <a href=\"{files}{path}/\">all</a>");
        }
        let page = match run.dir.join("index.html").is_file() {
            true => format!("<a href=\"{files}{path}/index.html\">{}</a>", escape(&run.name)),
            false => escape(&run.name),
        };
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
        add(format_args!(
            "<tr><td><span class=\"verdict {}\">{}</span></td><td>{page}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{links}</td></tr>\n",
            escape(&run.verdict.to_lowercase()),
            escape(&run.verdict),
            escape(&run.time),
            number(run.seed),
            number(run.acknowledged),
            escape(&run.found.join("; ")),
        ));
    }
    add(format_args!("</table></body></html>\n"));
    out
}

/// `12 valid, 1 INVALID`.
fn counted(runs: &[Summary]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for run in runs {
        *counts.entry(run.verdict.as_str()).or_insert(0_usize) += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect();
    escape(&counts.join(", "))
}

/// A file's name as part of a URL.
#[must_use]
pub fn url(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").expect("a String takes everything"),
        }
    }
    out
}
