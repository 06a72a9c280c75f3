//! Compares this replica with the others now and then, and takes it out of service when a majority
//! of the replicas agrees on a state that is not this one's (G9).
//!
//! Each round has a marker replicated, asks every node for its digest at the marker, and judges for
//! this node only: whoever differs finds out by itself. A node that went stays out: a file in its
//! data directory refuses the next start, because what it would answer is not to be trusted.

use std::{collections::BTreeMap, io, path::Path, sync::Arc, time::Duration};

use quorate_proto::admin::v1::{
    DigestAtRequest, MarkDigestRequest, admin_service_client::AdminServiceClient,
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use super::Fatal;
use crate::{
    config::Config,
    observe::exit::ExitCode,
    raft::group::Group,
    runtime::{self, Instant},
};

/// Says why this node went, and keeps it from coming back.
const FILE: &str = "DIFFERS";

/// For one call; a replica that is further behind is asked again in the next round.
const CALL: Duration = Duration::from_secs(10);

const CONNECT: Duration = Duration::from_secs(1);

/// What a comparison says about this replica.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// As the others, as far as they answered.
    Same,
    /// A majority of all replicas agrees on something else: these.
    Different(Vec<u64>),
    /// Somebody differs, and it can't be told who is right; or it is somebody else.
    Disputed(Vec<u64>),
}

/// `mine` and what the others answered; `replicas` counts all voters, this one and the silent ones
/// too.
fn judge(mine: &[u8], others: &[(u64, Vec<u8>)], replicas: usize) -> Verdict {
    let differ: Vec<u64> =
        others.iter().filter(|(_, digest)| digest != mine).map(|(node, _)| *node).collect();
    if differ.is_empty() {
        return Verdict::Same;
    }
    for (_, digest) in others.iter().filter(|(_, digest)| digest != mine) {
        let with: Vec<u64> =
            others.iter().filter(|(_, other)| other == digest).map(|(node, _)| *node).collect();
        if with.len() > replicas / 2 {
            return Verdict::Different(with);
        }
    }
    Verdict::Disputed(differ)
}

fn list(nodes: &[u64]) -> String {
    let words: Vec<String> = nodes.iter().map(|node| format!("node {node}")).collect();
    words.join(" and ")
}

/// Refuses a start after this node took itself out of service.
///
/// # Errors
/// [`Fatal`] that says why it went and what to do.
pub(super) fn refuse_what_differed(data_dir: &Path) -> Result<(), Fatal> {
    let path = data_dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Fatal::new(ExitCode::Io, format!("{}: {e}", path.display()))),
        Ok(why) => Err(Fatal::new(
            ExitCode::Config,
            format!("{} keeps this node out of service: {}", path.display(), why.trim()),
        )),
    }
}

fn remember(data_dir: &Path, why: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(data_dir.join(FILE))?;
    writeln!(file, "{why}")?;
    file.sync_all()?;
    crate::log_store::sync_dir(data_dir)
}

/// One node's admin service.
#[derive(Clone)]
struct Node {
    id: u64,
    address: String,
    client: AdminServiceClient<Channel>,
}

/// The nodes of the groups, with connections that outlive a round.
#[derive(Default)]
struct Nodes(BTreeMap<u64, Node>);

impl Nodes {
    /// Those that vote in `group` now: learners may be far behind.
    fn voters_of(&mut self, group: &Group) -> Vec<Node> {
        let voters = group.members().nodes.into_iter().filter(|(_, member)| member.voter);
        voters.filter_map(|(id, member)| self.node(id, member.address.client)).collect()
    }

    fn node(&mut self, id: u64, address: String) -> Option<Node> {
        if let Some(known) = self.0.get(&id).filter(|node| node.address == address) {
            return Some(known.clone());
        }
        match Endpoint::from_shared(format!("http://{address}")) {
            Ok(endpoint) => {
                let channel = endpoint.connect_timeout(CONNECT).connect_lazy();
                let node = Node { id, address, client: AdminServiceClient::new(channel) };
                self.0.insert(id, node.clone());
                Some(node)
            }
            Err(error) => {
                tracing::error!(node = id, address, %error, "can't be used: not compared with it");
                None
            }
        }
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

impl Node {
    async fn digest(&self, group: u32, log_index: u64) -> Result<Vec<u8>, Status> {
        let request = timed(DigestAtRequest { group, log_index });
        let answer = self.client.clone().digest_at(request).await?;
        Ok(answer.into_inner().digest.to_vec())
    }
}

/// Index of a new marker, through whichever node leads.
async fn mark(nodes: &[Node], group: u32) -> Option<u64> {
    for node in nodes {
        let request = timed(MarkDigestRequest { group });
        match node.client.clone().mark_digest(request).await {
            Ok(answer) => return Some(answer.into_inner().log_index),
            Err(status) => tracing::trace!(group, node = node.id, %status, "no marker through it"),
        }
    }
    None
}

/// Where and when a replica was found to differ.
struct Difference {
    group: u32,
    log_index: u64,
    with: Vec<u64>,
}

/// One round over all groups.
async fn round(known: &mut Nodes, me: u64, groups: &[Group]) -> Option<Difference> {
    for group in groups {
        let nodes = known.voters_of(group);
        if nodes.len() < 3 || !nodes.iter().any(|node| node.id == me) {
            // Two that differ can't tell who is right.
            continue;
        }
        let group = group.id.0;
        let Some(log_index) = mark(&nodes, group).await else {
            tracing::debug!(group, "no leader took a marker: not compared this time");
            continue;
        };
        let answers =
            nodes.iter().map(|node| async move { (node.id, node.digest(group, log_index).await) });
        let mut mine = None;
        let mut others = Vec::new();
        for (id, digest) in futures::future::join_all(answers).await {
            match digest {
                Ok(digest) if id == me => mine = Some(digest),
                Ok(digest) => others.push((id, digest)),
                Err(status) => tracing::debug!(group, node = id, %status, "not compared with it"),
            }
        }
        let Some(mine) = mine else { continue };
        match judge(&mine, &others, nodes.len()) {
            Verdict::Same => tracing::debug!(group, log_index, with = others.len(), "same state"),
            Verdict::Different(with) => return Some(Difference { group, log_index, with }),
            Verdict::Disputed(with) => tracing::error!(
                group,
                log_index,
                "this replica's state differs from that of {}, and no majority says which is \
                 right; run `quorate verify --deep`",
                list(&with)
            ),
        }
    }
    None
}

/// Compares every `compare_interval_s`. Resolves when this replica has to go.
pub(super) async fn until_different(config: Arc<Config>, groups: Vec<Group>) -> Fatal {
    let interval = Duration::from_secs(config.state.compare_interval_s);
    if interval.is_zero() {
        return std::future::pending().await;
    }
    let mut nodes = Nodes::default();
    let different = loop {
        let began: Instant = runtime::now();
        // Spread out: the nodes were probably started together.
        let share = config.node_id % config.nodes.len() as u64;
        let offset = interval.mul_f64(share as f64 / config.nodes.len() as f64 / 2.0);
        runtime::sleep(interval / 2 + offset).await;
        if let Some(different) = round(&mut nodes, config.node_id, &groups).await {
            break different;
        }
        runtime::sleep(interval.saturating_sub(began.elapsed())).await;
    };
    let Difference { group, log_index, with } = different;
    let why = format!(
        "at log index {log_index} of group {group} the state of this replica was not that of {}, \
         which agree. Everything acknowledged is with them. Find out what differs with `quorate \
         verify --deep` on a copy if you want to know (a disk or memory that changes bits is the \
         usual cause), then replace this node: an empty data directory, under a node id that was \
         never used",
        list(&with)
    );
    if let Err(error) = remember(&config.data_dir, &why) {
        tracing::error!(%error, "could not write {FILE}: the next start will not be refused");
    }
    Fatal::new(ExitCode::Io, format!("this replica takes itself out of service: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answers: &[(u64, u8)]) -> Vec<(u64, Vec<u8>)> {
        answers.iter().map(|(node, digest)| (*node, vec![*digest])).collect()
    }

    #[test]
    fn who_has_to_go() {
        // replicas, mine, the others' => verdict
        let table: [(usize, u8, &[(u64, u8)], Verdict); 9] = [
            (3, 1, &[(2, 1), (3, 1)], Verdict::Same),
            (3, 1, &[(2, 1)], Verdict::Same),
            (3, 1, &[], Verdict::Same),
            (3, 9, &[(2, 1), (3, 1)], Verdict::Different(vec![2, 3])),
            // One other is no majority of three, whatever the third one has.
            (3, 9, &[(2, 1)], Verdict::Disputed(vec![2])),
            (3, 1, &[(2, 9), (3, 1)], Verdict::Disputed(vec![2])),
            (3, 1, &[(2, 2), (3, 3)], Verdict::Disputed(vec![2, 3])),
            (5, 9, &[(2, 1), (3, 1), (4, 1)], Verdict::Different(vec![2, 3, 4])),
            (5, 9, &[(2, 1), (3, 1), (4, 9)], Verdict::Disputed(vec![2, 3])),
        ];
        for (replicas, mine, others, expected) in table {
            assert_eq!(judge(&[mine], &said(others), replicas), expected, "{mine} {others:?}");
        }
    }

    #[test]
    fn a_node_that_went_stays_out() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refuse_what_differed(dir.path()).is_ok());
        remember(dir.path(), "bits fell over").unwrap();
        let refused = refuse_what_differed(dir.path()).unwrap_err();
        assert_eq!(refused.code, ExitCode::Config);
        assert!(refused.message.contains("bits fell over"), "{}", refused.message);
    }
}
