//! Bad configurations, and the exact message for each.

use super::{GOOD, try_load};

/// (what, changed in the good file: from → to, environment, flags, the message)
type Bad<'a> = (
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a [(&'a str, &'a str)],
    &'a [(&'a str, &'a str)],
    &'a str,
);

#[test]
fn bad_configurations_and_what_is_said_about_them() {
    let table: &[Bad<'_>] = &[
        (
            "no TOML",
            &[("node_id = 1", "node_id = ")],
            &[],
            &[],
            "n.toml:2: not valid TOML: string values must be quoted, expected literal string",
        ),
        (
            "a key twice",
            &[("node_id = 1", "node_id = 1\nnode_id = 2")],
            &[],
            &[],
            "n.toml:3: not valid TOML: duplicate key",
        ),
        (
            "mistyped key",
            &[("[[nodes]]\nid = 2", "[raft]\nhartbeat_ms = 5\n[[nodes]]\nid = 2")],
            &[],
            &[],
            "n.toml:15: unknown key raft.hartbeat_ms; did you mean raft.heartbeat_ms?",
        ),
        (
            "key of another section",
            &[("http =", "segment_mb = 5\nhttp =")],
            &[],
            &[],
            "n.toml:8: unknown key listen.segment_mb; did you mean log.segment_mb?",
        ),
        (
            "key outside of sections written below a heading",
            &[("http =", "groups = 2\nhttp =")],
            &[],
            &[],
            "n.toml:8: unknown key listen.groups; groups belongs to no section: write it above \
             the first [section]",
        ),
        (
            "mistyped section",
            &[("[listen]", "[limit]\ninflight_mb = 9\n[listen]")],
            &[],
            &[],
            "n.toml:5: unknown section limit; did you mean limits?",
        ),
        (
            "nothing like it",
            &[("node_id = 1", "node_id = 1\ntelemetry = true")],
            &[],
            &[],
            "n.toml:3: unknown key telemetry",
        ),
        (
            "section as a value",
            &[("node_id = 1", "node_id = 1\nraft = 100")],
            &[],
            &[],
            "n.toml:3: raft is a section: write its keys under [raft]",
        ),
        (
            "wrong types",
            &[("node_id = 1", "node_id = \"one\""), ("\"data/1\"", "7")],
            &[],
            &[],
            "n.toml:3: data_dir = 7: takes a directory in quotes\n\
             n.toml:2: node_id = \"one\": takes a whole number from 1 to 4294967295",
        ),
        (
            "out of bounds",
            &[("node_id = 1", "node_id = 0\ngroups = 4000")],
            &[],
            &[("raft.heartbeat_ms", "9"), ("log.segment_mb", "15")],
            "n.toml:3: groups = 4000: takes a whole number from 1 to 1024\n\
             n.toml:2: node_id = 0: takes a whole number from 1 to 4294967295\n\
             --set raft.heartbeat_ms: raft.heartbeat_ms = 9: takes a whole number from 10 to 60000 \
             (ms)\n\
             --set log.segment_mb: log.segment_mb = 15: takes a whole number from 16 to 1024 (MiB)",
        ),
        (
            "bad words",
            &[],
            &[("QUORATE_LOG_DURABILITY", "async"), ("QUORATE_LOG_OUTPUT_LEVEL", "loud")],
            &[],
            "environment QUORATE_LOG_DURABILITY: log.durability = \"async\": takes \"auto\" or \
             \"direct\" or \"fdatasync\"\n\
             environment QUORATE_LOG_OUTPUT_LEVEL: log_output.level = \"loud\": 'loud' is not a \
             level; off, error, warn, info, debug, trace, or module=level; takes a level in \
             quotes, such as \"info\"",
        ),
        (
            "mistyped variables",
            &[],
            &[("QUORATE_RAFT_HEARTBEAT", "9"), ("QUORATE_NODEID", "2"), ("QUORATE_STATE_X", "")],
            &[],
            "environment QUORATE_RAFT_HEARTBEAT: unknown variable; did you mean \
             QUORATE_RAFT_HEARTBEAT_MS?\n\
             environment QUORATE_NODEID: unknown variable; did you mean QUORATE_NODE_ID?\n\
             environment QUORATE_STATE_X: unknown variable; did you mean one of the keys that \
             --print-config shows?",
        ),
        (
            "mistyped flag",
            &[],
            &[],
            &[("limits.in_flight_mb", "9")],
            "--set limits.in_flight_mb: unknown key limits.in_flight_mb; did you mean \
             limits.inflight_mb?",
        ),
        (
            "no cluster",
            &[
                ("cluster_id = \"4c5d9f0e-6f3a-4e0e-9a51-1d2f0b3c7a10\"\n", ""),
                ("[listen]\nclient", "[listen]\nadvertise_client"),
            ],
            &[],
            &[],
            "cluster_id is missing (the cluster; the same on every node); set it in n.toml, or as \
             QUORATE_CLUSTER_ID\n\
             listen.client is missing (gRPC for clients and operators); set it in [listen] of \
             n.toml, or as QUORATE_LISTEN_CLIENT",
        ),
        (
            "the example's cluster id",
            &[("4c5d9f0e-6f3a-4e0e-9a51-1d2f0b3c7a10", "00000000-0000-0000-0000-000000000000")],
            &[],
            &[],
            "n.toml:1: cluster_id = \"00000000-0000-0000-0000-000000000000\": takes a UUID in \
             quotes, not all zeros",
        ),
        (
            "bad addresses",
            &[],
            &[
                ("QUORATE_LISTEN_CLIENT", "http://127.0.0.1:7101"),
                ("QUORATE_LISTEN_PEER", "127.0.0.1"),
                ("QUORATE_LISTEN_HTTP", "::1:7301"),
                ("QUORATE_LISTEN_ADVERTISE_CLIENT", "0.0.0.0:7101"),
                ("QUORATE_LISTEN_ADVERTISE_PEER", "a b:7201"),
            ],
            &[("listen.http", "localhost:0"), ("listen.peer", "[::1]:70000")],
            "environment QUORATE_LISTEN_CLIENT: listen.client = \"http://127.0.0.1:7101\": an \
             address has no http:// in front; takes \"host:port\"\n\
             environment QUORATE_LISTEN_PEER: listen.peer = \"127.0.0.1\": the port is missing; \
             takes \"host:port\"\n\
             environment QUORATE_LISTEN_HTTP: listen.http = \"::1:7301\": an IPv6 address needs \
             brackets; takes \"host:port\"\n\
             environment QUORATE_LISTEN_ADVERTISE_CLIENT: listen.advertise_client = \
             \"0.0.0.0:7101\": nobody can call 0.0.0.0; takes \"host:port\" that other machines \
             can call\n\
             environment QUORATE_LISTEN_ADVERTISE_PEER: listen.advertise_peer = \"a b:7201\": \
             \"a b\" is no host; takes \"host:port\" that other machines can call\n\
             --set listen.http: listen.http = \"localhost:0\": port 0 can't be told to anybody; \
             takes \"host:port\"\n\
             --set listen.peer: listen.peer = \"[::1]:70000\": \"70000\" is no port; takes \
             \"host:port\"",
        ),
        (
            "bad nodes",
            &[("id = 2", "idd = 2"), ("client = \"127.0.0.1:7103\"", "client = \"x\"")],
            &[],
            &[],
            "n.toml:14: node 2 of nodes: unknown key idd; did you mean id?\n\
             n.toml:14: node 2 of nodes: id is missing\n\
             n.toml:18: node 3 of nodes: client = \"x\": the port is missing; takes \"host:port\" \
             that other machines can call",
        ),
        (
            "nodes that are none",
            &[],
            &[("QUORATE_NODES", "one,two")],
            &[("nodes", "[]")],
            "environment QUORATE_NODES: nodes = \"one,two\": takes 1 to 99 entries with id, peer \
             and client, in TOML\n\
             --set nodes: nodes has 0 entries: takes 1 to 99 entries with id, peer and client",
        ),
        (
            "timing",
            &[],
            &[("QUORATE_RAFT_HEARTBEAT_MS", "200")],
            &[("raft.election_max_ms", "225")],
            "raft.election_min_ms = 225 (default) must be at least 3 times raft.heartbeat_ms = 200 \
             (environment QUORATE_RAFT_HEARTBEAT_MS): one late heartbeat is no reason for an \
             election\n\
             raft.election_max_ms = 225 (--set raft.election_max_ms) must be more than \
             raft.election_min_ms = 225 (default): nodes draw their wait from between, so that \
             they do not all stand at once",
        ),
        (
            "request larger than all requests",
            &[],
            &[],
            &[("limits.max_request_mb", "32"), ("limits.inflight_mb", "16")],
            "limits.inflight_mb = 16 (--set limits.inflight_mb) must be at least \
             limits.max_request_mb = 32 (--set limits.max_request_mb): a larger request could \
             never be admitted",
        ),
        (
            "one address for two services",
            &[("http = \"127.0.0.1:7301\"", "http = \"127.0.0.1:7201\"")],
            &[],
            &[],
            "listen.http = \"127.0.0.1:7201\" (n.toml:8) is also listen.peer: each service needs \
             an address of its own",
        ),
        (
            "wildcards",
            &[("peer = \"127.0.0.1:7201\"\nhttp", "peer = \"0.0.0.0:7201\"\nhttp")],
            &[],
            &[],
            "listen.peer = \"0.0.0.0:7201\" (n.toml:7) is no address that others can call: set \
             listen.advertise_peer to what they call\n\
             listen.peer = \"0.0.0.0:7201\" (n.toml:7), but node 1 of nodes has peer = \
             \"127.0.0.1:7201\": make them equal, or set listen.advertise_peer if it is reached by \
             another one than it has",
        ),
        (
            "somebody else's place",
            &[],
            &[("QUORATE_NODE_ID", "2")],
            &[("listen.advertise_client", "127.0.0.1:9")],
            "listen.peer = \"127.0.0.1:7201\" (n.toml:7), but node 2 of nodes has peer = \
             \"127.0.0.1:7202\": make them equal, or set listen.advertise_peer if it is reached by \
             another one than it has\n\
             listen.advertise_client = \"127.0.0.1:9\" (--set listen.advertise_client), but node 2 \
             of nodes has client = \"127.0.0.1:7102\": make them equal",
        ),
        (
            "not in its own list",
            &[],
            &[],
            &[("node_id", "4")],
            "node_id = 4 (--set node_id) is not in nodes, which has 1, 2, 3: a node is in its own \
             list, also when it joins a running cluster",
        ),
        (
            "two nodes in one place",
            &[("id = 3", "id = 2"), ("127.0.0.1:7103", "127.0.0.1:7202")],
            &[],
            &[],
            "entries 2 and 3 of nodes both have id = 2: each node has its own\n\
             nodes: client of node 2 is \"127.0.0.1:7202\", and so is peer of node 2: each service \
             needs an address of its own",
        ),
    ];
    for (name, changes, environment, flags, message) in table {
        let mut file = GOOD.to_owned();
        for (from, to) in *changes {
            assert!(file.contains(from), "{name}: {from:?} is not in the good file");
            file = file.replacen(from, to, 1);
        }
        let error = try_load(&file, environment, flags).expect_err(name);
        assert_eq!(error, *message, "\n{name}");
    }
}
