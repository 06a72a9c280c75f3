//! Tables of good and bad configurations with the exact messages people get.

use std::{collections::BTreeSet, ffi::OsString, os::unix::ffi::OsStringExt, path::Path};

use super::{
    layers::Layers,
    schema::{KEYS, Kind},
    *,
};

const GOOD: &str = r#"cluster_id = "4c5d9f0e-6f3a-4e0e-9a51-1d2f0b3c7a10"
node_id = 1
data_dir = "data/1"

[listen]
client = "127.0.0.1:7101"
peer = "127.0.0.1:7201"
http = "127.0.0.1:7301"

[[nodes]]
id = 1
peer = "127.0.0.1:7201"
client = "127.0.0.1:7101"
[[nodes]]
id = 2
peer = "127.0.0.1:7202"
client = "127.0.0.1:7102"
[[nodes]]
id = 3
peer = "127.0.0.1:7203"
client = "127.0.0.1:7103"
"#;

fn try_load(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Loaded, String> {
    let mut layers = Layers::default();
    layers.file(Path::new("n.toml"), file);
    for (name, value) in environment {
        layers.variable(name.as_ref(), value.as_ref());
    }
    for (key, value) in flags {
        let flag = format!("--set {key}");
        layers.flag(&Override { flag, key: (*key).into(), value: (*value).into() });
    }
    layers.finish(Some(Path::new("n.toml"))).map_err(|e| e.to_string())
}

fn good() -> Config {
    try_load(GOOD, &[], &[]).unwrap().config
}

#[test]
fn what_is_not_said_has_its_default() {
    let config = good();
    assert_eq!((config.node_id, config.groups, config.nodes.len()), (1, 1, 3));
    assert_eq!(config.raft, Raft { heartbeat_ms: 75, election_min_ms: 225, election_max_ms: 400 });
    assert_eq!(config.log.segment_bytes(), 64 * 1024 * 1024);
    assert_eq!(config.limits.max_request_bytes(), 8 * 1024 * 1024);
    assert_eq!(config.advertise_peer(), "127.0.0.1:7201");
    assert_eq!(config.others().map(|n| n.id).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn flags_over_environment_over_file_over_default() {
    let file =
        format!("{GOOD}[raft]\nheartbeat_ms = 50\nelection_min_ms = 300\n[log]\ncache_mb = 9");
    let environment = [
        ("QUORATE_RAFT_HEARTBEAT_MS", "60"),
        ("QUORATE_RAFT_ELECTION_MIN_MS", "350"),
        // Not set, as compose files say it.
        ("QUORATE_LOG_CACHE_MB", ""),
        ("QUORATE_LOG_OUTPUT_FORMAT", "json"),
        // Other people's.
        ("QUORATE_LOG", "debug"),
        ("QUORATE_SERVICE_HOST", "10.0.0.1"),
        ("QUORATE_PORT_7101_TCP", "tcp://10.0.0.1:7101"),
        ("QUORATE_CRASH_AT", "apply.begin"),
        ("QUORATE_ENDPOINTS", "http://127.0.0.1:7101"),
        ("PATH", "/bin"),
    ];
    let loaded = try_load(&file, &environment, &[("raft.heartbeat_ms", "70")]).unwrap();
    let config = &loaded.config;
    assert_eq!((config.raft.heartbeat_ms, config.raft.election_min_ms), (70, 350));
    assert_eq!((config.log.cache_mb, config.log_output.format), (9, LogFormat::Json));
    let who = |key| loaded.origin(key).to_string();
    assert_eq!(who("raft.heartbeat_ms"), "--set raft.heartbeat_ms");
    assert_eq!(who("raft.election_min_ms"), "environment QUORATE_RAFT_ELECTION_MIN_MS");
    assert_eq!(who("log.cache_mb"), "n.toml:26");
    assert_eq!(who("log.segment_mb"), "default");
}

#[test]
fn everything_can_be_said_without_a_file() {
    let environment: Vec<(OsString, OsString)> = [
        ("QUORATE_CLUSTER_ID", "4c5d9f0e-6f3a-4e0e-9a51-1d2f0b3c7a10"),
        ("QUORATE_NODE_ID", "1"),
        ("QUORATE_DATA_DIR", "data/1"),
        ("QUORATE_LISTEN_CLIENT", "127.0.0.1:7101"),
        ("QUORATE_LISTEN_PEER", "0.0.0.0:7201"),
        ("QUORATE_LISTEN_HTTP", "[::]:7301"),
        ("QUORATE_LISTEN_ADVERTISE_PEER", "one:7201"),
        ("QUORATE_NODES", r#"[{ id = 1, peer = "one:7201", client = "127.0.0.1:7101" }]"#),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec();
    let loaded = load(&Sources { environment, ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.advertise_peer(), "one:7201");
}

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

#[test]
fn a_file_that_is_not_there_is_named() {
    let file = Some(PathBuf::from("/nowhere/n.toml"));
    let error = load(&Sources { file, ..Sources::default() }).unwrap_err().to_string();
    assert_eq!(error, "/nowhere/n.toml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_directory_that_is_not_utf8_is_refused_not_changed() {
    let bad = OsString::from_vec(b"/data/\xff".to_vec());
    let environment = vec![("QUORATE_DATA_DIR".into(), bad)];
    let error = load(&Sources { environment, ..Sources::default() }).unwrap_err().to_string();
    assert_eq!(error, "environment QUORATE_DATA_DIR: data_dir is not UTF-8");
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let two = &GOOD[..GOOD.rfind("[[nodes]]").unwrap()];
    let loaded = try_load(two, &[], &[("log.retain_mb", "32")]).unwrap();
    assert_eq!(
        loaded.warnings,
        [
            "nodes has 2 entries: 2 nodes survive the loss of no more than 1 do, and every commit \
             waits for one node more",
            "log.retain_mb = 32 is less than log.segment_mb = 64: whole segments are kept, so this \
             keeps more than it says",
        ]
    );
    assert_eq!(try_load(GOOD, &[], &[]).unwrap().warnings, [""; 0]);
}

#[test]
fn the_rendered_configuration_gives_itself_again() {
    let flags = [
        ("groups", "3"),
        ("threads", "5"),
        ("log.durability", "direct"),
        ("state.compression", "zstd"),
        ("listen.advertise_peer", "127.0.0.1:7201"),
        ("data_dir", "a \"quoted\" dir"),
        ("log_output.format", "json"),
    ];
    let loaded = try_load(GOOD, &[], &flags).unwrap();
    let text = loaded.render();
    let again = try_load(&text, &[], &[]).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again.config, loaded.config);
    let lines: Vec<(&str, &str)> =
        text.lines().filter_map(|l| l.split_once('#')).map(|(a, b)| (a.trim(), b.trim())).collect();
    assert!(lines.contains(&("groups = 3", "--set groups")), "{text}");
    assert!(lines.contains(&("heartbeat_ms = 75", "default")), "{text}");
}

/// Every key of the table exists in `Config`, and the other way round; and every default is within
/// its own bounds.
#[test]
fn the_table_of_keys_is_the_configuration() {
    let mut config = good();
    config.listen.advertise_client = Some("a:1".into());
    config.listen.advertise_peer = Some("a:2".into());
    let mut found = BTreeSet::new();
    for (name, value) in toml::Table::try_from(&config).unwrap() {
        let keys = match value {
            toml::Value::Table(section) => {
                section.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)).collect()
            }
            value => vec![(name, value)],
        };
        for (path, value) in keys {
            let key = schema::find(&path).unwrap_or_else(|| panic!("{path} is not in the table"));
            if key.kind != Kind::Nodes {
                values::check(key.path, key.kind, &value).unwrap();
            }
            found.insert(key.path);
        }
    }
    let table: BTreeSet<_> = KEYS.iter().map(|key| key.path).collect();
    assert_eq!(found, table);
    assert_eq!(table.len(), KEYS.len(), "a key is twice in the table");
    let variables: BTreeSet<_> = KEYS.iter().map(schema::Key::variable).collect();
    assert_eq!(variables.len(), KEYS.len(), "two keys have one variable");
}

/// Every word that the table allows is one that `Config` understands.
#[test]
fn every_choice_is_understood() {
    for key in KEYS {
        if let Kind::Choice(words) = key.kind {
            for word in words {
                try_load(GOOD, &[], &[(key.path, word)]).unwrap();
            }
        }
    }
}
