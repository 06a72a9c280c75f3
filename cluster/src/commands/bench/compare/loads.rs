//! What is measured: rows of runs that belong together, each run a command line of this program, so
//! that anybody can repeat any of them alone.

use super::super::systems::{Id, Running};

/// Callers of the rows of appends.
const CALLERS: [u32; 4] = [1, 64, 256, 1024];
/// Bytes of a value in the rows of appends.
const SIZES: [u32; 2] = [128, 1024];
/// Callers of the rows of reads.
const READERS: u32 = 64;
/// Records that are there to be read, each appended alone.
const STORED: u32 = 20_000;
/// Requests in flight on each stream.
const STREAM_IN_FLIGHT: u32 = 64;

/// Whom a run is against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A system.
    System(Id),
    /// The disk that all of them write to.
    Disk,
}

/// One measurement of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bench {
    /// Whom.
    pub target: Target,
    /// What to call it in its row, if there are several of one system.
    pub variant: &'static str,
    /// What stands behind `quorate bench`, without endpoints and times.
    pub args: Vec<String>,
    /// Which of its nodes it asks.
    pub ask: Ask,
}

/// Which nodes of a system a run asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Those that take writes themselves.
    Writers,
    /// All.
    All,
    /// All for what comes before, and only the last one for what is measured.
    Last,
}

/// Runs that are compared with each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// For `--only`: append, batches, groups, read, replicas.
    pub group: &'static str,
    /// What is measured.
    pub title: String,
    /// Bytes of a value.
    pub size: u32,
    /// Requests that are unanswered at a time.
    pub callers: u32,
    /// Its runs, in the order of the table.
    pub benches: Vec<Bench>,
}

/// All rows.
#[must_use]
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for callers in CALLERS {
        rows.extend(SIZES.map(|size| appends(callers, size)));
    }
    rows.extend(SIZES.map(batches));
    rows.push(groups());
    rows.push(linearizable());
    rows.push(any_replica());
    rows.push(replicas());
    rows
}

fn bench(target: Target, variant: &'static str, ask: Ask, args: &str) -> Bench {
    let args = args.split_whitespace().map(str::to_owned).collect();
    Bench { target, variant, args, ask }
}

fn appends(callers: u32, size: u32) -> Row {
    use Target::System;
    let load = format!("--clients {callers} --size {size}");
    let to = |id, variant, name: &str| {
        bench(System(id), variant, Ask::Writers, &format!("{name} {load}"))
    };
    let mut benches = vec![to(Id::Quorate, "SDK append", "append --mode sdk")];
    benches.push(to(Id::Quorate, "unary append", "append --mode unary"));
    if callers >= STREAM_IN_FLIGHT {
        let streams = callers / STREAM_IN_FLIGHT;
        let args = format!(
            "append --mode stream --clients {streams} --in-flight {STREAM_IN_FLIGHT} --size {size}"
        );
        benches.push(bench(System(Id::Quorate), "stream", Ask::Writers, &args));
    }
    benches.push(to(Id::Etcd, "", "etcd-put"));
    benches.push(to(Id::NatsAlways, "", "nats-publish"));
    benches.push(to(Id::NatsDefault, "", "nats-publish"));
    benches.push(to(Id::Redis, "", "redis-xadd"));
    if callers == 1 {
        benches.push(bench(Target::Disk, "", Ask::All, &format!("disk --size {size}")));
    }
    let title = match callers {
        1 => format!("append, one at a time, {}", bytes(size)),
        n => format!("append, {n} at a time, {}", bytes(size)),
    };
    Row { group: "append", title, size, callers, benches }
}

fn bytes(size: u32) -> String {
    match size {
        1024 => "1 KiB".into(),
        n => format!("{n} B"),
    }
}

/// As many records on their way for all; Quorate's client puts them together, the others have no
/// such thing for records that are acknowledged one by one.
fn batches(size: u32) -> Row {
    use Target::System;
    let (clients, in_flight, batch) = (4, 8, 64);
    let args = format!(
        "append --mode stream --clients {clients} --in-flight {in_flight} --batch {batch} --size {size}"
    );
    let callers = clients * in_flight * batch;
    let nats = format!("nats-publish --clients {callers} --size {size}");
    let benches = vec![
        bench(System(Id::Quorate), "64 records a request", Ask::Writers, &args),
        bench(System(Id::NatsAlways), "", Ask::Writers, &nats),
        bench(System(Id::NatsDefault), "", Ask::Writers, &nats),
    ];
    let size_text = bytes(size);
    let title =
        format!("append, {callers} records at a time, put together by the client, {size_text}");
    Row { group: "batches", title, size, callers, benches }
}

/// Whether several groups of one node get in each other's way: they share its log and its disk.
fn groups() -> Row {
    let args = "append --mode stream --clients 64 --in-flight 16 --logs 64 --size 1024";
    let of = |id, variant| bench(Target::System(id), variant, Ask::All, args);
    let benches = vec![of(Id::Quorate, "one group"), of(Id::QuorateGroups, "")];
    let title = "append to 64 logs, 1024 at a time, 1 KiB".into();
    Row { group: "groups", title, size: 1024, callers: 1024, benches }
}

fn linearizable() -> Row {
    let load = format!("--clients {READERS} --size 128");
    let quorate = |mode: &str| format!("read --mode {mode} {load} --records {STORED}");
    let etcd = format!("etcd-range {load} --keys {STORED}");
    let benches = vec![
        bench(Target::System(Id::Quorate), "SDK read", Ask::All, &quorate("sdk")),
        bench(Target::System(Id::Quorate), "unary read", Ask::All, &quorate("unary")),
        bench(Target::System(Id::Etcd), "", Ask::All, &etcd),
    ];
    let title = format!("linearizable read of one record, {READERS} at a time, 128 B");
    Row { group: "read", title, size: 128, callers: READERS, benches }
}

fn any_replica() -> Row {
    let load = format!("--clients {READERS} --size 128");
    let quorate = |variant, mode: &str, level: &str| {
        let args = format!("read --mode {mode} {load} --records {STORED} --consistency {level}");
        bench(Target::System(Id::Quorate), variant, Ask::All, &args)
    };
    let benches = vec![
        quorate("SDK, eventual", "sdk", "eventual"),
        quorate("SDK, at most 1 s old", "sdk", "bounded:1s"),
        quorate("unary, eventual", "unary", "eventual"),
        quorate("unary, at most 1 s old", "unary", "bounded:1s"),
        bench(
            Target::System(Id::Etcd),
            "serializable",
            Ask::All,
            &format!("etcd-range {load} --keys {STORED} --serializable"),
        ),
    ];
    let title = format!("read of one record from any replica, {READERS} at a time, 128 B");
    Row { group: "read", title, size: 128, callers: READERS, benches }
}

/// On one machine all replicas share its processors; this shows what a replica's share costs, not
/// what three machines give.
fn replicas() -> Row {
    let load = format!("--clients {READERS} --size 128 --records {STORED}");
    let args = format!("read {load} --consistency bounded:1s");
    let of = |variant, ask| bench(Target::System(Id::Quorate), variant, ask, &args);
    let benches = vec![of("one replica", Ask::Last), of("three replicas", Ask::All)];
    let title = format!("read at most 1 s old, {READERS} at a time, 128 B");
    Row { group: "replicas", title, size: 128, callers: READERS, benches }
}

impl Bench {
    /// The arguments of the program that runs it.
    #[must_use]
    pub fn command(&self, system: Option<&Running>, disk: &std::path::Path) -> Vec<String> {
        let mut command = vec!["bench".to_owned()];
        command.extend(self.args.iter().cloned());
        let Some(system) = system else {
            command.extend(["--dir".into(), disk.display().to_string()]);
            return command;
        };
        let endpoints = match self.ask {
            Ask::Writers => &system.writers,
            Ask::All | Ask::Last => &system.endpoints,
        };
        command.extend(["--endpoints".into(), endpoints.join(",")]);
        if let (Ask::Last, Some(last)) = (self.ask, system.endpoints.last()) {
            command.extend(["--node".into(), last.clone()]);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    fn system(id: Id) -> Running {
        Running {
            id,
            name: "",
            version: String::new(),
            settings: "",
            acknowledges: "",
            endpoints: vec!["http://a:1".into(), "http://b:2".into()],
            writers: vec!["http://a:1".into()],
            nodes: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// A command line that doesn't parse would be noticed half an hour into a comparison.
    #[test]
    fn every_run_is_a_command_line() {
        let mut names = Vec::new();
        for row in rows() {
            for bench in &row.benches {
                let system = match bench.target {
                    Target::System(id) => Some(system(id)),
                    Target::Disk => None,
                };
                let mut words = vec!["quorate".to_owned()];
                words.extend(bench.command(system.as_ref(), std::path::Path::new("/d")));
                if let Err(e) = Cli::try_parse_from(&words) {
                    panic!("{words:?}: {e}");
                }
                names.push((row.title.clone(), bench.target, bench.variant));
            }
        }
        let count = names.len();
        for i in 1..count {
            assert!(!names[..i].contains(&names[i]), "{:?} twice", names[i]);
        }
    }

    /// The same number of requests in flight for all in a row.
    #[test]
    fn a_row_is_fair() {
        let value = |bench: &Bench, option: &str| {
            let at = bench.args.iter().position(|a| a == option)?;
            bench.args[at + 1].parse::<u32>().ok()
        };
        for row in rows().iter().filter(|row| ["append", "batches"].contains(&row.group)) {
            for bench in &row.benches {
                let clients = value(bench, "--clients").unwrap_or(1);
                let in_flight = value(bench, "--in-flight").unwrap_or(1);
                let records = clients * in_flight * value(bench, "--batch").unwrap_or(1);
                assert_eq!(records, row.callers, "{}: {bench:?}", row.title);
                assert_eq!(value(bench, "--size"), Some(row.size), "{}: {bench:?}", row.title);
            }
        }
    }
}
