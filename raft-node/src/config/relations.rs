//! What has to hold between keys.

use std::collections::BTreeMap;

use super::{Config, Node, Problem, layers::Origins, values};

/// What is wrong, and what is allowed but probably not meant.
pub(super) fn check(config: &Config, origins: &Origins) -> (Vec<Problem>, Vec<String>) {
    let mut relations = Relations { config, origins, problems: Vec::new() };
    relations.timing();
    relations.limits();
    relations.listen();
    relations.nodes();
    relations.own_entry();
    (relations.problems, warnings(config))
}

struct Relations<'a> {
    config: &'a Config,
    origins: &'a Origins,
    problems: Vec<Problem>,
}

impl Relations<'_> {
    fn wrong(&mut self, message: String) {
        self.problems.push(Problem::nowhere(message));
    }

    /// `key = value (who said it)`.
    fn show(&self, key: &str, value: impl std::fmt::Debug) -> String {
        match self.origins.get(key) {
            Some(origin) => format!("{key} = {value:?} ({origin})"),
            None => format!("{key} = {value:?} (default)"),
        }
    }

    fn timing(&mut self) {
        let raft = self.config.raft;
        let heartbeat = self.show("raft.heartbeat_ms", raft.heartbeat_ms);
        let min = self.show("raft.election_min_ms", raft.election_min_ms);
        let max = self.show("raft.election_max_ms", raft.election_max_ms);
        if raft.election_min_ms < 3 * raft.heartbeat_ms {
            self.wrong(format!(
                "{min} must be at least 3 times {heartbeat}: one late heartbeat is no reason for \
                 an election"
            ));
        }
        if raft.election_max_ms <= raft.election_min_ms {
            self.wrong(format!(
                "{max} must be more than {min}: nodes draw their wait from between, so that they \
                 do not all stand at once"
            ));
        }
    }

    fn limits(&mut self) {
        let limits = self.config.limits;
        if limits.inflight_mb < limits.max_request_mb {
            let inflight = self.show("limits.inflight_mb", limits.inflight_mb);
            let request = self.show("limits.max_request_mb", limits.max_request_mb);
            self.wrong(format!(
                "{inflight} must be at least {request}: a larger request could never be admitted"
            ));
        }
    }

    fn listen(&mut self) {
        let listen = &self.config.listen;
        let all = [
            ("listen.client", &listen.client),
            ("listen.peer", &listen.peer),
            ("listen.http", &listen.http),
        ];
        for (i, (key, address)) in all.iter().enumerate() {
            if let Some((other, _)) = all[..i].iter().find(|(_, before)| before == address) {
                let message = format!("{} is also {other}", self.show(key, address));
                self.wrong(format!("{message}: each service needs an address of its own"));
            }
        }
        let told = [
            ("client", &listen.client, &listen.advertise_client),
            ("peer", &listen.peer, &listen.advertise_peer),
        ];
        for (name, address, advertised) in told {
            if advertised.is_none() && values::is_wildcard(values::host(address)) {
                let shown = self.show(&format!("listen.{name}"), address);
                self.wrong(format!(
                    "{shown} is no address that others can call: set listen.advertise_{name} to \
                     what they call"
                ));
            }
        }
    }

    fn nodes(&mut self) {
        let mut ids = BTreeMap::new();
        let mut addresses: BTreeMap<&str, String> = BTreeMap::new();
        for (i, node) in self.config.nodes.iter().enumerate() {
            let number = i + 1;
            if let Some(before) = ids.insert(node.id, number) {
                self.problems.push(Problem::nowhere(format!(
                    "entries {before} and {number} of nodes both have id = {}: each node has its \
                     own",
                    node.id
                )));
            }
            for (name, address) in [("peer", &node.peer), ("client", &node.client)] {
                let this = format!("{name} of node {}", node.id);
                if let Some(before) = addresses.insert(address, this.clone()) {
                    self.problems.push(Problem::nowhere(format!(
                        "nodes: {this} is {address:?}, and so is {before}: each service needs an \
                         address of its own"
                    )));
                }
            }
        }
    }

    /// The others find this node by its entry, and it is told by its own settings: both must say
    /// the same, or it would be looked for where it is not.
    fn own_entry(&mut self) {
        let config = self.config;
        let me = self.show("node_id", config.node_id);
        let Some(Node { peer, client, .. }) = config.nodes.iter().find(|n| n.id == config.node_id)
        else {
            let ids: Vec<String> = config.nodes.iter().map(|n| n.id.to_string()).collect();
            return self.wrong(format!(
                "{me} is not in nodes, which has {}: a node is in its own list, also when it joins \
                 a running cluster",
                ids.join(", ")
            ));
        };
        let listen = &config.listen;
        let told = [
            ("peer", peer, config.advertise_peer(), listen.advertise_peer.is_some()),
            ("client", client, config.advertise_client(), listen.advertise_client.is_some()),
        ];
        for (name, entry, told, advertised) in told {
            if entry == told {
                continue;
            }
            let key = format!("listen.{}{name}", if advertised { "advertise_" } else { "" });
            let shown = self.show(&key, told);
            let or = if advertised {
                ""
            } else {
                ", or set listen.advertise_ADDRESS if it is reached by another one than it has"
            };
            self.wrong(format!(
                "{shown}, but node {} of nodes has {name} = {entry:?}: make them equal{}",
                config.node_id,
                or.replace("ADDRESS", name)
            ));
        }
    }
}

fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let nodes = config.nodes.len();
    if nodes.is_multiple_of(2) {
        warnings.push(format!(
            "nodes has {nodes} entries: {nodes} nodes survive the loss of no more than {} do, and \
             every commit waits for one node more",
            nodes - 1
        ));
    }
    if config.log.retain_mb < config.log.segment_mb {
        warnings.push(format!(
            "log.retain_mb = {} is less than log.segment_mb = {}: whole segments are kept, so this \
             keeps more than it says",
            config.log.retain_mb, config.log.segment_mb
        ));
    }
    warnings
}
