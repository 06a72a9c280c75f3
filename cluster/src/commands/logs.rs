//! `quorate log ...`.

use std::io::{self, BufRead, IsTerminal, Write};

use quorate_client::{Client, Consistency, Level, LogInfo};
use quorate_proto::v1 as wire;
use serde::Serialize;

use crate::{
    args::{Global, LogCommand},
    exit::Failure,
    output::{
        Output,
        table::{Align, Cell, Style, Table},
        units,
    },
    sdk,
};

/// A log as `--output json` shows it.
#[derive(Serialize)]
struct LogView<'a> {
    name: &'a str,
    group: u32,
    incarnation: u64,
    start_offset: u64,
    next_offset: u64,
    records: u64,
    writer_epoch: Option<u64>,
    created_ms: u64,
    last_timestamp_ms: u64,
    stored_bytes: u64,
    producers: u64,
    /// As it is written on the command line; absent: none of its own.
    read_level: Option<String>,
}

impl<'a> LogView<'a> {
    fn of(log: &'a LogInfo) -> Self {
        Self {
            name: &log.name,
            group: log.group,
            incarnation: log.incarnation,
            start_offset: log.start_offset,
            next_offset: log.next_offset,
            records: records(log),
            writer_epoch: log.writer_epoch,
            created_ms: log.created_ms,
            last_timestamp_ms: log.last_timestamp_ms,
            stored_bytes: log.stored_bytes,
            producers: log.producers,
            read_level: log.read_level.as_ref().map(level),
        }
    }
}

/// A level as it is written on the command line.
pub(super) fn level(level: &wire::ReadLevel) -> String {
    match (level.level(), level.max_staleness_ms) {
        (wire::Level::Bounded, Some(ms)) => format!("bounded:{ms}ms"),
        (wire::Level::Eventual, _) => "eventual".into(),
        (wire::Level::Linearizable, _) => "linearizable".into(),
        (wire::Level::Bounded | wire::Level::Unspecified, _) => "unknown".into(),
    }
}

/// Readable records.
fn records(log: &LogInfo) -> u64 {
    log.next_offset.saturating_sub(log.start_offset)
}

/// Does what was asked of a log.
///
/// # Errors
/// The cluster's refusal.
pub async fn run(command: &LogCommand, global: &Global, output: Output) -> Result<(), Failure> {
    let client = sdk::client(global)?;
    match command {
        LogCommand::Create { name, if_absent, read_level } => {
            let level = read_level.map_or(Level::OfLog, Level::from);
            create(&client, name, *if_absent, level, output).await
        }
        LogCommand::ReadLevel { name, level } => {
            set_level(&client, name, (*level).into(), output).await
        }
        LogCommand::List { prefix } => list(&client, prefix, output).await,
        LogCommand::Describe { name } => {
            let (log, _) = client.describe_log(name, &Consistency::linearizable()).await?;
            if output.is_json() {
                output.json(&LogView::of(&log))
            } else {
                output.print(&text(&log))
            }
        }
        LogCommand::Trim { name, before } => trim(&client, name, *before, output).await,
        LogCommand::Delete { name, yes } => delete(&client, name, *yes, output).await,
    }
}

async fn create(
    client: &Client,
    name: &str,
    if_absent: bool,
    level: Level,
    output: Output,
) -> Result<(), Failure> {
    let answer = client.create_log_with(name, if_absent, level).await?;
    if output.is_json() {
        let log = LogView::of(&answer.log);
        return output.json(&serde_json::json!({ "created": answer.created, "log": log }));
    }
    let verb = if answer.created { "created" } else { "there already:" };
    output.print(&format!("{verb} {name} (group {})\n", answer.log.group))
}

async fn set_level(client: &Client, name: &str, new: Level, output: Output) -> Result<(), Failure> {
    let log = client.set_read_level(name, new, None).await?;
    if output.is_json() {
        return output.json(&LogView::of(&log));
    }
    let said = log.read_level.as_ref().map_or("linearizable (none of its own)".into(), level);
    output.print(&format!("{name} is read at {said} by readers who don't say\n"))
}

async fn list(client: &Client, prefix: &str, output: Output) -> Result<(), Failure> {
    let mut logs = Vec::new();
    let mut page = None;
    loop {
        let answer =
            client.list_logs(prefix, 0, page.as_deref(), &Consistency::linearizable()).await?;
        logs.extend(answer.logs);
        page = answer.next_page;
        if page.is_none() {
            break;
        }
    }
    if output.is_json() {
        let logs: Vec<_> = logs.iter().map(LogView::of).collect();
        return output.json(&serde_json::json!({ "logs": logs }));
    }
    if logs.is_empty() {
        output.note("no logs");
        return Ok(());
    }
    output.print(&table(&logs).render(output.color))
}

fn table(logs: &[LogInfo]) -> Table {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("GROUP", Align::Right),
        ("FIRST", Align::Right),
        ("NEXT", Align::Right),
        ("RECORDS", Align::Right),
        ("SIZE", Align::Right),
        ("EPOCH", Align::Right),
        ("LAST APPEND", Align::Left),
    ]);
    for log in logs {
        table.row(vec![
            Cell::styled(&log.name, Style::Bold),
            log.group.into(),
            log.start_offset.into(),
            log.next_offset.into(),
            records(log).into(),
            units::bytes(log.stored_bytes).into(),
            log.writer_epoch.map_or("-".into(), Cell::from),
            units::timestamp(log.last_timestamp_ms).into(),
        ]);
    }
    table
}

/// One fact a line.
fn text(log: &LogInfo) -> String {
    let first =
        if records(log) == 0 { "none is readable".into() } else { log.start_offset.to_string() };
    let epoch = log.writer_epoch.map_or("never fenced".into(), |e| e.to_string());
    let facts = [
        ("name", log.name.clone()),
        ("group", log.group.to_string()),
        ("incarnation", log.incarnation.to_string()),
        ("records", units::grouped(records(log))),
        ("first offset", first),
        ("next offset", log.next_offset.to_string()),
        ("size", units::bytes(log.stored_bytes)),
        ("writer epoch", epoch),
        ("producers", units::grouped(log.producers)),
        ("read level", log.read_level.as_ref().map_or("none of its own".into(), level)),
        ("created", units::timestamp(log.created_ms)),
        ("last append", units::timestamp(log.last_timestamp_ms)),
    ];
    facts.iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect()
}

async fn trim(client: &Client, name: &str, before: u64, output: Output) -> Result<(), Failure> {
    let answer = client.trim_log(name, before, None).await?;
    if output.is_json() {
        return output.json(&serde_json::json!({ "start_offset": answer.start_offset }));
    }
    output.print(&format!("{name} starts at offset {} now\n", answer.start_offset))
}

/// Deletes exactly the log that was looked at (and, on a terminal, shown): not one that got its
/// name meanwhile.
async fn delete(client: &Client, name: &str, yes: bool, output: Output) -> Result<(), Failure> {
    let (log, _) = client.describe_log(name, &Consistency::linearizable()).await?;
    if !yes {
        confirm(&log)?;
    }
    client.delete_log(name, Some(log.incarnation)).await?;
    if output.is_json() {
        return output.json(&serde_json::json!({ "deleted": LogView::of(&log) }));
    }
    output.print(&format!("deleted {name} ({} records)\n", units::grouped(records(&log))))
}

fn confirm(log: &LogInfo) -> Result<(), Failure> {
    let cannot_ask =
        |why: String| Failure::refused(why).advise("give --yes to delete without asking");
    if !io::stdin().is_terminal() {
        return Err(cannot_ask("there is nobody to ask whether to delete the log".into()));
    }
    let question = format!(
        "Delete {} with {} records ({})? [y/N] ",
        log.name,
        units::grouped(records(log)),
        units::bytes(log.stored_bytes)
    );
    let mut answer = String::new();
    let asked = io::stderr().write_all(question.as_bytes()).and_then(|()| io::stderr().flush());
    asked
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|e| cannot_ask(format!("asking failed: {e}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::refused("not deleted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> LogInfo {
        LogInfo {
            name: "orders".into(),
            group: 2,
            incarnation: 77,
            start_offset: 1000,
            next_offset: 1_235_567,
            writer_epoch: Some(3),
            created_ms: 1_795_249_800_000,
            last_timestamp_ms: 1_795_249_800_123,
            stored_bytes: 123_456_789,
            producers: 4,
            read_level: Some(wire::ReadLevel {
                level: wire::Level::Bounded.into(),
                max_staleness_ms: Some(500),
            }),
        }
    }

    #[test]
    fn described() {
        let want = "\
name          orders
group         2
incarnation   77
records       1,234,567
first offset  1000
next offset   1235567
size          118 MiB
writer epoch  3
producers     4
read level    bounded:500ms
created       2026-11-21T08:30:00.000Z
last append   2026-11-21T08:30:00.123Z
";
        assert_eq!(text(&log()), want);
    }

    #[test]
    fn listed() {
        let empty = LogInfo { name: "x".into(), ..Default::default() };
        let want = "\
NAME    GROUP  FIRST     NEXT  RECORDS     SIZE  EPOCH  LAST APPEND
orders      2   1000  1235567  1234567  118 MiB      3  2026-11-21T08:30:00.123Z
x           0      0        0        0      0 B      -  -
";
        assert_eq!(table(&[log(), empty]).render(false), want);
    }
}
