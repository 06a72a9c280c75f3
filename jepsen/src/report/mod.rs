//! A run as one page that needs nothing but itself: verdict, pictures, counterexamples.

mod charts;
mod plot;

use std::fmt::Write as _;

use quorate_jepsen_core::history::History;

use crate::suite::{
    results::{self, Results},
    timeline::Mark,
};
use charts::Charts;
pub use plot::escape;

/// How its pages look.
pub const STYLE: &str = include_str!("style.css");

/// The page.
#[must_use]
pub fn page(history: &History, marks: &[Mark], results: &Results) -> String {
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
    add(format_args!("<pre>{}</pre>\n", escape(&results.to_string())));
    if !results.failures.is_empty() {
        add(format_args!("<h2>What the servers owe</h2><ul>"));
        results.failures.iter().for_each(|what| add(format_args!("<li>{}</li>", escape(what))));
        add(format_args!("</ul>\n"));
    }
    for (kind, count) in results.report.kinds() {
        let Some(first) = results.report.anomalies.iter().find(|found| found.kind == kind) else {
            continue;
        };
        add(format_args!(
            "<h2>{kind} <small>{count} found; the first:</small></h2><p>{}</p>\n",
            escape(&first.to_string())
        ));
        if let Some(svg) = charts.around(first) {
            add(format_args!("{svg}"));
        }
        let lines = results::around(history, &first.log, &first.ops).join("\n");
        add(format_args!("<pre class=\"ops\">{}</pre>\n", escape(&lines)));
    }
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
    add(format_args!("<h2>Events</h2>\n<table>"));
    for (at, what) in &history.faults {
        let seconds = at.0 as f64 / 1e9;
        add(format_args!("<tr><td>{seconds:.3} s</td><td>{}</td></tr>\n", escape(what)));
    }
    add(format_args!("</table></body></html>\n"));
    out
}
