//! Tables of good and bad configurations with the exact messages people get.

mod bad;

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
