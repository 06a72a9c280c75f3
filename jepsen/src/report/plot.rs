//! Axes, shades and marks of a picture over time, as SVG.

use std::fmt::Write as _;

use crate::suite::timeline::FaultMark;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 22.0;

/// Puts text where markup is read.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// How values become heights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// From 0 to this.
    Linear(f64),
    /// From the first to the second, each step of ten as high as the next.
    Log(f64, f64),
    /// Rows, counted from 0 at the top, of this many.
    Rows(usize),
}

/// A picture in the making.
#[derive(Debug)]
pub struct Plot {
    from_s: f64,
    to_s: f64,
    height: f64,
    scale: Scale,
    body: String,
}

impl Plot {
    /// An empty picture of that time.
    #[must_use]
    pub fn new(from_s: f64, to_s: f64, height: f64, scale: Scale) -> Self {
        let to_s = to_s.max(from_s + 1e-6);
        Self { from_s, to_s, height, scale, body: String::new() }
    }

    /// Where a time is.
    #[must_use]
    pub fn x(&self, at_s: f64) -> f64 {
        let share = (at_s - self.from_s) / (self.to_s - self.from_s);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Where a value is.
    #[must_use]
    pub fn y(&self, value: f64) -> f64 {
        let inner = self.height - TOP - BOTTOM;
        let share = match self.scale {
            Scale::Linear(most) => value / most.max(f64::MIN_POSITIVE),
            Scale::Log(least, most) => (value.max(least) / least).ln() / (most / least).ln(),
            Scale::Rows(rows) => 1.0 - value / rows as f64,
        };
        TOP + (1.0 - share.clamp(0.0, 1.0)) * inner
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        self.body.write_fmt(element).expect("a String takes everything");
        self.body.push('\n');
    }

    /// Shades the time of each fault and names it.
    pub fn faults(&mut self, faults: &[&FaultMark]) {
        for fault in faults {
            let (from, to) = (fault.from.0 as f64 / 1e9, fault.to.0 as f64 / 1e9);
            if !self.shows(from, to) {
                continue;
            }
            let (x, width) = (self.x(from), (self.x(to) - self.x(from)).max(1.0));
            let (y, height) = (TOP, self.height - TOP - BOTTOM);
            let what = escape(&format!("{} ({})", fault.what, fault.effect));
            self.add(format_args!(
                r#"<rect class="fault" x="{x:.1}" y="{y}" width="{width:.1}" height="{height}"><title>{what}</title></rect>"#
            ));
            let name = fault.kind.name();
            self.add(format_args!(
                r#"<text class="fault-name" x="{:.1}" y="{:.1}">{name}</text>"#,
                x + 2.0,
                TOP - 4.0
            ));
        }
    }

    /// A dot with a tooltip.
    pub fn dot(&mut self, class: &str, at_s: f64, value: f64, tip: &str) {
        let (x, y, tip) = (self.x(at_s), self.y(value), escape(tip));
        self.add(format_args!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="1.6"><title>{tip}</title></circle>"#
        ));
    }

    /// A line through points; `None` interrupts it.
    pub fn line(&mut self, class: &str, points: impl IntoIterator<Item = (f64, Option<f64>)>) {
        let mut path = String::new();
        let mut command = 'M';
        for (at, value) in points {
            match value {
                Some(value) => {
                    let (x, y) = (self.x(at), self.y(value));
                    write!(path, "{command}{x:.1} {y:.1}").expect("a String takes everything");
                    command = 'L';
                }
                None => command = 'M',
            }
        }
        if !path.is_empty() {
            self.add(format_args!(r#"<path class="{class}" d="{path}"/>"#));
        }
    }

    /// A bar in a row, from one time to another.
    pub fn bar(&mut self, class: &str, row: usize, from_s: f64, to_s: f64, tip: &str) {
        let (x, width) = (self.x(from_s), (self.x(to_s) - self.x(from_s)).max(1.5));
        let (top, bottom) = (self.y(row as f64), self.y(row as f64 + 1.0));
        let gap = (bottom - top) * 0.12;
        let (y, height, tip) = (top + gap, bottom - top - 2.0 * gap, escape(tip));
        self.add(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"><title>{tip}</title></rect>"#
        ));
    }

    /// Whether anything of this time is in the picture.
    #[must_use]
    pub fn shows(&self, from_s: f64, to_s: f64) -> bool {
        to_s >= self.from_s && from_s <= self.to_s
    }

    /// Words inside a bar of this class, if it is wide enough for them.
    pub fn bar_text(&mut self, class: &str, row: usize, from_s: f64, to_s: f64, text: &str) {
        // About the width of a letter of this size.
        const LETTER: f64 = 6.5;
        let (x, y) = (self.x(from_s), self.y(row as f64 + 0.5) + 4.0);
        if self.x(to_s) - x > LETTER * (text.len() + 2) as f64 {
            let (x, text) = (x + LETTER, escape(text));
            self.add(format_args!(
                r#"<text class="inside {class}" x="{x:.1}" y="{y:.1}">{text}</text>"#
            ));
        }
    }

    /// Words behind a time in a row; before it, where there is no room behind.
    pub fn label(&mut self, row: usize, at_s: f64, text: &str) {
        let (x, y) = (self.x(at_s), self.y(row as f64 + 0.5) + 4.0);
        // As wide as its letters are on average. Where there is no room behind the bar it ends with the
        // picture, over the bar's end.
        let wide = text.chars().count() as f64 * 6.6;
        let (x, anchor) = match x + 6.0 + wide > WIDTH - RIGHT {
            true => (WIDTH - RIGHT, "end"),
            false => (x + 6.0, "start"),
        };
        let text = escape(text);
        self.add(format_args!(
            r#"<text class="label" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// The name of a row.
    pub fn row_name(&mut self, row: usize, name: &str) {
        let y = self.y(row as f64 + 0.5) + 4.0;
        let name = escape(name);
        self.add(format_args!(
            r#"<text class="axis" x="{:.1}" y="{y:.1}" text-anchor="end">{name}</text>"#,
            LEFT - 6.0
        ));
    }

    /// The whole picture.
    #[must_use]
    pub fn finish(self) -> String {
        let mut out = format!(
            r#"<svg viewBox="0 0 {WIDTH} {}" role="img" preserveAspectRatio="xMidYMid meet">"#,
            self.height
        );
        out.push('\n');
        let bottom = self.height - BOTTOM;
        for (value, label) in self.ticks() {
            let y = self.y(value);
            writeln!(
                out,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/><text class="axis" x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0
            )
            .expect("a String takes everything");
        }
        let step = step((self.to_s - self.from_s) / 10.0);
        let mut at = (self.from_s / step).ceil() * step;
        while at <= self.to_s {
            let x = self.x(at);
            let digits = if step < 0.01 {
                3
            } else if step < 1.0 {
                2
            } else {
                0
            };
            writeln!(
                out,
                r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom}"/><text class="axis" x="{x:.1}" y="{:.1}" text-anchor="middle">{at:.digits$} s</text>"#,
                bottom + 15.0
            )
            .expect("a String takes everything");
            at += step;
        }
        out + &self.body + "</svg>\n"
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear(most) => {
                let step = step(most / 4.0);
                let count = (most / step).floor() as usize;
                (0..=count).map(|n| n as f64 * step).map(|v| (v, trimmed(v))).collect()
            }
            Scale::Log(least, most) => {
                let mut ticks = Vec::new();
                let mut value = least;
                while value <= most * 1.001 {
                    ticks.push((value, trimmed(value)));
                    value *= 10.0;
                }
                ticks
            }
            Scale::Rows(_) => Vec::new(),
        }
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The next of 1, 2, 5, 10, ... at or above `least`.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-6).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= least * 0.999).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (least, round) in [(0.9, 1.0), (1.0, 1.0), (3.0, 5.0), (7.1, 10.0), (0.03, 0.05)] {
            assert!((step(least) - round).abs() < 1e-9, "{least}: {}", step(least));
        }
    }

    #[test]
    fn marks_stay_inside_and_text_cannot_break_out() {
        let mut plot = Plot::new(0.0, 10.0, 200.0, Scale::Log(0.1, 1000.0));
        plot.dot("ok", 99.0, 1e9, "<script>");
        let svg = plot.finish();
        assert!(svg.contains(r#"cx="988.0" cy="20.0""#) && !svg.contains("<script>"), "{svg}");
    }
}
