//! Changes of one group, through whichever node leads it.

use std::time::{Duration, Instant};

use quorate_client::{Admin, Client, Effect, Error, ErrorKind, Members};
use quorate_proto::v1::Role;

use super::{super::nodes, LOOK_EVERY};
use crate::{
    exit::Failure,
    output::{Output, progress::Progress, units},
};

/// One group.
pub struct Group {
    /// Its number.
    pub number: u32,
    client: Client,
    timeout: Duration,
    output: Output,
}

/// The node that leads the group, and what it says.
pub struct Leader {
    /// Its id.
    pub id: u64,
    /// Its operators' API.
    pub admin: Admin,
    /// Who is in the group.
    pub members: Members,
    /// The end of its log.
    last: u64,
    /// How far the logs of the others match.
    matched: Vec<(u64, u64)>,
}

/// What is to change.
pub struct Change {
    /// Gets a vote.
    pub promote: Option<u64>,
    /// Goes.
    pub remove: Option<u64>,
}

impl Group {
    /// Calls give up after `timeout`, retries included.
    pub fn new(number: u32, client: Client, timeout: Duration, output: Output) -> Self {
        Self { number, client, timeout, output }
    }

    fn failure(&self, error: Error) -> Failure {
        Failure::from(error).at(format_args!("group {}", self.number))
    }

    /// The leader, once there is one.
    pub async fn leader(&self) -> Result<Leader, Failure> {
        let end = Instant::now() + self.timeout;
        loop {
            let answers = nodes::ask_all(&self.client).await;
            let up = answers.iter().filter_map(|a| Some((&a.endpoint, a.status.as_ref().ok()?)));
            let mut groups = up.flat_map(|(e, s)| s.groups.iter().map(move |g| (e, s.node_id, g)));
            let leads = |g: &quorate_client::GroupStatus| {
                g.group == self.number && g.role() == Role::Leader
            };
            if let Some((endpoint, id, group)) = groups.find(|(.., g)| leads(g)) {
                return Ok(Leader {
                    id,
                    admin: self.client.admin(endpoint),
                    members: group.members.clone().unwrap_or_default(),
                    last: group.last_log_index,
                    matched: group.progress.iter().map(|p| (p.node_id, p.matched_index)).collect(),
                });
            }
            if Instant::now() >= end {
                return Err(Failure::refused(format!("group {} has no leader", self.number))
                    .advise("quorate status says who is up: a majority has to be"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks the leader, and the next one when that changes. What `ask` asks for does no harm when
    /// it is asked for again.
    async fn ask_leader<T>(
        &self,
        ask: impl AsyncFn(&Leader) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let end = Instant::now() + self.timeout;
        loop {
            let leader = self.leader().await?;
            match ask(&leader).await {
                Err(error) if may_change(&error) && Instant::now() < end => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                answer => return answer.map_err(|error| self.failure(error)),
            }
        }
    }

    /// Takes `node` in as a learner, if it is no member yet.
    pub async fn add_learner(&self, node: u64, peer: &str, client: &str) -> Result<(), Failure> {
        let add =
            async |leader: &Leader| leader.admin.add_learner(self.number, node, peer, client).await;
        self.ask_leader(add).await.map(|_| ())
    }

    /// Until `node` lacks little of the leader's log.
    pub async fn wait_until_caught_up(&self, node: u64, patience: Duration) -> Result<(), Failure> {
        /// Far below what the leader asks for before it gives a vote, and soon reached.
        const NEAR: u64 = 500;
        let bar = Progress::counting(self.output, &format!("entries of group {}", self.number));
        let end = Instant::now() + patience;
        loop {
            let leader = self.leader().await?;
            let matched = leader.matched.iter().find(|(id, _)| *id == node).map_or(0, |(_, m)| *m);
            if matched > 0 && leader.last.saturating_sub(matched) <= NEAR {
                return Ok(());
            }
            bar.reached(matched, leader.last);
            if Instant::now() >= end {
                return Err(Failure::refused(format!(
                    "group {}: node {node} has {} of {} entries after {}",
                    self.number,
                    units::grouped(matched),
                    units::grouped(leader.last),
                    units::duration(patience)
                ))
                .advise(
                    "it stays a learner and goes on catching up: is it running, and at these \
                     addresses? Then run this again",
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes `change`, after the leadership was moved away from who goes.
    pub async fn change(&self, change: &Change) -> Result<(), Failure> {
        let change = async |leader: &Leader| {
            if change.remove == Some(leader.id) {
                leader.admin.transfer_leader(self.number, None).await?;
                // Through the next one.
                return Ok(false);
            }
            let (promote, remove) = (change.promote.as_slice(), change.remove.as_slice());
            let only_if = Some(leader.members.log_index);
            leader.admin.change_members(self.number, promote, remove, only_if).await?;
            Ok(true)
        };
        while !self.ask_leader(&change).await? {}
        Ok(())
    }

    /// Moves the leadership to `to`, or to whom the leader thinks best.
    pub async fn hand_over(&self, to: Option<u64>) -> Result<(), Failure> {
        let hand_over = async |leader: &Leader| {
            if to != Some(leader.id) {
                leader.admin.transfer_leader(self.number, to).await?;
            }
            Ok(())
        };
        self.ask_leader(hand_over).await
    }
}

/// Whether the next try may succeed: somebody else leads by then, or the leader is ready.
fn may_change(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::NotLeader | ErrorKind::Unavailable | ErrorKind::ShuttingDown => true,
        ErrorKind::Invalid => error.is_retryable(),
        ErrorKind::Deadline => error.effect() == Effect::Unknown,
        _ => false,
    }
}
