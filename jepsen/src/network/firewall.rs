//! Which packets between hosts are dropped, refused or slowed: one table of nftables, in the router of
//! a lab or on each of the users' hosts.
//!
//! Every host serves on the same ports, and connections are never used backwards. So a packet *to*
//! a port is part of a call, one *from* a port part of a reply, and the two directions of a pair of
//! nodes have their own faults although TCP needs both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use super::{Condition, Gate};

/// Marks what the slow lane takes out of the kernel.
pub(crate) const SLOW_MARK: u32 = 0x51;

/// Who called, and who was called.
pub(crate) type Hosts = (Ipv4Addr, Ipv4Addr);

/// A set of the table; its elements are (source, destination) of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    /// Nothing passes.
    Apart,
    /// Calls are dropped; replies to the other side's calls pass.
    Calls,
    /// Calls are answered with a reset.
    Refused,
    /// Replies are dropped; their receipts are not, so that the caller goes on waiting.
    Replies,
    /// Taken out and put back later.
    Slow,
}

impl Set {
    const ALL: [Self; 5] = [Self::Apart, Self::Calls, Self::Refused, Self::Replies, Self::Slow];

    fn name(self) -> &'static str {
        match self {
            Self::Apart => "apart",
            Self::Calls => "calls",
            Self::Refused => "refused",
            Self::Replies => "replies",
            Self::Slow => "slow",
        }
    }
}

/// The table of this name, with empty sets and these chains.
pub(crate) fn table(name: &str, chains: &str) -> String {
    let mut text = format!("table inet {name} {{\n");
    for set in Set::ALL {
        let name = set.name();
        writeln!(text, "set {name} {{ type ipv4_addr . ipv4_addr; counter; }}")
            .expect("a String takes everything");
    }
    text + chains + "}\n"
}

/// Calls to these ports that are dropped or refused, and replies from them that are dropped.
pub(crate) fn one_way(ports: &str) -> String {
    format!(
        "tcp dport {ports} ip saddr . ip daddr @calls drop\n\
         tcp dport {ports} ip saddr . ip daddr @refused reject with tcp reset\n{}",
        replies(ports)
    )
}

/// Replies from these ports that are dropped.
pub(crate) fn replies(ports: &str) -> String {
    format!("tcp sport {ports} tcp flags & psh == psh ip saddr . ip daddr @replies drop\n")
}

/// What the sets must hold for links in these conditions.
pub(crate) fn elements(links: &BTreeMap<Hosts, Condition>) -> BTreeMap<(Set, Hosts), ()> {
    let mut all = BTreeMap::new();
    let holds = |hosts: Hosts| links.get(&hosts).is_some_and(|c| c.calls != Gate::Open);
    let dropped = |hosts: Hosts| {
        links.get(&hosts).is_some_and(|c| matches!(c.calls, Gate::Hold | Gate::Lose))
    };
    for (&(from, to), condition) in links {
        let back = (to, from);
        match condition.calls {
            Gate::Open => {}
            // Neither side reaches the other: a cut cable, not two half ones.
            Gate::Hold | Gate::Lose if dropped(back) => {
                all.insert((Set::Apart, (from, to)), ());
            }
            Gate::Hold | Gate::Lose => {
                all.insert((Set::Calls, (from, to)), ());
            }
            Gate::Reset => {
                all.insert((Set::Refused, (from, to)), ());
            }
        }
        if condition.replies != Gate::Open && !holds((from, to)) {
            all.insert((Set::Replies, back), ());
        }
        if !condition.delay.is_zero() || !condition.jitter.is_zero() || condition.bytes_per_s > 0 {
            all.insert((Set::Slow, (from, to)), ());
            all.insert((Set::Slow, back), ());
        }
    }
    all
}

/// Commands that make the sets hold exactly this, in one step: no packet sees half of it.
pub(crate) fn commands(table: &str, elements: &BTreeMap<(Set, Hosts), ()>) -> String {
    let mut text = String::new();
    for set in Set::ALL {
        writeln!(text, "flush set inet {table} {}", set.name()).expect("a String takes everything");
        let of_set = elements.keys().filter(|(of, _)| *of == set);
        let of_set: Vec<_> = of_set.map(|(_, (from, to))| format!("{from} . {to}")).collect();
        if !of_set.is_empty() {
            let name = set.name();
            writeln!(text, "add element inet {table} {name} {{ {} }}", of_set.join(", "))
                .expect("a String takes everything");
        }
    }
    text
}

/// How many packets each element has met, from what `nft -j list table inet NAME` says.
///
/// # Errors
/// It says something else.
pub(crate) fn counted(json: &str) -> Result<BTreeMap<(Set, Hosts), u64>> {
    let json: serde_json::Value = serde_json::from_str(json).context("nft -j")?;
    let mut counted = BTreeMap::new();
    for item in json["nftables"].as_array().context("no array from nft -j")? {
        let name = item["set"]["name"].as_str();
        let Some(set) = Set::ALL.into_iter().find(|set| name == Some(set.name())) else { continue };
        for element in item["set"]["elem"].as_array().into_iter().flatten() {
            let element = &element["elem"];
            let address = |at: usize| -> Result<Ipv4Addr> {
                let text = element["val"]["concat"][at].as_str().context("no address")?;
                Ok(text.parse()?)
            };
            let packets = element["counter"]["packets"].as_u64().context("no counter")?;
            counted.insert((set, (address(0)?, address(1)?)), packets);
        }
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
    const B: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 2);

    fn calls(gate: Gate) -> Condition {
        Condition { calls: gate, ..Condition::default() }
    }

    fn of(links: &[(Hosts, Condition)]) -> Vec<(Set, Hosts)> {
        elements(&links.iter().cloned().collect()).into_keys().collect()
    }

    #[test]
    fn each_condition_has_its_own_packets() {
        let (there, back) = ((A, B), (B, A));
        assert_eq!(of(&[(there, Condition::default())]), []);
        assert_eq!(of(&[(there, calls(Gate::Hold))]), [(Set::Calls, there)]);
        assert_eq!(of(&[(there, calls(Gate::Reset))]), [(Set::Refused, there)]);
        let both = [(there, calls(Gate::Hold)), (back, calls(Gate::Hold))];
        assert_eq!(of(&both), [(Set::Apart, there), (Set::Apart, back)]);
        let both = [(there, calls(Gate::Reset)), (back, calls(Gate::Reset))];
        assert_eq!(of(&both), [(Set::Refused, there), (Set::Refused, back)]);
        let lost = Condition { replies: Gate::Lose, ..Condition::default() };
        assert_eq!(of(&[(there, lost)]), [(Set::Replies, back)], "a reply goes the other way");
        let slow = Condition { delay: Duration::from_millis(1), ..Condition::default() };
        assert_eq!(of(&[(there, slow)]), [(Set::Slow, there), (Set::Slow, back)]);
    }

    #[test]
    fn one_step_replaces_everything() {
        let text = commands("quorate", &elements(&BTreeMap::from([((A, B), calls(Gate::Hold))])));
        for set in Set::ALL {
            assert!(text.contains(&format!("flush set inet quorate {}\n", set.name())));
        }
        assert!(text.contains("add element inet quorate calls { 198.18.1.2 . 198.18.2.2 }"));
        assert_eq!(text.matches("add element").count(), 1);
    }

    #[test]
    fn counters_are_read_from_what_nft_says() {
        let json = r#"{"nftables": [{"metainfo": {"json_schema_version": 1}}, {"set":
            {"family": "inet", "name": "calls", "table": "quorate", "elem": [{"elem": {"val":
            {"concat": ["198.18.1.2", "198.18.2.2"]}, "counter": {"packets": 7, "bytes": 420}}}]}},
            {"set": {"family": "inet", "name": "apart", "table": "quorate"}}]}"#;
        assert_eq!(counted(json).unwrap(), BTreeMap::from([((Set::Calls, (A, B)), 7)]));
        assert!(counted("{}").is_err());
    }
}
