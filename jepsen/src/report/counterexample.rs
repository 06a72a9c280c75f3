//! The first of each anomaly: what it means, what was found, a picture, and the steps.

use std::fmt::Write as _;

use quorate_jepsen_core::{check::claim, history::History};

use super::{charts::Charts, escape, head::ordered, legend, rows, story};
use crate::suite::{
    results::{self, Results},
    timeline::Mark,
};

/// How the numbers in what follows are meant.
const READING: &str = "How to read these: the numbered steps are operations of clients in the order in \
    which they were called, and the picture has the same numbers; <i>op 831</i> is an operation's number \
    in the history. <i>At offsets 3 to 5</i> is 3, 4 and 5. Of a log that <i>ends before offset 6</i>, and \
    of a read that shows <i>the offsets before 6</i>, 5 is the last; lists of operations write \
    <i>3..6</i> for 3, 4 and 5.";

/// Adds them to a page.
pub fn write(
    out: &mut String,
    history: &History,
    marks: &[Mark],
    results: &Results,
    charts: &Charts<'_>,
) {
    let mut add = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes everything");
    };
    let kinds = ordered(&results.report.kinds());
    if !kinds.is_empty() {
        add(format_args!(
            "<p class=\"reading\">{READING} On top of a picture stands what each \
             node was: {}</p>\n",
            legend(rows::LEGEND)
        ));
    }
    for (kind, count) in kinds {
        let Some(first) = results.report.anomalies.iter().find(|found| found.kind == kind) else {
            continue;
        };
        add(format_args!(
            "<h2 id=\"{kind}\">{kind} <small>{count} found; the first:</small></h2>\n<p>{} It breaks {}: \
             {}.</p>\n<p class=\"found\">{}{}.</p>\n",
            escape(kind.what()),
            kind.property(),
            escape(claim(kind.property()).unwrap_or_default()),
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
        if let Some(who) = story::led(marks, &ops) {
            add(format_args!("<p class=\"led\">{}.</p>\n", escape(&who)));
        }
        let lines = results::around(history, &first.log, &first.ops).join("\n");
        if !lines.is_empty() {
            add(format_args!(
                "<details><summary>Operations before and after (offsets 3..6 are 3, 4 \
                 and 5)</summary><pre class=\"ops\">{}</pre>\
                 </details>\n",
                escape(&lines)
            ));
        }
    }
}
