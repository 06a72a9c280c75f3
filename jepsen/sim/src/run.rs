//! One run: a cluster, clients, faults, then peace, then the judgement.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use quorate_jepsen_core::{
    check::{self, Verdict},
    history::{Event, History},
    seed::Seed,
};
use quorate_raft_node::raft::settings::Timing;
use quorate_state_machine::planted;

use crate::{
    cluster::{self, Cluster, Shape},
    dice,
    invariants::{Violation, agreement::Agreement, leaders::Leaders},
    nemesis::Nemesis,
    operator, record,
    schedule::{self, Planned, Theme},
    settle::{self, Standstill},
    trace::Trace,
    workload::{self, Mix},
    world::{self, Traffic},
};

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where everything random comes from.
    pub seed: u64,
    /// How long faults come, in ticks.
    pub fault_ticks: u64,
    /// Nodes; drawn if `None`.
    pub nodes: Option<u64>,
    /// Groups; drawn if `None`.
    pub groups: Option<u32>,
    /// Whether logs are deleted and created again; drawn if `None`.
    pub recreated: Option<bool>,
    /// The theme of its faults; drawn if `None`.
    pub theme: Option<Theme>,
    /// Instead of the drawn schedule.
    pub schedule: Option<Vec<Planned>>,
    /// A fault planted in the code under test.
    pub mutant: Option<&'static str>,
    /// Print the trace.
    pub trace: bool,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What must hold and does not. Sorted, at most a few of each property.
    pub violations: Vec<Violation>,
    /// Why it can't be judged, if it can't.
    pub missing: Vec<String>,
    /// What was done to it.
    pub schedule: Vec<Planned>,
    /// How often each fault was carried out, and more to count.
    pub counts: BTreeMap<&'static str, u64>,
    /// Lines of the trace, and their hash.
    pub trace: (u64, u64),
    /// Simulated milliseconds.
    pub ticks: u64,
    /// The history, for whoever wants to look.
    pub history: History,
}

impl Outcome {
    /// The verdict. Something wrong is wrong, however little was seen.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.violations.is_empty() {
            Verdict::Invalid
        } else if !self.missing.is_empty() {
            Verdict::Unknown
        } else {
            Verdict::Valid
        }
    }

    /// The properties that are broken.
    #[must_use]
    pub fn properties(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.violations.iter().map(|v| v.property.as_str()).collect();
        names.dedup();
        names
    }
}

/// A panic in the code under test.
pub const PANIC: &str = "panic";

/// A group's core that stopped by itself.
pub const STOPPED: &str = "core-stopped";

/// A node that does not start on what a crash left.
pub const NO_START: &str = "no-start";

/// A run with so much wrong ends early.
const MANY: usize = 50;

/// Violations of one property that are kept.
const EXAMPLES: usize = 3;

thread_local! {
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Panics in runs are noted; others are printed as usual.
pub fn note_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let noted = PANICS.with_borrow_mut(|panics| match panics {
            Some(panics) => {
                panics.push(info.to_string());
                true
            }
            None => false,
        });
        if !noted {
            usual(info);
        }
    }));
}

/// Runs a plan, in a thread of its own.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    let plan = plan.clone();
    let thread = std::thread::Builder::new().name(format!("seed-{}", plan.seed));
    let running = thread.spawn(move || {
        let seed = Seed::new(plan.seed);
        dice::seed_thread(&seed);
        PANICS.set(Some(Vec::new()));
        planted::plant(plan.mutant);
        Run::new(&plan, seed).finish(&plan)
    });
    let running = running.expect("a thread for the run");
    running.join().expect("a run notes the panics of what it runs, and has none itself")
}

/// Nodes that changes of members can bring in.
const SPARES: u64 = 3;

/// The shape of the run with this seed.
fn shape(plan: &Plan, seed: &Seed) -> Shape {
    let mut seed = seed.fork("shape");
    let nodes = if seed.one_in(4) { 5 } else { 3 };
    let groups = [1, 1, 2, 3][seed.below(4) as usize];
    let timing = match seed.below(3) {
        0 => Timing { heartbeat_ms: 100, election_min_ms: 500, election_max_ms: 1000 },
        1 => Timing { heartbeat_ms: 50, election_min_ms: 250, election_max_ms: 500 },
        // Candidates get in each other's way.
        _ => Timing { heartbeat_ms: 50, election_min_ms: 300, election_max_ms: 320 },
    };
    let recreated = seed.fork("recreated").one_in(2);
    Shape {
        nodes: plan.nodes.unwrap_or(nodes),
        spares: SPARES,
        groups: plan.groups.unwrap_or(groups),
        timing,
        retain_bytes: 4096 << seed.below(5),
        flush_interval: Duration::from_millis(500 + seed.below(4000)),
        // None, fewer than a read asks for, plenty.
        recent_bytes: *seed.pick(&[0, 500, 1 << 20]),
        sync_ticks: *seed.pick(&[(0, 3), (0, 3), (2, 10), (5, 30)]),
        // Whoever writes there keeps a group busy, and some faults take one that is not.
        recreated: plan.recreated.unwrap_or(recreated),
    }
}

struct Run {
    cluster: Option<Cluster>,
    shape: Shape,
    agreement: Agreement,
    leaders: Leaders,
    found: Vec<Violation>,
    nemesis: Nemesis,
    schedule: Vec<Planned>,
    seed: Seed,
}

/// Before the first fault, in ticks: an election and the creation of the logs, with plenty to spare.
const START_PATIENCE: u64 = 20_000;

impl Run {
    fn new(plan: &Plan, seed: Seed) -> Self {
        world::begin(&seed, Trace::new(plan.trace));
        let shape = shape(plan, &seed);
        let mut found = Vec::new();
        let cluster = Cluster::start(shape, &seed)
            .inspect_err(|why| found.push(Violation::new(NO_START, format!("{why:#}"))))
            .ok();
        Self {
            cluster,
            shape,
            agreement: Agreement::default(),
            leaders: Leaders::default(),
            found,
            nemesis: Nemesis::new(&[], &seed),
            schedule: Vec::new(),
            seed,
        }
    }

    /// One tick, and a look at everything.
    fn tick(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        if let Err(why) = cluster.tick() {
            self.found.push(Violation::new(NO_START, format!("{why:#}")));
        }
        if let Some(why) = cluster.failed() {
            self.found.push(Violation::new(NO_START, why));
        }
        self.agreement.look(&mut self.found);
        self.leaders.look(&mut self.found);
        for id in cluster::in_service() {
            let Some(node) = cluster::node(id) else { continue };
            for group in &node.groups {
                if let Some(why) = cluster::stopped(group) {
                    let what = format!("n{id}, group {}: {why}", group.id.0);
                    self.found.push(Violation::new(STOPPED, what));
                }
            }
        }
        let panics = PANICS.with_borrow_mut(|p| p.as_mut().map(std::mem::take).unwrap_or_default());
        self.found.extend(panics.into_iter().map(|what| Violation::new(PANIC, what)));
    }

    /// Goes on until `until`, or something is wrong, or so many ticks have passed.
    fn go(&mut self, ticks: u64, mut until: impl FnMut(&mut Self) -> bool) -> bool {
        for _ in 0..ticks {
            if self.found.len() > MANY {
                return false;
            }
            self.tick();
            if until(self) {
                return true;
            }
        }
        false
    }

    fn no_progress(&mut self, what: String) {
        let leaders: Vec<_> = (0..self.shape.groups).map(cluster::leader).collect();
        let what = format!("{what} (leaders: {leaders:?})");
        self.found.push(Violation::new(settle::NO_PROGRESS, what));
    }

    fn live(&mut self, plan: &Plan) {
        let shape = self.shape;
        settle::create_logs(&shape);
        if !self.go(START_PATIENCE, |run| settle::all_done("create", &run.shape)) {
            return self.no_progress("the logs could not be created".to_owned());
        }
        let begin = world::tick();
        let end = begin + plan.fault_ticks;
        self.schedule = match &plan.schedule {
            Some(schedule) => schedule.clone(),
            None => schedule::draw(&self.seed, &shape, plan.theme, begin, end),
        };
        self.nemesis = Nemesis::new(&self.schedule, &self.seed);
        let recreating = u64::from(shape.recreated);
        let mix = Mix { producers: 2, plain: 2, fenced: 2, recreating, readers: 3, pause_ms: 40 };
        workload::start(&shape, &mix, &self.seed);
        self.go(plan.fault_ticks, |run| {
            if let Some(cluster) = &mut run.cluster {
                run.nemesis.step(cluster);
            }
            false
        });
        if let Some(cluster) = &mut self.cluster {
            self.nemesis.heal(cluster);
        }
        // A while of work in peace.
        self.go(1000, |_| false);
        if !self.go(settle::PATIENCE, |_| operator::at_work().is_none()) {
            let job = operator::at_work().map(|job| job.to_string()).unwrap_or_default();
            let why = operator::in_the_way();
            return self.no_progress(format!("it does not come to an end that {job}: {why}"));
        }
        workload::stop();
        if !self.go(settle::PATIENCE, |_| workload::at_work() == 0) {
            return self.no_progress(format!("{} clients hang", workload::at_work()));
        }
        settle::append_to_all(&shape);
        if !self.go(settle::PATIENCE, |run| settle::all_done("append", &run.shape)) {
            return self.no_progress("a log takes no appends".to_owned());
        }
        let mut standstill = Standstill::default();
        if !self.go(settle::PATIENCE, |_| standstill.look()) {
            return self.no_progress(format!("replicas do not meet: {}", standstill.describe()));
        }
        settle::read_back(&shape);
        self.go(settle::PATIENCE, |run| settle::all_done("read", &run.shape));
        if let Some(cluster) = &self.cluster {
            settle::compare(cluster, &mut self.found);
        }
    }

    fn finish(mut self, plan: &Plan) -> Outcome {
        self.live(plan);
        let died_at_points = self.cluster.as_ref().map_or(0, |c| c.died_at_points);
        let replicas = cluster::in_service().len();
        let disks: Vec<_> = self.shape.all_ids().map(crate::disk::stats).collect();
        // First, so that nothing of the nodes outlives the world.
        self.cluster = None;
        let ticks = world::tick();
        let (traffic, trace) = world::end();
        let mut record = record::take();
        record.events.push(Event::Run { name: "sim".to_owned(), seed: plan.seed });
        let error_ppm = schedule::MAX_DRIFT_PPM as u64;
        record.events.push(Event::Clocks { error_ppm });
        record.events.push(Event::Expect { replicas });
        let mut found = self.found;
        let mut missing = Vec::new();
        let mut counts = self.nemesis.done().clone();
        let history = match History::from_events(record.events) {
            Ok(history) => history,
            Err(why) => {
                missing.push(why.to_string());
                History::default()
            }
        };
        let report = check::check(&history);
        for anomaly in &report.anomalies {
            let what = anomaly.to_string();
            found.push(Violation::new(anomaly.kind.name(), what));
        }
        missing.extend(report.missing.clone());
        count(&mut counts, &report.counts, traffic);
        counts.extend(cluster::passed());
        counts.extend(operator::steps());
        counts.insert("leader changes", self.leaders.changes());
        counts.insert("refused bounds", record.refused_bounds);
        counts.insert("deaths at crash points", died_at_points);
        counts.insert("lost log entries", disks.iter().map(|d| d.lost_entries).sum());
        counts.insert("lost votes", disks.iter().map(|d| d.lost_votes).sum());
        found.sort();
        found.dedup();
        let mut kept: Vec<Violation> = Vec::new();
        for violation in found {
            let same = kept.iter().filter(|v| v.property == violation.property).count();
            if same < EXAMPLES {
                kept.push(violation);
            }
        }
        Outcome {
            seed: plan.seed,
            violations: kept,
            missing,
            schedule: self.schedule,
            counts,
            trace: trace.digest(),
            ticks,
            history,
        }
    }
}

fn count(counts: &mut BTreeMap<&'static str, u64>, of: &check::Counts, traffic: Traffic) {
    counts.insert("records acknowledged", of.acknowledged as u64);
    counts.insert("records refused", of.refused as u64);
    counts.insert("records unknown", of.unknown as u64);
    counts.insert("records unknown but stored", of.unknown_present as u64);
    counts.insert("fences", of.fences as u64);
    counts.insert("logs deleted", of.deleted as u64);
    counts.insert("reads", of.reads as u64);
    counts.insert("messages delivered", traffic.delivered);
    counts.insert("messages lost", traffic.lost);
    counts.insert("requests twice", traffic.twice);
}
