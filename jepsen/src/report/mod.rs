//! A run as one page that needs nothing but itself: verdict, pictures, counterexamples.

mod charts;
mod counterexample;
mod head;
mod plot;
mod rows;
mod story;

use std::fmt::Write as _;

use quorate_jepsen_core::history::History;

use crate::suite::{
    results::{self, Results},
    timeline::Mark,
};
use charts::Charts;
pub use head::About;
pub use plot::escape;

/// How its pages look.
pub const STYLE: &str = include_str!("style.css");

/// The page.
#[must_use]
pub fn page(history: &History, marks: &[Mark], results: &Results, about: &About) -> String {
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
    out += &head::about(about);
    out += &head::kinds(&head::ordered(&results.report.kinds()));
    let mut add = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes everything");
    };
    add(format_args!("<pre>{}</pre>\n", escape(&shortened(&results.to_string()))));
    counterexample::write(&mut out, history, marks, results, &charts);
    let mut add = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes everything");
    };
    let same = |names: &[&str]| legend(names.iter().map(|name| (*name, *name)));
    let outcomes = same(&["ok", "read", "refused", "unknown"]);
    let ages = charts.age_lines();
    add(format_args!(
        "<p>Shaded: faults, named above; rest the pointer on anything for more.</p>\n\
         <h2>Latency, ms {outcomes}</h2>\n{}<h2>Latency of appends, ms, by second {}</h2>\n{}\
         <h2>Operations a second {outcomes}</h2>\n{}<h2>Who led {}</h2>\n{}\
         <h2>Age that each node could prove, ms {}</h2>\n{}",
        charts.latency_raw(),
        same(&["p50", "p99", "max"]),
        charts.latency_quantiles(),
        charts.rate(),
        legend(rows::LEGEND),
        charts.leaders(),
        legend(ages.iter().map(|(class, name)| (&**class, &**name))),
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

/// What the colours of a picture mean: classes and their names.
fn legend<'a>(names: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let key = |(class, name)| format!("<span class=\"key {class}\">{}</span>", escape(name));
    names.into_iter().map(key).collect()
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

#[cfg(test)]
mod tests {
    use quorate_jepsen_core::ids::{Moment, Node};

    use super::*;
    use crate::suite::timeline::NodeSample;

    #[test]
    fn a_page_explains_what_it_shows() {
        let history = story::tests::stale();
        let sample = |at, leader| {
            let node = |node| NodeSample {
                node: Node(node),
                leads: node == leader,
                term: leader,
                committed: 0,
                applied: 0,
                age_ms: Some(node),
            };
            Mark::Sample { at: Moment(at), nodes: [1, 2].map(node).to_vec() }
        };
        let marks = [sample(500_000, 1), sample(2_500_000, 2), sample(5_000_000, 2)];
        let results = Results::of(&history, &marks, 30_000);
        let page = page(&history, &marks, &results, &About::default());
        for part in [
            // Whose line is whose.
            "prove, ms <span class=\"key node0\">n1</span><span class=\"key node1\">n2</span>",
            "<path class=\"node1\"",
            // In words: who led, which property, which offsets.
            "Who led: n1 at step 1, in term 1; n2 from 0.0 s on, in term 2",
            "It breaks P6: Appends and linearizable reads respect real time",
            "<i>At offsets 3 to 5</i> is 3, 4 and 5",
            "<span class=\"key cut\">cut off</span>",
            "shows the offsets before 0; all before 1 had been acknowledged",
        ] {
            assert!(page.contains(part), "{part:?} is not in {page}");
        }
    }

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
