//! A run as one page that needs nothing but itself: verdict, pictures, counterexamples.

mod charts;
mod plot;
mod story;

use std::{collections::BTreeMap, fmt::Write as _};

use quorate_jepsen_core::{check::Kind, history::History};

use crate::suite::{
    mutants,
    results::{self, Results},
    timeline::Mark,
};
use charts::Charts;
pub use plot::escape;

/// How its pages look.
pub const STYLE: &str = include_str!("style.css");

/// The page.
#[must_use]
pub fn page(history: &History, marks: &[Mark], results: &Results, planted: Option<&str>) -> String {
    let charts = Charts::new(history, marks);
    let verdict = results::name(results.verdict());
    let title = format!("{} seed {}: {verdict}", history.name, history.seed);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\"><title>{}</title>\n<style>{STYLE}</style></head><body>\n\
         <h1><span class=\"verdict {}\">{verdict}</span> {} <small>seed {}</small></h1>\n",
        escape(&title),
        verdict.to_lowercase(),
        escape(&history.name),
        history.seed
    );
    let mut add = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes everything");
    };
    if let Some(name) = planted {
        let what = mutants::known(name)
            .map(|mutant| format!("{}. It breaks {}", mutant.what, mutant.breaks));
        add(format_args!(
            "<p class=\"planted\">This is not the server as it is shipped: a fault was planted in it, \
             to see it found. {}: {}.</p>\n",
            escape(name),
            escape(&what.unwrap_or_else(|_| "one that this suite does not know".to_owned()))
        ));
    }
    let kinds = results.report.kinds();
    if !kinds.is_empty() {
        add(format_args!(
            "<table class=\"kinds\"><tr><th>found</th><th>times</th><th>breaks</th><th>which means</th></tr>\n"
        ));
        for (kind, count) in ordered(&kinds) {
            add(format_args!(
                "<tr><td><a href=\"#{kind}\">{kind}</a></td><td>{count}</td><td>{}</td>\
                 <td>{}</td></tr>\n",
                kind.property(),
                escape(kind.what())
            ));
        }
        add(format_args!("</table>\n"));
    }
    add(format_args!("<pre>{}</pre>\n", escape(&shortened(&results.to_string()))));
    counterexamples(&mut out, history, marks, results, &charts);
    let mut add = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes everything");
    };
    let legend = |names: &[&str]| {
        let names = names.iter().map(|name| format!("<span class=\"key {name}\">{name}</span>"));
        names.collect::<String>()
    };
    let outcomes = legend(&["ok", "read", "refused", "unknown"]);
    add(format_args!(
        "<p>Shaded: faults, named above; rest the pointer on anything for more.</p>\n\
         <h2>Latency, ms {outcomes}</h2>\n{}<h2>Latency of appends, ms, by second {}</h2>\n{}\
         <h2>Operations a second {outcomes}</h2>\n{}<h2>Who led {}</h2>\n{}\
         <h2>Age that each node could prove, ms</h2>\n{}",
        charts.latency_raw(),
        legend(&["p50", "p99", "max"]),
        charts.latency_quantiles(),
        charts.rate(),
        legend(&["leads", "follows"]),
        charts.leaders(),
        charts.ages(),
    ));
    if !results.failures.is_empty() {
        add(format_args!("<h2>What the servers owe</h2><ul>"));
        results.failures.iter().for_each(|what| add(format_args!("<li>{}</li>", escape(what))));
        add(format_args!("</ul>\n"));
    }
    add(format_args!("<h2>Events</h2>\n<table>"));
    for (at, what) in &history.faults {
        let seconds = at.0 as f64 / 1e9;
        add(format_args!("<tr><td>{seconds:.3} s</td><td>{}</td></tr>\n", escape(what)));
    }
    add(format_args!("</table></body></html>\n"));
    out
}

/// Failures that are told above the pictures; all of them stand below.
const FIRST_FAILURES: usize = 3;

/// The results with as many failures as leave the pictures in sight.
fn shortened(results: &str) -> String {
    let failures = results.lines().filter(|line| is_failure(line)).count();
    let (mut told, mut out) = (0, String::new());
    for line in results.lines() {
        told += usize::from(is_failure(line));
        if is_failure(line) && told > FIRST_FAILURES {
            if told == failures {
                let more = failures - FIRST_FAILURES;
                writeln!(out, "  ... and {more} more failures, below the pictures")
                    .expect("a String takes everything");
            }
            continue;
        }
        out += line;
        out.push('\n');
    }
    out
}

fn is_failure(line: &str) -> bool {
    line.starts_with("  failed: ")
}

/// What clients can see first; then what follows from the answers' stamps, which says the same in
/// other words.
fn ordered(kinds: &BTreeMap<Kind, usize>) -> Vec<(Kind, usize)> {
    let mut kinds: Vec<_> = kinds.iter().map(|(kind, count)| (*kind, *count)).collect();
    let of_stamps = |kind: Kind| matches!(kind, Kind::PositionBackwards | Kind::TermRewritten);
    kinds.sort_by_key(|(kind, _)| of_stamps(*kind));
    kinds
}

/// The first of each anomaly: what it means, what was found, a picture, and the steps.
fn counterexamples(
    out: &mut String,
    history: &History,
    marks: &[Mark],
    results: &Results,
    charts: &Charts<'_>,
) {
    let mut add = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes everything");
    };
    for (kind, count) in ordered(&results.report.kinds()) {
        let Some(first) = results.report.anomalies.iter().find(|found| found.kind == kind) else {
            continue;
        };
        add(format_args!(
            "<h2 id=\"{kind}\">{kind} <small>{} · {count} found; the first:</small></h2>\n<p>{}</p>\n\
             <p class=\"found\">{}{}.</p>\n",
            kind.property(),
            escape(kind.what()),
            // Digests are of a whole group.
            match first.log.as_str() {
                "" => "In ".to_owned(),
                log => escape(&format!("In log {log:?}: ")),
            },
            escape(&first.what)
        ));
        let ops = story::involved(history, first);
        if let Some(svg) = charts.story(history, &ops) {
            add(format_args!("{svg}"));
        }
        if !ops.is_empty() {
            add(format_args!("<ol class=\"steps\">{}</ol>\n", story::sentences(history, &ops)));
        }
        for told in story::in_the_end(history, &ops) {
            add(format_args!("<p class=\"end\">{}.</p>\n", escape(&told)));
        }
        for fault in story::meanwhile(marks, &ops) {
            add(format_args!("<p>{}</p>\n", escape(&fault)));
        }
        let lines = results::around(history, &first.log, &first.ops).join("\n");
        if !lines.is_empty() {
            add(format_args!(
                "<details><summary>Operations before and after</summary><pre class=\"ops\">{}</pre>\
                 </details>\n",
                escape(&lines)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_failures_leaves_the_pictures_in_sight() {
        let results = |count: usize| {
            let failed: String = (1..=count).map(|n| format!("  failed: {n}\n")).collect();
            format!("Valid: 9 records\n{failed}  not covered: kill\nverdict: INVALID\n")
        };
        assert_eq!(shortened(&results(3)), results(3));
        let of_many = shortened(&results(23));
        assert!(of_many.contains("failed: 3\n  ... and 20 more failures, below the pictures\n"));
        assert!(!of_many.contains("failed: 4\n") && of_many.ends_with("verdict: INVALID\n"));
        assert!(of_many.contains("not covered: kill"));
    }
}
