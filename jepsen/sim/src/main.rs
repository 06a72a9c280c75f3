//! The command line of the simulation.

use std::{collections::BTreeMap, fs::File, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use quorate_jepsen_core::check::Verdict;
use quorate_sim::{
    many,
    mutants::{self, Mutant},
    run::{self, Outcome, Plan},
    schedule::{self, Theme},
    shrink,
};

/// Whole clusters in one thread, from one seed: the real openraft, apply, proposer, read path and
/// services, on a simulated network, disk and clock.
#[derive(Parser)]
#[command(name = "sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds; shrinks the first that fails.
    Run {
        /// How many.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first; by the clock if not given.
        #[arg(long)]
        from: Option<u64>,
        /// Go on after a failure.
        #[arg(long)]
        keep_going: bool,
        #[command(flatten)]
        shape: Shape,
    },
    /// Runs one seed again.
    Replay {
        /// The seed.
        seed: u64,
        /// Print what happens, line by line.
        #[arg(long)]
        trace: bool,
        /// Only these faults of the seed's schedule, by place.
        #[arg(long, value_delimiter = ',')]
        keep: Option<Vec<usize>>,
        /// Write the history there, as JSON lines.
        #[arg(long)]
        history: Option<PathBuf>,
        /// Find fewer faults that break the same.
        #[arg(long)]
        shrink: bool,
        /// Print the trace's number of lines and hash, and nothing else.
        #[arg(long)]
        digest: bool,
        #[command(flatten)]
        shape: Shape,
    },
    /// Runs seeds in two processes each, and compares their traces.
    Meta {
        /// How many.
        #[arg(long, default_value_t = 5)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[command(flatten)]
        shape: Shape,
    },
    /// Plants one fault after the other in the code under test, and sees each caught.
    Mutants {
        /// Only this one.
        #[arg(long)]
        only: Option<String>,
        /// Seeds to catch each in.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[command(flatten)]
        shape: Shape,
    },
}

#[derive(Args, Clone)]
struct Shape {
    /// Nodes; drawn from the seed if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Groups; drawn from the seed if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8))]
    groups: Option<u32>,
    /// Simulated milliseconds during which faults come.
    #[arg(long, default_value_t = 6000)]
    fault_ms: u64,
    /// Kinds of faults: mixed, power, partition, vote, time, network, snapshot, flips, members;
    /// drawn from the seed if not given.
    #[arg(long)]
    theme: Option<String>,
    /// Whether logs are deleted and created again; drawn from the seed if not given.
    #[arg(long)]
    recreated: Option<bool>,
    /// A fault to plant in the code under test.
    #[arg(long)]
    mutant: Option<String>,
    /// Runs at a time; one per core if not given.
    #[arg(long)]
    jobs: Option<usize>,
}

impl Shape {
    fn plan(&self) -> anyhow::Result<Plan> {
        let mutant = match &self.mutant {
            Some(name) => Some(named(name)?.name),
            None => None,
        };
        let theme = match &self.theme {
            Some(name) => {
                let named = Theme::ALL.iter().find(|(known, _)| known == name);
                Some(named.with_context(|| format!("no theme is named {name:?}"))?.1)
            }
            None => None,
        };
        Ok(Plan {
            seed: 0,
            theme,
            fault_ticks: self.fault_ms,
            nodes: self.nodes,
            groups: self.groups,
            recreated: self.recreated,
            schedule: None,
            mutant,
            trace: false,
        })
    }

    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.unwrap_or_else(cores)
    }

    /// As arguments, to run something again.
    fn arguments(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                all.extend([format!("--{name}"), value]);
            }
        };
        add("nodes", self.nodes.map(|n| n.to_string()));
        add("groups", self.groups.map(|n| n.to_string()));
        add("fault-ms", Some(self.fault_ms.to_string()).filter(|_| self.fault_ms != 6000));
        add("theme", self.theme.clone());
        add("recreated", self.recreated.map(|is| is.to_string()));
        add("mutant", self.mutant.clone());
        all
    }
}

fn named(name: &str) -> anyhow::Result<&'static Mutant> {
    Mutant::named(name).ok_or_else(|| {
        let all: Vec<_> = mutants::ALL.iter().map(|mutant| mutant.name).collect();
        anyhow::anyhow!("no mutant is named {name:?}; there are: {}", all.join(", "))
    })
}

/// Exit codes, as users of such suites know them.
const BAD_ARGUMENTS: u8 = 254;
const CRASHED: u8 = 255;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { BAD_ARGUMENTS } else { 0 };
            // Help that can't be printed can't be helped.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    // The nodes' own logs are many; who wants them asks as usual.
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .without_time()
            .with_writer(std::io::stderr)
            .init();
    }
    run::note_panics();
    match execute(cli.command) {
        Ok(Verdict::Valid) => ExitCode::SUCCESS,
        Ok(Verdict::Invalid) => ExitCode::from(1),
        Ok(Verdict::Unknown) => ExitCode::from(2),
        Err(error) => {
            eprintln!("sim: {error:#}");
            let bad = error.downcast_ref::<std::io::Error>().is_none();
            ExitCode::from(if bad { BAD_ARGUMENTS } else { CRASHED })
        }
    }
}

fn execute(command: Command) -> anyhow::Result<Verdict> {
    match command {
        Command::Run { seeds, from, keep_going, shape } => {
            run_seeds(seeds, from, keep_going, &shape)
        }
        Command::Replay { seed, trace, keep, history, shrink, digest, shape } => {
            replay(seed, trace, keep, history, (shrink, digest), &shape)
        }
        Command::Meta { seeds, from, shape } => meta(seeds, from, &shape),
        Command::Mutants { only, seeds, from, shape } => hunt(only.as_deref(), seeds, from, &shape),
    }
}

fn worse(a: Verdict, b: Verdict) -> Verdict {
    match (a, b) {
        (Verdict::Invalid, _) | (_, Verdict::Invalid) => Verdict::Invalid,
        (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
        _ => Verdict::Valid,
    }
}

fn run_seeds(
    seeds: u64,
    from: Option<u64>,
    keep_going: bool,
    shape: &Shape,
) -> anyhow::Result<Verdict> {
    let plan = shape.plan()?;
    let from = from.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| since.as_secs() * 10_000)
    });
    let began = Instant::now();
    let mut total: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut verdict, mut runs, mut ticks) = (Verdict::Valid, 0, 0);
    let mut failed: Option<Outcome> = None;
    println!("{seeds} runs from seed {from}");
    many::run_many(&plan, from, seeds, shape.jobs(), |outcome| {
        runs += 1;
        ticks += outcome.ticks;
        for (what, count) in &outcome.counts {
            *total.entry(what).or_default() += count;
        }
        verdict = worse(verdict, outcome.verdict());
        let fine = outcome.verdict() == Verdict::Valid;
        if !fine {
            report(&outcome, shape);
            if failed.is_none() && !outcome.violations.is_empty() {
                failed = Some(outcome);
            }
        }
        fine || keep_going
    });
    let seconds = began.elapsed().as_secs_f64();
    println!("\n{runs} runs, {} simulated seconds in {seconds:.1} s: {verdict:?}", ticks / 1000);
    for (what, count) in &total {
        println!("  {count:>10} {what}");
    }
    if let Some(failed) = &failed {
        println!();
        let plan = Plan { seed: failed.seed, ..plan };
        print_shrunk(&plan, failed, shape);
    } else if let Some(why) = not_covered(&total, plan.theme).filter(|_| seeds >= COVERED_BY) {
        // Enough runs to expect everything to have happened at least once.
        println!("cannot be judged: {why}");
        verdict = worse(verdict, Verdict::Unknown);
    }
    Ok(verdict)
}

/// From so many runs on, everything must have happened at least once (P16).
const COVERED_BY: u64 = 200;

/// What never happened, of what such runs are for.
fn not_covered(total: &BTreeMap<&'static str, u64>, theme: Option<Theme>) -> Option<String> {
    let mut wanted = vec![
        "records acknowledged",
        "records unknown but stored",
        "fences",
        "logs deleted",
        "reads",
        "refused bounds",
        "leader changes",
    ];
    let faults = theme.unwrap_or(Theme::Mixed).faults();
    if faults.contains("crash-point") {
        wanted.push("deaths at crash points");
    }
    if faults.contains("isolate") {
        wanted.push("messages lost");
    }
    if theme.is_none_or(|theme| theme == Theme::Mixed) {
        wanted.extend(["lost log entries", "lost votes"]);
        wanted.extend(schedule::POINTS);
    }
    wanted.extend(faults);
    let never: Vec<_> =
        wanted.into_iter().filter(|what| total.get(what).is_none_or(|n| *n == 0)).collect();
    (!never.is_empty()).then(|| format!("never happened: {}", never.join(", ")))
}

fn report(outcome: &Outcome, shape: &Shape) {
    println!("seed {}: {:?}", outcome.seed, outcome.verdict());
    for violation in &outcome.violations {
        println!("  {violation}");
    }
    for missing in &outcome.missing {
        println!("  cannot be judged: {missing}");
    }
    println!("  again: sim replay {} {}", outcome.seed, shape.arguments().join(" "));
}

fn print_shrunk(plan: &Plan, failed: &Outcome, shape: &Shape) {
    /// Runs that shrinking may take.
    const BUDGET: usize = 150;
    let shrunk = shrink::shrink(plan, failed, BUDGET);
    println!(
        "{} of {} faults are enough ({} runs):",
        shrunk.keep.len(),
        failed.schedule.len(),
        shrunk.runs
    );
    for planned in &shrunk.outcome.schedule {
        println!("  {planned}");
    }
    for violation in &shrunk.outcome.violations {
        println!("  {violation}");
    }
    let keep: Vec<_> = shrunk.keep.iter().map(ToString::to_string).collect();
    println!(
        "  again: sim replay {} --keep {} {}",
        failed.seed,
        keep.join(","),
        shape.arguments().join(" ")
    );
}

fn replay(
    seed: u64,
    trace: bool,
    keep: Option<Vec<usize>>,
    history: Option<PathBuf>,
    (shrink, digest): (bool, bool),
    shape: &Shape,
) -> anyhow::Result<Verdict> {
    let mut plan = Plan { seed, trace, ..shape.plan()? };
    if let Some(keep) = keep {
        // The schedule is known once the run has begun: a first run tells it.
        let drawn = run::run(&Plan { trace: false, ..plan.clone() }).schedule;
        plan.schedule = Some(shrink::pick(&drawn, &keep));
    }
    let outcome = run::run(&plan);
    if digest {
        println!("{} {:016x}", outcome.trace.0, outcome.trace.1);
        return Ok(Verdict::Valid);
    }
    for (at, planned) in outcome.schedule.iter().enumerate() {
        println!("{at:>4} {planned}");
    }
    for (what, count) in &outcome.counts {
        println!("  {count:>10} {what}");
    }
    let (lines, hash) = outcome.trace;
    println!("{} simulated ms, trace {hash:016x} of {lines} lines", outcome.ticks);
    report(&outcome, shape);
    if let Some(path) = history {
        outcome.history.write(File::create(path)?)?;
    }
    if shrink && !outcome.violations.is_empty() {
        print_shrunk(&Plan { trace: false, ..plan }, &outcome, shape);
    }
    Ok(outcome.verdict())
}

fn meta(seeds: u64, from: u64, shape: &Shape) -> anyhow::Result<Verdict> {
    let me = std::env::current_exe()?;
    let digest = |seed: u64| -> anyhow::Result<String> {
        let mut command = std::process::Command::new(&me);
        command.arg("replay").arg(seed.to_string()).arg("--digest").args(shape.arguments());
        let done = command.output()?;
        let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        anyhow::ensure!(done.status.success(), "replaying seed {seed} failed: {text}");
        Ok(text)
    };
    let mut verdict = Verdict::Valid;
    for seed in from..from + seeds {
        let (first, second) = (digest(seed)?, digest(seed)?);
        let same = first == second;
        println!("seed {seed}: {first} {}", if same { "twice" } else { "and then another" });
        if !same {
            println!("  and then: {second}");
            verdict = Verdict::Invalid;
        }
    }
    Ok(verdict)
}

fn hunt(only: Option<&str>, seeds: u64, from: u64, shape: &Shape) -> anyhow::Result<Verdict> {
    let wanted: Vec<&Mutant> = match only {
        Some(name) => vec![named(name)?],
        None => mutants::ALL.iter().collect(),
    };
    let plan = shape.plan()?;
    let (mut survivors, mut false_alarms) = (0, 0);
    let began = Instant::now();
    println!("{:<28} {:<8} {:>5} {:>7}  caught as", "mutant", "breaks", "seeds", "seconds");
    for mutant in wanted {
        match mutant.hunt(&plan, from, seeds, shape.jobs()) {
            Some(caught) => {
                let again = Shape { mutant: Some(mutant.name.to_owned()), ..shape.clone() };
                let again = Shape { theme: again.theme.or(mutant.theme_name()), ..again };
                let recreated = shape.recreated.or(Some(mutant.recreated()));
                let again = Shape { recreated, ..again };
                println!(
                    "{:<28} {:<8} {:>5} {:>7.1}  {}\n{:52}sim replay {} {}",
                    mutant.name,
                    mutant.breaks,
                    caught.runs,
                    caught.took.as_secs_f64(),
                    caught.by.join(", "),
                    "",
                    caught.outcome.seed,
                    again.arguments().join(" ")
                );
                if let Some(alarm) = mutant.clean(&plan, from, caught.runs, shape.jobs()) {
                    false_alarms += 1;
                    println!("  and without the fault, the same seeds are not valid:");
                    report(&alarm, &Shape { mutant: None, ..again });
                }
            }
            None => {
                survivors += 1;
                println!("{:<28} {:<8} {seeds:>5} {:>7}  SURVIVES", mutant.name, mutant.breaks, "");
            }
        }
    }
    println!(
        "{survivors} survive; without them the same seeds are valid, but for {false_alarms}; {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let all_well = survivors == 0 && false_alarms == 0;
    Ok(if all_well { Verdict::Valid } else { Verdict::Invalid })
}
