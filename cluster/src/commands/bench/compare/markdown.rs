//! The tables for people.

use std::fmt::Write as _;

use super::{
    super::{failover::Failover, overload::Overload, spread::Spread},
    document::{Comparison, Entry, RowResult},
    summary::Summary,
};
use crate::output::units;

/// Against whom the last column of appends and reads is.
const YARDSTICK: &str = "etcd";

/// The whole page.
#[must_use]
pub fn page(c: &Comparison) -> String {
    let mut page = format!(
        "# Comparison of {}\n\n\
         Three nodes of each system and the load generator on one machine: {}, {} cores, {:.0} GiB, \
         Linux {}, {}. Rounds: {}, of {} s for each measurement (after {} s of load). The systems take turns: each is \
         measured once before any is measured again. The figures are medians, with the \
         lowest and the highest round behind them.\n\n",
        c.date,
        c.machine.processor,
        c.machine.cores,
        c.machine.memory_gib,
        c.machine.kernel,
        c.machine.file_system,
        c.rounds,
        c.duration_s,
        c.warm_up_s,
    );
    if let Some(others) = c.others_busy_cores {
        push(
            &mut page,
            format_args!(
                "Others kept {:.1} of its cores busy meanwhile ({:.1} to {:.1}); its load average \
                 before was {:.1}.\n\n",
                others.median, others.min, others.max, c.load_average_before
            ),
        );
    }
    push(&mut page, format_args!("Command: `{}`\n\n", c.command));
    page += "## Who, and what an acknowledgement means\n\n\
             | system | version | settings | acknowledged means |\n|---|---|---|---|\n";
    for s in &c.systems {
        push(
            &mut page,
            format_args!("| {} | {} | {} | {} |\n", s.name, s.version, s.settings, s.acknowledges),
        );
    }
    page += "\n![records per second](compare.svg)\n";
    for row in &c.rows {
        push(&mut page, format_args!("\n## {}\n\n", capital(&row.title)));
        page += &table(row);
    }
    page += &failover(&c.failover);
    page += &c.overload.as_ref().map_or_else(String::new, overload);
    page += "\nServer CPU and disk are those of all three nodes together, to a record and to a byte \
             of values; each of three replicas writes at least once.\n";
    page
}

fn failover(all: &[Failover]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut text = "\n## Kill -9 of the leader, 200 appends/s\n\n\
                    Milliseconds between two acknowledgements around each kill. The next append is \
                    sent when it is due, answered or not those before it.\n\n\
                    ||kills|median|longest|appends that failed|\n|---|--:|--:|--:|--:|\n"
        .to_owned();
    for f in all {
        push(
            &mut text,
            format_args!(
                "| {} ({}) | {} | {:.0} ms | {:.0} ms | {} of {} |\n",
                f.system,
                f.settings,
                f.gaps_ms.len(),
                f.median_ms,
                f.longest_ms,
                units::grouped(f.failed),
                units::grouped(f.sent),
            ),
        );
    }
    text
}

fn overload(o: &Overload) -> String {
    let most = o.memory.iter().map(|m| m.first_half_max_mib.max(m.second_half_max_mib));
    let memory = most.fold(0.0, f64::max);
    format!(
        "\n## Twice what it can take\n\n\
         Appends of {} records of {}, one call each, without retries, for {:.0} s.\n\n\
         ||records/s|p50|p99|\n|---|--:|--:|--:|\n\
         | peak, {} callers that wait | {} | | {} |\n| offered | {} | | |\n\
         | acknowledged | {} ({:.0} % of the peak) | {} | {} |\n\n\
         {} requests were refused (RESOURCE_EXHAUSTED), {} of them with an effect, {} without a retry \
         hint; {} ended otherwise. The largest node had {memory:.0} MiB of memory.\n",
        o.batch,
        units::bytes(o.size_bytes),
        o.elapsed_s,
        o.peak_callers,
        rate(o.peak_records_per_s),
        time(o.peak_p99_us),
        rate(o.offered_records_per_s),
        rate(o.goodput_records_per_s),
        100.0 * o.goodput_of_peak,
        time(o.latency_us.p50),
        time(o.latency_us.p99),
        units::grouped(o.refused),
        o.refused_with_effect,
        o.refused_without_hint,
        units::grouped(o.other.values().sum::<u64>() + o.unanswered),
    )
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing to a String cannot fail");
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

fn table(row: &RowResult) -> String {
    let yardstick = row.entries.iter().find(|e| e.system == YARDSTICK);
    let base = yardstick.and_then(|e| e.summary.as_ref()).map(|s| s.records_per_s.median);
    let mut headings = vec!["", "records/s", "MB/s", "p50", "p99", "p99.9", "server CPU/record"];
    let writes = matches!(row.group.as_str(), "append" | "batches" | "groups");
    if writes {
        headings.push("disk/byte");
    }
    if base.is_some() {
        headings.push("× etcd's records/s");
    }
    let rule = "--:|".repeat(headings.len() - 1);
    let mut text = format!("|{}|\n|---|{rule}\n", headings.join("|"));
    for entry in &row.entries {
        let name = entry.name();
        match &entry.summary {
            Some(summary) => text += &line(&name, summary, writes, base),
            None => push(&mut text, format_args!("| {name} {}\n", "|".repeat(headings.len()))),
        }
    }
    for entry in &row.entries {
        text += &remarks(entry);
    }
    text
}

fn line(name: &str, s: &Summary, writes: bool, base: Option<f64>) -> String {
    let optional = |spread: &Option<Spread>, f: fn(f64) -> String| {
        spread.map_or_else(String::new, |s| f(s.median))
    };
    let mut text = format!(
        "| {name} | {} ({}–{}) | {:.1} | {} | {} | {} | {} |",
        rate(s.records_per_s.median),
        rate(s.records_per_s.min),
        rate(s.records_per_s.max),
        s.mb_per_s.median,
        time(s.p50_us.median),
        time(s.p99_us.median),
        time(s.p999_us.median),
        optional(&s.server_cpu_us_per_record, |us| format!("{us:.1} µs")),
    );
    if writes {
        let disk = optional(&s.written_per_byte, |n| format!("{n:.1}"));
        push(&mut text, format_args!(" {disk} |"));
    }
    if let Some(base) = base {
        push(&mut text, format_args!(" {:.2} |", s.records_per_s.median / base));
    }
    text + "\n"
}

/// What a table must not hide.
fn remarks(entry: &Entry) -> String {
    let mut text = String::new();
    if let Some(trouble) = &entry.trouble {
        push(&mut text, format_args!("\n{}: a run failed: {trouble}\n", entry.name()));
    }
    let failures = entry.summary.as_ref().map_or(0, |s| s.failures);
    if failures > 0 {
        let first = entry.runs.iter().find_map(|r| r.report.first_failure.as_deref());
        let why = first.unwrap_or("no reason was given");
        let count = units::grouped(failures);
        push(
            &mut text,
            format_args!("\n{}: {count} requests failed, the first: {why}\n", entry.name()),
        );
    }
    text
}

fn rate(per_s: f64) -> String {
    units::grouped(per_s.round() as u64)
}

/// Microseconds, with three digits that say something.
pub fn time(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::compare::{chart, document::tests::comparison};

    #[test]
    fn the_page() {
        let page = page(&comparison());
        for part in [
            "Command: `cluster/compare.sh --rounds 2`",
            "| etcd | 3.7.3 | defaults | synced to disk by a majority |",
            "## Append, 64 at a time, 128 B",
            "|×|records/s|",
            "| Quorate, stream | 30,000 (20,000–40,000) | 3.8 | 250 µs | 1.25 ms | 10.0 ms | 12.5 µs \
             | 3.2 | 3.00 |",
            "| etcd | 10,000 (10,000–10,000) | 1.3 | 250 µs | 1.25 ms | 10.0 ms | 12.5 µs | 3.2 | \
             1.00 |",
            "\n| Redis |||||||||\n",
            "Redis: a run failed: it would not",
            "etcd: 3 requests failed, the first: busy",
        ] {
            let part = part.replace("|×|", "||");
            assert!(page.contains(&part), "no {part:?} in {page}");
        }
        assert_eq!(time(999.4), "999 µs");
        assert_eq!(time(12_345.0), "12.3 ms");
        assert_eq!(time(2_500_000.0), "2.50 s");
    }

    #[test]
    fn the_chart_is_to_scale() {
        let svg = chart::svg(&comparison());
        let widths: Vec<f64> = svg
            .split("width=\"")
            .filter_map(|rest| rest.split_once('"')?.0.parse().ok())
            .filter(|width| *width != 900.0)
            .collect();
        // The longest bar, with its highest round, takes all the room: 520 for 40,000.
        assert_eq!(widths, [390.0, 130.0]);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.contains("&lt;all&gt; &amp; one"), "text is escaped: {svg}");
    }
}
