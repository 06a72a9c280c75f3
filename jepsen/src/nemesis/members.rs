//! A change of the members, and what happens to others meanwhile.
//!
//! The steps are an operator's (`quorate member`): the new node is taken in as a learner, gets a vote
//! when it has caught up, and who goes does so in the same change; a leader hands over first. Each is
//! asked of whoever leads, and asked again until it is so, because the answer may be lost, and the
//! leader with it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use quorate_jepsen_core::ids::Node;
use quorate_proto::{admin::v1::Members, v1::Role};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle};

use super::fault::Target;
use crate::{
    cluster::{Cluster, PATIENCE, Unhealthy},
    node_api::NodeApi,
};

/// What is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// One more.
    Add,
    /// One less. It runs on for as long as the fault lasts, and clients go on calling it.
    Remove(Target),
    /// One is killed for good, and another with an empty disk takes its place.
    Replace(Target),
}

impl Change {
    /// Whether it takes a node under a new id.
    #[must_use]
    pub fn takes_newcomer(self) -> bool {
        !matches!(self, Self::Remove(_))
    }
}

/// What happens at the moment at which the members change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meanwhile {
    /// Nothing else.
    #[default]
    Nothing,
    /// `kill -9` of the leader, and a start when the fault ends.
    KillLeader,
    /// SIGSTOP of the leader, and SIGCONT when the fault ends.
    PauseLeader,
    /// The leader is cut off from all others.
    LeaderAlone,
    /// `kill -9` of the new node while it is a learner, and a start when the fault ends.
    KillNewcomer,
}

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Nobody was asked for anything.
    Begun,
    /// The new node is a learner, if there is one.
    Learner,
    /// Votes change now.
    Votes,
}

/// A change that is being made.
#[derive(Debug)]
pub(super) struct Changing {
    /// Who comes.
    pub(super) comes: Option<Node>,
    /// Who goes.
    pub(super) goes: Option<Node>,
    step: watch::Receiver<Step>,
    task: JoinHandle<()>,
}

/// More entries behind than this, and a learner gets no vote yet; the leader itself allows more.
const NEAR: u64 = 500;

/// Between two questions to the leader.
const ASK_EVERY: Duration = Duration::from_millis(50);

impl Changing {
    /// Begins a change, of which it is known who goes.
    pub(super) async fn begin(
        cluster: &mut Cluster,
        change: Change,
        goes: Option<Node>,
    ) -> Result<Self> {
        let left = cluster.nodes().len() - usize::from(matches!(change, Change::Remove(_)));
        ensure!(left >= 2, "the last but one node is not to be removed");
        if let (Change::Replace(_), Some(dead)) = (change, goes) {
            cluster.kill(&[dead]).await?;
            cluster.left(dead);
            cluster.discard(dead).await?;
        }
        let comes = match change.takes_newcomer() {
            true => Some(cluster.start_newcomer()?),
            false => None,
        };
        // Clients call it from its first moment on, when it can know nothing.
        comes.iter().for_each(|node| cluster.endpoints().add(*node));
        let all = cluster.nodes().into_iter().chain(comes);
        let apis = all.map(|node| cluster.api(node)).collect::<Result<Vec<_>>>()?;
        let wanted = Wanted { comes: comes.map(|node| (node, cluster.places(node))), goes };
        let (told, step) = watch::channel(Step::Begun);
        let task = tokio::spawn(async move {
            while !wanted.go_on(&apis, &told).await.unwrap_or_default() {
                tokio::time::sleep(ASK_EVERY).await;
            }
        });
        Ok(Self { comes, goes, step, task })
    }

    /// Waits until the change has come this far.
    pub(super) async fn reached(&mut self, step: Step) -> Result<()> {
        // An end without that step is not possible, but waiting for it would be the end of the run.
        let reached = async { self.step.wait_for(|now| *now >= step).await.is_ok() };
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(true) => Ok(()),
            Ok(false) => bail!("the change ended before {step:?}"),
            Err(_) => Err(Unhealthy(format!("{} for {PATIENCE:?}", self.stuck())).into()),
        }
    }

    /// Waits until the change is made, and takes note of it.
    pub(super) async fn end(mut self, cluster: &mut Cluster) -> Result<String> {
        match tokio::time::timeout(PATIENCE, &mut self.task).await {
            Ok(ended) => ended.context("the change of members panicked")?,
            Err(_) => {
                let stuck = self.stuck();
                return Err(Unhealthy(format!("{stuck} for {PATIENCE:?} after healing")).into());
            }
        }
        self.comes.iter().for_each(|node| cluster.joined(*node));
        if let Some(node) = self.goes
            && cluster.nodes().contains(&node)
        {
            cluster.left(node);
            cluster.discard(node).await?;
        }
        let members: Vec<_> = cluster.nodes().iter().map(|node| format!("n{node}")).collect();
        Ok(format!("members are {} now", members.join(" ")))
    }

    fn stuck(&self) -> String {
        let node = |node: Option<Node>| node.map_or("nobody".to_owned(), |node| format!("n{node}"));
        let step = *self.step.borrow();
        format!("{} in, {} out: stuck at {step:?}", node(self.comes), node(self.goes))
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the members are to be.
#[derive(Debug)]
struct Wanted {
    /// With its addresses, for nodes and for clients.
    comes: Option<(Node, (String, String))>,
    goes: Option<Node>,
}

impl Wanted {
    /// Takes one step; whether it was the last. An error means that it is to be tried again: the
    /// leader may be any other by then.
    async fn go_on(&self, apis: &[NodeApi], told: &watch::Sender<Step>) -> Result<bool> {
        let asked = apis.iter().cloned().map(|mut api| async move {
            let status = api.status().await.ok()?;
            Some((api, status.groups.into_iter().next()?))
        });
        let answers = futures::future::join_all(asked).await.into_iter().flatten();
        let leaders = answers.filter(|(_, group)| group.role() == Role::Leader);
        let (mut leader, group) =
            leaders.max_by_key(|(_, group)| group.term).context("nobody leads")?;
        let members = group.members.clone().context("a leader without members")?;
        if self.is_so(&members) && group.commit_index >= members.log_index {
            return Ok(true);
        }
        let mut promote = Vec::new();
        if let Some((node, (peer, client))) = &self.comes {
            let member = members.nodes.iter().find(|member| member.node_id == node.0);
            if member.is_none() {
                leader.add_learner(0, *node, peer, client).await?;
                return Ok(false);
            }
            told.send_if_modified(|step| forward(step, Step::Learner));
            if member.is_some_and(|member| !member.voter) {
                let of_node = group.progress.iter().find(|progress| progress.node_id == node.0);
                let matched = of_node.map_or(0, |progress| progress.matched_index);
                if matched == 0 || group.last_log_index - matched > NEAR {
                    return Ok(false);
                }
            }
            // Also when it has its vote already: whatever is half done is completed by that.
            promote.push(*node);
        }
        if self.goes == Some(leader.node()) {
            let voters = members.nodes.iter().filter(|member| member.voter);
            let others = voters.map(|member| Node(member.node_id));
            let to = others.filter(|node| *node != leader.node()).min();
            leader.transfer_leader(0, to.context("the only voter cannot go")?).await?;
            return Ok(false);
        }
        told.send_if_modified(|step| forward(step, Step::Votes));
        leader.change_members(0, &promote, self.goes, members.log_index).await?;
        Ok(false)
    }

    fn is_so(&self, members: &Members) -> bool {
        let votes = |node: Node| members.nodes.iter().any(|m| m.node_id == node.0 && m.voter);
        let is_in = |node: Node| members.nodes.iter().any(|m| m.node_id == node.0);
        !members.changing
            && self.comes.as_ref().is_none_or(|(node, _)| votes(*node))
            && !self.goes.is_some_and(is_in)
    }
}

fn forward(step: &mut Step, to: Step) -> bool {
    let moved = *step < to;
    *step = to.max(*step);
    moved
}
