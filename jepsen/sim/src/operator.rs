//! Who changes the members of the groups, as an operator does it with `quorate member`: one group
//! after the other, each step repeated until it is known to be done, a refusal taken for an answer.
//!
//! One change of the cluster at a time; it ends at the latest when everything is healed, or the run
//! fails. The steps are the node's own (`raft-node/src/raft/members.rs`), reached over the network.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use quorate_jepsen_core::seed::Seed;
use quorate_raft_node::{
    membership::change::{Change, Members, Refusal},
    raft::{group::Group, members::ChangeFailure},
    runtime,
};
use tonic::Status;

use crate::{
    cluster, host, node, record, rpc,
    world::{self, CLIENTS, HostId},
};

/// A step is waited for at most this long.
const ATTEMPT: Duration = Duration::from_millis(2500);

/// A removed node goes on for at most this long: it is not told, and looks for a leader.
const LEFT_ALONE_MS: u64 = 800;

/// What is to be done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// A node that was just started gets a vote in every group.
    Add(HostId),
    /// A node goes from every group, then it is stopped.
    Remove(HostId),
    /// A new node gets the vote of one that will never be back.
    Replace {
        /// Its disk is lost.
        lost: HostId,
        /// The new one.
        by: HostId,
    },
    /// A node is to go, asked just after another one lost its disk. If that is refused because too
    /// few would be left, the lost one is replaced first.
    RemoveAfterLoss {
        /// To go.
        node: HostId,
        /// Its disk is lost.
        lost: HostId,
        /// The new one.
        by: HostId,
    },
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(node) => write!(f, "n{node} is added"),
            Self::Remove(node) => write!(f, "n{node} is removed"),
            Self::Replace { lost, by } => write!(f, "n{lost} is replaced by n{by}"),
            Self::RemoveAfterLoss { node, lost, by } => {
                write!(f, "n{node} is removed, and n{lost}, which is lost, replaced by n{by}")
            }
        }
    }
}

thread_local! {
    static AT_WORK: Cell<Option<Job>> = const { Cell::new(None) };
    static STEPS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
    /// What was last in the way, for reports.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What is being done.
#[must_use]
pub fn at_work() -> Option<Job> {
    AT_WORK.get()
}

/// What was last in the way.
#[must_use]
pub fn in_the_way() -> String {
    LAST.with_borrow(Clone::clone)
}

/// How often what came of its steps.
#[must_use]
pub fn steps() -> BTreeMap<&'static str, u64> {
    STEPS.with_borrow(Clone::clone)
}

fn count(what: &'static str) {
    STEPS.with_borrow_mut(|steps| *steps.entry(what).or_default() += 1);
}

/// Starts a job, if there is none.
pub fn start(job: Job, groups: u32, seed: Seed) {
    if AT_WORK.get().is_some() {
        return;
    }
    AT_WORK.set(Some(job));
    let at = cluster::in_service().first().copied().unwrap_or(1);
    let operator = Operator { seed, at, groups };
    host::spawn(CLIENTS, async move {
        operator.carry_out(job).await;
        record::fault(format!("{job}: done"));
        count("changes of members done");
        AT_WORK.set(None);
    });
}

enum Outcome {
    Done,
    /// The rule says that too few would be left.
    TooFew,
}

struct Operator {
    seed: Seed,
    /// Who was asked last.
    at: HostId,
    groups: u32,
}

fn only(node: HostId) -> BTreeSet<HostId> {
    BTreeSet::from([node])
}

impl Operator {
    async fn carry_out(mut self, job: Job) {
        match job {
            Job::Add(node) => self.add(node).await,
            Job::Remove(node) => {
                self.remove(node, false).await;
            }
            Job::Replace { lost, by } => self.replace(lost, by).await,
            Job::RemoveAfterLoss { node, lost, by } => {
                let removed = self.remove(node, true).await;
                self.replace(lost, by).await;
                if !removed {
                    self.remove(node, false).await;
                }
            }
        }
    }

    async fn add(&mut self, node: HostId) {
        for group in 0..self.groups {
            self.learner(group, node).await;
            let promote = Change { promote: only(node), ..Change::default() };
            while let Outcome::TooFew = self.change(group, &promote, false).await {}
        }
    }

    async fn replace(&mut self, lost: HostId, by: HostId) {
        for group in 0..self.groups {
            self.learner(group, by).await;
            let swap = Change { promote: only(by), remove: only(lost), if_log_index: None };
            while let Outcome::TooFew = self.change(group, &swap, false).await {}
        }
    }

    /// `false`: it was refused because too few would be left, somewhere.
    async fn remove(&mut self, node: HostId, may_be_refused: bool) -> bool {
        for group in 0..self.groups {
            let remove = Change { remove: only(node), ..Change::default() };
            while let Outcome::TooFew = self.change(group, &remove, may_be_refused).await {
                if may_be_refused {
                    count("removals refused for want of a quorum");
                    return false;
                }
            }
        }
        let ms = self.seed.below(LEFT_ALONE_MS);
        runtime::sleep(Duration::from_millis(ms)).await;
        cluster::retire(node);
        true
    }

    /// Takes a node in as a learner, until that is done.
    async fn learner(&mut self, group: u32, id: HostId) {
        loop {
            let step =
                move |group: Group| async move { group.add_learner(id, node::address(id)).await };
            match self.ask(group, step).await {
                Ok(_) => return count("learners added"),
                Err(why) => self.after(why).await,
            }
        }
    }

    async fn change(&mut self, group: u32, change: &Change, may_be_refused: bool) -> Outcome {
        loop {
            let asked = change.clone();
            let step = move |group: Group| async move {
                let plan = group.plan_change(&asked).await?;
                group.change_members(plan).await
            };
            match self.ask(group, step).await {
                Ok(members) if !members.changing => {
                    count("changes of voters");
                    return Outcome::Done;
                }
                Ok(_) => self.wait().await,
                Err(Failed::Refused(Refusal::NoQuorum { .. })) if may_be_refused => {
                    return Outcome::TooFew;
                }
                Err(Failed::Refused(Refusal::Leader(leader))) => {
                    self.hand_over(group, leader).await;
                }
                Err(why) => self.after(why).await,
            }
        }
    }

    /// Leadership goes to a voter that stays.
    async fn hand_over(&mut self, group: u32, from: HostId) {
        count("leaders asked to hand over first");
        let number = self.seed.next_u64();
        let step = move |group: Group| async move {
            let members = group.members();
            let others: Vec<HostId> = members
                .nodes
                .iter()
                .filter(|(id, member)| **id != from && member.voter && member.heard.is_some())
                .map(|(id, _)| *id)
                .collect();
            if !others.is_empty() {
                let to = others[number as usize % others.len()];
                // A core that stops meanwhile hands nothing over.
                let _ = group.transfer_leadership(to).await;
            }
            Ok(members)
        };
        if let Err(why) = self.ask(group, step).await {
            self.after(why).await;
        }
        self.wait().await;
    }

    async fn wait(&mut self) {
        let ms = 10 + self.seed.below(60);
        runtime::sleep(Duration::from_millis(ms)).await;
    }

    async fn after(&mut self, why: Failed) {
        LAST.set(format!("n{}: {why}", self.at));
        world::trace(format_args!("operator: n{}: {why}", self.at));
        let leader = match why {
            Failed::NotLeader(leader) => leader,
            Failed::Refused(_) => Some(self.at),
            Failed::Unknown(_) => {
                count("steps with unknown outcome");
                None
            }
        };
        let all = cluster::in_service();
        self.at = match leader.filter(|leader| all.contains(leader)) {
            Some(leader) if !self.seed.one_in(5) => leader,
            _ => *self.seed.pick(&all),
        };
        self.wait().await;
    }

    /// Asks the node that was asked last to do `step`.
    async fn ask<F, Fut>(&self, number: u32, step: F) -> Result<Members, Failed>
    where
        F: FnOnce(Group) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Members, ChangeFailure>> + Send + 'static,
    {
        let asked = rpc::call(self.at, ATTEMPT, move |logs| async move {
            let group = logs.context.groups[number as usize].reader.group().clone();
            let done = runtime::timeout(ATTEMPT, step(group)).await;
            Ok::<_, Status>(done.unwrap_or_else(|_| Err(ChangeFailure::Unknown("late".to_owned()))))
        });
        match asked.await {
            Ok(Ok(members)) => Ok(members),
            Ok(Err(ChangeFailure::NotLeader(leader))) => {
                Err(Failed::NotLeader(leader.map(|leader| leader.id)))
            }
            Ok(Err(ChangeFailure::Refused(refusal))) => Err(Failed::Refused(refusal)),
            Ok(Err(ChangeFailure::NotNow(why) | ChangeFailure::Unknown(why))) => {
                Err(Failed::Unknown(why))
            }
            Err(failure) => Err(Failed::Unknown(failure.kind)),
        }
    }
}

enum Failed {
    NotLeader(Option<HostId>),
    Refused(Refusal),
    /// Nobody answered, or it is not known what came of it.
    Unknown(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader(leader) => write!(f, "it does not lead, {leader:?} does"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unknown(why) => f.write_str(why),
        }
    }
}
