//! Asking every node the same, at the same time.

use futures::future::join_all;
use quorate_client::{Admin, Client, Endpoint, Error, StatusResponse};

/// What one node said, or why it said nothing.
pub struct NodeAnswer {
    /// Whom we asked.
    pub endpoint: Endpoint,
    /// Its status.
    pub status: Result<StatusResponse, Error>,
}

/// The status of every node that is known: the endpoints given, and the members that those name.
/// In the order of node ids, then those that don't answer.
pub async fn ask_all(client: &Client) -> Vec<NodeAnswer> {
    let given = client.endpoints();
    let mut answers = ask(client, &given).await;
    // Somebody who gives one endpoint wants to see the cluster.
    let named = answers.iter().filter_map(|a| a.status.as_ref().ok()).flat_map(|s| &s.groups);
    let named = named.filter_map(|g| g.members.as_ref()).flat_map(|members| &members.nodes);
    let mut more: Vec<Endpoint> =
        named.filter_map(|member| Endpoint::new(&member.client_address).ok()).collect();
    more.sort();
    more.dedup();
    let known = |e: &Endpoint| {
        let answered = answers.iter().filter_map(|a| a.status.as_ref().ok());
        given.contains(e) || answered.map(|s| s.client_address.as_str()).any(|a| is_at(e, a))
    };
    more.retain(|e| !known(e));
    answers.extend(ask(client, &more).await);
    answers.sort_by_key(|a| a.status.as_ref().map_or(u64::MAX, |s| s.node_id));
    // The same node under two names (localhost, 127.0.0.1).
    answers.dedup_by(|a, b| match (&a.status, &b.status) {
        (Ok(a), Ok(b)) => a.node_id == b.node_id,
        _ => false,
    });
    answers
}

fn is_at(endpoint: &Endpoint, address: &str) -> bool {
    Endpoint::new(address).is_ok_and(|e| e == *endpoint)
}

async fn ask(client: &Client, endpoints: &[Endpoint]) -> Vec<NodeAnswer> {
    let asked = endpoints.iter().map(|endpoint| async move {
        NodeAnswer { endpoint: endpoint.clone(), status: client.admin(endpoint).status().await }
    });
    join_all(asked).await
}

/// A node that answered.
#[derive(Clone)]
pub struct Node {
    /// Its id.
    pub id: u64,
    /// Its operators' API.
    pub admin: Admin,
}

/// The nodes that answered, to ask more of.
pub fn answering(client: &Client, answers: &[NodeAnswer]) -> Vec<Node> {
    let answered = answers.iter().filter_map(|a| Some((a.status.as_ref().ok()?, &a.endpoint)));
    answered.map(|(s, e)| Node { id: s.node_id, admin: client.admin(e) }).collect()
}
