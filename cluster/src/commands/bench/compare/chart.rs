//! The picture: bars of records a second, a panel for each row of appends.

use std::fmt::Write as _;

use super::document::{Comparison, RowResult};
use crate::output::units;

const WIDTH: u32 = 900;
/// Where bars begin, and how long the longest is.
const LEFT: u32 = 250;
const LONGEST: u32 = 520;
const BAR: u32 = 16;
const STEP: u32 = 21;
const TITLE: u32 = 34;

/// One colour a system, told apart also by those who don't see red from green; the disk is grey.
fn color(system: &str) -> &'static str {
    match system {
        "Quorate" => "#0072b2",
        "etcd" => "#e69f00",
        "NATS, sync always" => "#009e73",
        "NATS, default" => "#8fd0b9",
        "Redis" => "#cc79a7",
        _ => "#999999",
    }
}

/// The document.
#[must_use]
pub fn svg(c: &Comparison) -> String {
    let (mut body, mut y) = (String::new(), 56);
    for row in c.rows.iter().filter(|row| row.group == "append") {
        y = panel(row, y, &mut body);
    }
    let height = y + 10;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"20\" y=\"28\" font-size=\"17\" font-weight=\"600\">Acknowledged records per second, \
         three replicas</text>\n\
         <text x=\"20\" y=\"46\" fill=\"#555555\">{}: median of {} rounds on {} shared cores; the thin \
         line goes from the lowest to the highest round</text>\n{body}</svg>\n",
        escape(&c.date),
        c.rounds,
        c.machine.cores,
    )
}

/// Draws one; says where the next begins.
fn panel(row: &RowResult, top: u32, body: &mut String) -> u32 {
    let bars: Vec<_> =
        row.entries.iter().filter_map(|e| Some((e, e.summary.as_ref()?.records_per_s))).collect();
    let longest = bars.iter().map(|(_, s)| s.max).fold(1.0, f64::max);
    let at = |value: f64| f64::from(LEFT) + value / longest * f64::from(LONGEST);
    let mut text = format!(
        "<text x=\"20\" y=\"{}\" font-weight=\"600\">{}</text>\n",
        top + TITLE - 12,
        escape(&row.title)
    );
    let mut y = top + TITLE;
    for (entry, rate) in bars {
        let middle = y + BAR / 2;
        let line = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#222222\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 8,
            y + 13,
            escape(&entry.name()),
            at(rate.median) - f64::from(LEFT),
            color(&entry.system),
            at(rate.min),
            at(rate.max),
            at(rate.max) + 6.0,
            y + 13,
            units::grouped(rate.median.round() as u64),
        );
        line.expect("writing to a String cannot fail");
        y += STEP;
    }
    body.push_str(&text);
    y
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
