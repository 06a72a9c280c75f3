//! Carries out [`crate::membership::bootstrap`]: says Hello until the rule says what to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Fatal,
    parts::{GroupParts, is_fresh},
};
use crate::{
    config::Config,
    membership::{
        bootstrap::{Answer, Step, step},
        identity::NodeIdentity,
    },
    observe::exit::ExitCode,
    peer::{
        client::{CallError, PeerClient},
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

    async fn initialized(&self) -> Result<bool, String> {
        for parts in &self.groups {
            if !parts.group.is_initialized().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Until this node's groups have a membership. Keeps the word of its freshness to the peers true.
pub(super) async fn run(facts: Facts) -> Result<(), Fatal> {
    let members = facts.members();
    let configured: BTreeSet<NodeId> = members.keys().copied().collect();
    let me = facts.identity.node_id;
    let software = |why: String| Fatal::new(ExitCode::Software, format!("bootstrap: {why}"));
    let mut answers = BTreeMap::new();
    let mut reminded: Option<runtime::Instant> = None;
    loop {
        facts.host.set_fresh(facts.groups.iter().all(|g| is_fresh(&g.log)));
        let initialized = facts.initialized().await.map_err(software)?;
        match step(me, initialized, &configured, &answers) {
            Step::Done => {
                facts.host.set_fresh(false);
                return Ok(());
            }
            Step::Create => {
                facts.host.set_fresh(false);
                tracing::info!(nodes = ?configured, groups = facts.groups.len(), "creating the cluster");
                for parts in &facts.groups {
                    parts.group.initialize(members.clone()).await.map_err(software)?;
                }
                return Ok(());
            }
            Step::Refuse { why } => return Err(Fatal::new(ExitCode::Config, why)),
            waiting => {
                if reminded.is_none_or(|at| at.elapsed() >= REMIND) {
                    tracing::info!(?waiting, "no cluster yet");
                    reminded = Some(runtime::now());
                }
            }
        }
        hello(&facts, &members, me, &mut answers).await;
        runtime::sleep(PAUSE).await;
    }
}

/// Calls everybody at once. Who does not answer now is missing now: an old answer may be outdated.
async fn hello(
    facts: &Facts,
    members: &BTreeMap<NodeId, NodeAddress>,
    me: NodeId,
    answers: &mut BTreeMap<NodeId, Answer>,
) {
    let calls = members.iter().filter(|(id, _)| **id != me).map(|(id, address)| async move {
        let to = PeerAddress { node_id: *id, address: address.peer.clone() };
        (*id, facts.client.hello(&to, HELLO_TIMEOUT).await)
    });
    for (id, answer) in futures::future::join_all(calls).await {
        match answer {
            Ok(a) => {
                // What it knew before the first Hello counts: that Hello has pinned this disk.
                let before = answers.get(&id).map(|known: &Answer| known.knew_us);
                let knew_us = before.unwrap_or(a.knew_us);
                answers.insert(id, Answer { fresh: a.fresh, knew_us });
            }
            Err(error) => {
                if matches!(error, CallError::Impostor { .. } | CallError::Book(_)) {
                    tracing::error!(peer = id, %error, "bootstrap");
                } else {
                    tracing::debug!(peer = id, %error, "bootstrap");
                }
            }
        }
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
