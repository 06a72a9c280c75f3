//! Which links of the network a fault is about.

use anyhow::{Context as _, Result};
use quorate_jepsen_core::ids::Node;

use super::fault::Fault;
use crate::{cluster::Cluster, network::Caller};

/// The links that a fault changes.
///
/// # Errors
/// It needs a network that can be cut, and this cluster has none.
pub(super) fn of(
    fault: &Fault,
    cluster: &Cluster,
    hit: &[Node],
    leader: Node,
) -> Result<Vec<(Caller, Node)>> {
    let nodes = cluster.nodes();
    Ok(match fault {
        Fault::Partition { shape, .. } => {
            let cut = shape.cut(&nodes, leader);
            cut.into_iter().map(|(from, to)| (Caller::Node(from), to)).collect()
        }
        Fault::ReplyLoss { clients, .. } => {
            let network = cluster.network().context("reply-loss")?;
            let mut links = Vec::new();
            for node in hit {
                let callers = network.callers_of(*node).into_iter();
                let meant = callers.filter(|caller| (*caller == Caller::Clients) == *clients);
                links.extend(meant.map(|caller| (caller, *node)));
            }
            links
        }
        Fault::Pause { delay_ms: 1.., .. } => {
            let all = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
            all.filter(|(from, to)| from != to && (hit.contains(from) || hit.contains(to)))
                .map(|(from, to)| (Caller::Node(from), to))
                .collect()
        }
        Fault::Delay { .. } | Fault::SlowLink { .. } => {
            let network = cluster.network()?;
            let mut links = Vec::new();
            for node in nodes {
                let callers = network.callers_of(node).into_iter();
                let meant = callers.filter(|caller| *caller != Caller::Clients);
                links.extend(meant.map(|caller| (caller, node)));
            }
            links
        }
        _ => Vec::new(),
    })
}
