//! Which group a log lives in.

use quorate_state_machine::types::{GroupId, LogName};

/// The part of a name that decides: what is between the first `{` and the next `}`, if that is not
/// empty, else the whole name. Logs with the same `{tag}` share a group and can be appended to
/// atomically together.
fn routing_key(name: &str) -> &str {
    name.split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty())
        .unwrap_or(name)
}

/// The group of a log, in a cluster with `groups` groups. Fixed for ever: changing this function
/// would lose every log of a cluster with more than one group.
#[must_use]
pub fn group_of(name: &LogName, groups: u32) -> GroupId {
    assert!(groups > 0, "a cluster has at least one group");
    GroupId(crc32c::crc32c(routing_key(name.as_str()).as_bytes()) % groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> u32 {
        group_of(&LogName::new(name).unwrap(), 16).0
    }

    #[test]
    fn tags_share_a_group() {
        assert_eq!(group("{orders}-a"), group("{orders}-b"));
        assert_eq!(group("x{orders}"), group("orders"));
        assert_eq!(routing_key("{}x"), "{}x");
        assert_eq!(routing_key("a{b"), "a{b");
    }

    #[test]
    fn the_function_never_changes() {
        assert_eq!([group("orders"), group("wal"), group("a/b")], [10, 7, 3]);
    }

    #[test]
    fn groups_are_used_evenly() {
        let mut used = [0u32; 16];
        (0..1600).for_each(|i| used[group(&format!("log-{i}")) as usize] += 1);
        assert!(used.iter().all(|n| (60..160).contains(n)), "{used:?}");
    }
}
