//! After the faults: the cluster must serve again, and all replicas must be the same, byte for byte
//! (P15, P1).

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use quorate_jepsen_core::{
    history::Event,
    ids::{Incarnation, Node, Offset},
    op::{Answer, Append, Call, ReplicaLog},
};
use quorate_proto::v1 as wire;
use quorate_raft_node::runtime;

use crate::{
    cluster::{self, Cluster, Shape},
    host,
    invariants::Violation,
    record, rpc,
    workload::{self, Client, recreated},
    world::{self, CLIENTS, HostId},
};

/// The property's name: service is back within a bounded time.
pub const NO_PROGRESS: &str = "no-progress";

/// Replicas that are equal in everything but their bytes.
pub const BYTES_DIFFER: &str = "replica-bytes-differ";

/// Service must be back within this, in ticks.
pub const PATIENCE: u64 = 30_000;

/// All replicas stand still for so long before they are compared.
const STILL: u64 = 300;

const ATTEMPT: Duration = Duration::from_millis(1000);

thread_local! {
    static DONE: RefCell<BTreeMap<String, ()>> = const { RefCell::new(BTreeMap::new()) };
}

/// Is a named task done?
#[must_use]
pub fn is_done(task: &str) -> bool {
    DONE.with_borrow(|done| done.contains_key(task))
}

fn done(task: String) {
    DONE.with_borrow_mut(|all| all.insert(task, ()));
}

/// Creates all logs; `is_done("create …")` says of each when it is there.
pub fn create_logs(shape: &Shape) {
    for log in workload::logs(shape) {
        let nodes = cluster::in_service();
        host::spawn(CLIENTS, async move {
            let mut at = 0;
            while rpc::create(nodes[at % nodes.len()], log.clone(), ATTEMPT).await.is_err() {
                at += 1;
                runtime::sleep(Duration::from_millis(20)).await;
            }
            done(format!("create {log}"));
        });
    }
}

/// Appends to every log once more, until it works.
pub fn append_to_all(shape: &Shape) {
    for log in workload::logs(shape) {
        let nodes = cluster::in_service();
        host::spawn(CLIENTS, async move {
            let mut at = 0;
            loop {
                let node = nodes[at % nodes.len()];
                if append_once(&log, node).await {
                    return done(format!("append {log}"));
                }
                at += 1;
                runtime::sleep(Duration::from_millis(20)).await;
            }
        });
    }
}

/// Takes the log and appends; every attempt is an operation of its own.
async fn append_once(log: &str, node: HostId) -> bool {
    let process = record::process();
    let mut append =
        Append { log: log.to_owned(), records: record::fresh_records(1), ..Append::default() };
    let mut incarnation = None;
    if recreated::is(log) {
        match recreated::create(&mut Client::alone(node), log).await {
            Ok(created) => incarnation = Some(created),
            Err(_) => return false,
        }
    }
    if log.starts_with("fenced") || incarnation.is_some() {
        let op = record::invoke(process, Call::Fence { log: log.to_owned() });
        match rpc::fence(node, log.to_owned(), ATTEMPT).await {
            Ok(granted) => {
                let epoch = quorate_jepsen_core::ids::Epoch(granted.writer_epoch);
                if incarnation.is_some() {
                    recreated::told(log, op, None, Some(granted.incarnation));
                }
                record::answer(
                    op,
                    Answer::Fenced {
                        epoch,
                        next_offset: Offset(granted.next_offset),
                        stamp: granted.stamp.map(rpc::stamp),
                    },
                );
                append.writer_epoch = Some(epoch);
            }
            Err(failure) => {
                record::answer(op, failure.answer());
                return false;
            }
        }
    }
    let op = record::invoke(process, Call::Append(append.clone()));
    match rpc::append(node, workload::part(&append, None, incarnation), ATTEMPT).await {
        Ok(answer) => {
            let part = answer.part.unwrap_or_default();
            if incarnation.is_some() {
                recreated::told(log, op, incarnation, Some(part.incarnation));
            }
            record::answer(
                op,
                Answer::Appended {
                    first_offset: Offset(part.first_offset),
                    next_offset: Offset(part.next_offset),
                    deduplicated: part.deduplicated,
                    stamp: answer.stamp.map(rpc::stamp),
                },
            );
            true
        }
        Err(failure) => {
            if incarnation.is_some() {
                recreated::told(log, op, incarnation, None);
            }
            record::answer(op, failure.answer());
            false
        }
    }
}

/// Waits until replicas stand still at equal indexes.
#[derive(Debug, Default)]
pub struct Standstill {
    last: Vec<(HostId, Vec<u64>)>,
    since: u64,
}

impl Standstill {
    /// Looks; says whether they do.
    pub fn look(&mut self) -> bool {
        let all = cluster::in_service();
        let now: Vec<(HostId, Vec<u64>)> = all
            .iter()
            .copied()
            .filter_map(|id| {
                let node = cluster::node(id)?;
                let applied =
                    |g: &quorate_raft_node::raft::group::Group| g.watch_applied().borrow().index.0;
                Some((id, node.groups.iter().map(applied).collect()))
            })
            .collect();
        let equal = now.len() == all.len() && now.windows(2).all(|p| p[0].1 == p[1].1);
        if !equal || now != self.last {
            (self.last, self.since) = (now, world::tick());
            return false;
        }
        world::tick() - self.since >= STILL
    }

    /// Where they were last, for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        let all = self.last.iter().map(|(id, applied)| format!("n{id} at {applied:?}"));
        all.collect::<Vec<_>>().join(", ")
    }
}

/// Reads every log from every replica; `is_done("read …")`.
pub fn read_back(shape: &Shape) {
    for log in workload::logs(shape) {
        for id in cluster::in_service() {
            let log = log.clone();
            host::spawn(CLIENTS, async move {
                let body = wire::ReadRequest {
                    log: log.clone(),
                    consistency: Some(wire::Consistency {
                        level: wire::Level::Eventual.into(),
                        ..wire::Consistency::default()
                    }),
                    ..wire::ReadRequest::default()
                };
                // A replica that can't be read stays missing, and the history can't be judged.
                if let Ok(shown) = rpc::read(id, body, ATTEMPT).await {
                    record::event(Event::Replica(ReplicaLog {
                        node: Node(id),
                        log: log.clone(),
                        incarnation: recreated::is(&log)
                            .then_some(Incarnation(shown.header.incarnation)),
                        start_offset: Offset(shown.header.start_offset),
                        next_offset: Offset(shown.header.next_offset),
                        batches: shown.batches,
                    }));
                }
                done(format!("read {log} {id}"));
            });
        }
    }
}

/// Are all named tasks done?
#[must_use]
pub fn all_done(kind: &str, shape: &Shape) -> bool {
    let logs = workload::logs(shape);
    match kind {
        "read" => {
            let all = cluster::in_service();
            logs.iter().all(|log| all.iter().all(|id| is_done(&format!("read {log} {id}"))))
        }
        _ => logs.iter().all(|log| is_done(&format!("{kind} {log}"))),
    }
}

/// Everything that a replica holds, in the order of keys.
type Rows = Vec<(Vec<u8>, bytes::Bytes)>;

/// Compares the replicas' states row by row.
pub fn compare(cluster: &Cluster, found: &mut Vec<Violation>) {
    let shape = cluster.shape();
    for number in 0..shape.groups {
        let mut first: Option<(HostId, Rows)> = None;
        for id in cluster::in_service() {
            let Some(group) = cluster::group(id, number) else { continue };
            let rows: Rows = {
                let rows = group.store().rows();
                rows.rows().map(|(key, value)| (key.to_vec(), value.clone())).collect()
            };
            match &first {
                None => first = Some((id, rows)),
                Some((other, expected)) if *expected != rows => {
                    let differing = expected.iter().zip(&rows).find(|(a, b)| a != b);
                    found.push(Violation::new(
                        BYTES_DIFFER,
                        format!(
                            "group {number}: n{other} has {} rows, n{id} {}; first difference \
                             {differing:?}",
                            expected.len(),
                            rows.len()
                        ),
                    ));
                }
                Some(_) => {}
            }
        }
    }
}
