//! One value against its key's kind and bounds.

use std::net::{IpAddr, Ipv6Addr};

use toml::Value;
use uuid::Uuid;

use super::schema::{Key, Kind, MAX_NODES, NODE_KEYS, nearest_of};
use crate::observe::logging;

/// What an environment variable or a flag says, as the value a file would have.
pub(super) fn from_text(key: &Key, text: &str) -> Result<Value, String> {
    match key.kind {
        // Not a number: the check will say so and show what was given.
        Kind::Number { .. } => {
            Ok(text.trim().parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer))
        }
        Kind::Nodes => {
            let parsed: Result<toml::Table, _> = format!("nodes = {text}").parse();
            // One value: a line break could have started something else.
            let alone = parsed.ok().filter(|table| table.len() == 1);
            alone
                .and_then(|mut table| table.remove("nodes"))
                .ok_or_else(|| format!("nodes = {text:?}: takes {}, in TOML", expected(key.kind)))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Checks a value of any kind but [`Kind::Nodes`].
pub(super) fn check(path: &str, kind: Kind, value: &Value) -> Result<(), String> {
    let why = match (kind, value) {
        (Kind::Number { min, max, .. }, Value::Integer(n)) if (min..=max).contains(n) => None,
        (Kind::Choice(words), Value::String(s)) if words.contains(&s.as_str()) => None,
        (Kind::Uuid, Value::String(s)) if Uuid::parse_str(s).is_ok_and(|u| !u.is_nil()) => None,
        (Kind::Path, Value::String(s)) if !s.trim().is_empty() => None,
        (Kind::Listen, Value::String(s)) => address(s).err(),
        (Kind::Address, Value::String(s)) => match address(s) {
            Ok(host) if is_wildcard(host) => Some(format!("nobody can call {host}")),
            other => other.err(),
        },
        (Kind::LogLevel, Value::String(s)) => logging::check(s).err(),
        _ => Some(String::new()),
    };
    match why {
        None => Ok(()),
        Some(why) if why.is_empty() => {
            Err(format!("{path} = {}: takes {}", short(value), expected(kind)))
        }
        Some(why) => Err(format!("{path} = {}: {why}; takes {}", short(value), expected(kind))),
    }
}

/// Checks the list of nodes; each complaint with the number of the entry it is about.
pub(super) fn check_nodes(value: &Value) -> Vec<(Option<usize>, String)> {
    let takes = expected(Kind::Nodes);
    let Value::Array(nodes) = value else {
        return vec![(None, format!("nodes = {}: takes {takes}", short(value)))];
    };
    if nodes.is_empty() || nodes.len() > MAX_NODES {
        return vec![(None, format!("nodes has {} entries: takes {takes}", nodes.len()))];
    }
    let mut wrong = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let number = i + 1;
        let mut complain = |what: String| wrong.push((Some(i), what));
        let Value::Table(node) = node else {
            complain(format!(
                "node {number} of nodes = {}: takes id, peer and client",
                short(node)
            ));
            continue;
        };
        for name in node.keys() {
            if NODE_KEYS.iter().any(|(known, _)| known == name) {
                continue;
            }
            let hint = nearest_of(name, NODE_KEYS.iter().map(|(known, _)| *known))
                .map_or_else(String::new, |known| format!("; did you mean {known}?"));
            complain(format!("node {number} of nodes: unknown key {name}{hint}"));
        }
        for (name, kind) in NODE_KEYS {
            match node.get(*name) {
                None => complain(format!("node {number} of nodes: {name} is missing")),
                Some(value) => {
                    if let Err(why) = check(name, *kind, value) {
                        complain(format!("node {number} of nodes: {why}"));
                    }
                }
            }
        }
    }
    wrong
}

/// What a kind takes, for messages.
pub(super) fn expected(kind: Kind) -> String {
    match kind {
        Kind::Number { min, max, unit: "" } => format!("a whole number from {min} to {max}"),
        Kind::Number { min, max, unit } => format!("a whole number from {min} to {max} ({unit})"),
        Kind::Choice(words) => {
            let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            quoted.join(" or ")
        }
        Kind::Uuid => "a UUID in quotes, not all zeros".to_owned(),
        Kind::Path => "a directory in quotes".to_owned(),
        Kind::Listen => "\"host:port\"".to_owned(),
        Kind::Address => "\"host:port\" that other machines can call".to_owned(),
        Kind::LogLevel => "a level in quotes, such as \"info\"".to_owned(),
        Kind::Nodes => format!("1 to {MAX_NODES} entries with id, peer and client"),
    }
}

/// Takes `host:port` apart, and says what is wrong with it.
fn address(text: &str) -> Result<&str, String> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("an address has no {scheme}:// in front"));
    }
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    match port.parse::<u16>() {
        Ok(0) => return Err("port 0 can't be told to anybody".to_owned()),
        Ok(_) => {}
        Err(_) => return Err(format!("{port:?} is no port")),
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fine = match bare {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None if host.contains(':') => return Err("an IPv6 address needs brackets".to_owned()),
        None => {
            !host.is_empty()
                && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    };
    if fine { Ok(host) } else { Err(format!("{host:?} is no host")) }
}

/// True for a host that means "every address of this machine".
pub(super) fn is_wildcard(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// The host of an address that was checked.
pub(super) fn host(checked: &str) -> &str {
    checked.rsplit_once(':').map_or(checked, |(host, _)| host)
}

/// A value as in a file, cut where it gets long.
pub(super) fn short(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
