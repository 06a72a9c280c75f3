//! Carries out [`crate::membership::bootstrap`]: says Hello until the rule says what to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use quorate_proto::raft::v1::IdentityReason;
use quorate_state_machine::types::GroupId;

use super::{
    Fatal,
    parts::{GroupParts, is_fresh},
};
use crate::{
    config::Config,
    membership::{
        bootstrap::{Answer, Step, Waiting, step},
        identity::NodeIdentity,
    },
    observe::exit::ExitCode,
    peer::{
        client::{CallError, HelloAnswer, PeerClient},
        host::HostTable,
        transport::PeerAddress,
    },
    raft::types::{NodeAddress, NodeId},
    runtime::{self, Task},
};

const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// Between reminders of whom the node waits for.
const REMIND: Duration = Duration::from_secs(10);

/// What it takes.
pub(super) struct Facts {
    pub config: Arc<Config>,
    pub identity: NodeIdentity,
    pub client: Arc<PeerClient>,
    pub host: Arc<HostTable>,
    pub groups: Vec<GroupParts>,
}

impl Facts {
    fn members(&self) -> BTreeMap<NodeId, NodeAddress> {
        let address = |n: &crate::config::Node| NodeAddress {
            peer: n.peer.clone(),
            client: n.client.clone(),
        };
        self.config.nodes.iter().map(|n| (n.id, address(n))).collect()
    }

    /// The groups of which the disk holds nothing.
    fn fresh(&self) -> BTreeSet<GroupId> {
        let numbered = (0..).map(GroupId).zip(&self.groups);
        numbered.filter(|(_, parts)| is_fresh(&parts.log)).map(|(id, _)| id).collect()
    }

    fn tell_peers(&self, fresh: &BTreeSet<GroupId>) {
        self.host.set_fresh_groups(fresh.iter().map(|group| group.0));
    }

    async fn create(&self, groups: &BTreeSet<GroupId>) -> Result<(), String> {
        for (_, parts) in (0..).map(GroupId).zip(&self.groups).filter(|(id, _)| groups.contains(id))
        {
            parts.group.initialize(self.members()).await?;
        }
        Ok(())
    }
}

/// Until this node's groups have a history. Keeps the word of its freshness to the peers true.
pub(super) async fn run(facts: Facts) -> Result<(), Fatal> {
    let configured: BTreeSet<NodeId> = facts.members().keys().copied().collect();
    let me = facts.identity.node_id;
    let mut answers = BTreeMap::new();
    let mut said: Option<(Waiting, runtime::Instant)> = None;
    loop {
        let fresh = facts.fresh();
        facts.tell_peers(&fresh);
        match step(me, &fresh, &configured, &answers) {
            Step::Done => return Ok(()),
            Step::Create(groups) => {
                // Not fresh any more, from before the first byte is written.
                facts.tell_peers(&fresh.difference(&groups).copied().collect());
                tracing::info!(nodes = ?configured, ?groups, "creating the cluster");
                facts.create(&groups).await.map_err(|why| {
                    Fatal::new(ExitCode::Software, format!("the cluster can't be created: {why}"))
                })?;
                // What the peers said is outdated now.
                answers.clear();
                continue;
            }
            Step::Refuse(why) => return Err(Fatal::new(ExitCode::Config, why)),
            Step::Wait(waiting) => {
                let news = said
                    .as_ref()
                    .is_none_or(|(before, at)| *before != waiting || at.elapsed() >= REMIND);
                // The first round has yet to ask.
                if news && !answers.is_empty() {
                    tracing::info!("no cluster here yet: {waiting}");
                    said = Some((waiting, runtime::now()));
                }
            }
        }
        answers = hello(&facts, me).await;
        runtime::sleep(PAUSE).await;
    }
}

/// Calls everybody at once.
async fn hello(facts: &Facts, me: NodeId) -> BTreeMap<NodeId, Answer> {
    let others = facts.members().into_iter().filter(|(id, _)| *id != me);
    let calls = others.map(|(node_id, address)| async move {
        let to = PeerAddress { node_id, address: address.peer };
        (node_id, understood(facts.client.hello(&to, HELLO_TIMEOUT).await))
    });
    futures::future::join_all(calls).await.into_iter().collect()
}

fn understood(answer: Result<HelloAnswer, CallError>) -> Answer {
    match answer {
        Ok(answer) => Answer::Welcome {
            fresh: answer.fresh_groups.into_iter().map(GroupId).collect(),
            nodes: answer.nodes.into_iter().collect(),
        },
        Err(CallError::Refused { reason: IdentityReason::ReplacedDisk, message, .. }) => {
            Answer::ReplacedDisk(message)
        }
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// Resolves if the bootstrap failed; never if it was done.
pub(super) async fn failed(task: Task<Result<(), Fatal>>) -> Fatal {
    match task.await {
        Ok(Err(fatal)) => fatal,
        // Done; or the runtime is going down, which somebody else reports.
        Ok(Ok(())) | Err(_) => std::future::pending().await,
    }
}
