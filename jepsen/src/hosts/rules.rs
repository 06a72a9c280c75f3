//! Which packets a host of a user drops: our own table, our nodes' ports, nothing else.
//!
//! There is no router here that sees everything. A packet between two nodes is dropped by the host it
//! goes to; one to a client, whose machine is not ours to change, by the host it comes from.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::network::firewall::{self, Hosts, Set};

/// The table, on each host.
pub const TABLE: &str = "quorate_jepsen";

/// What makes the table, empty, whatever was there before; one line, as a keeper takes it.
#[must_use]
pub fn table(ports: &str) -> String {
    let chains = format!(
        "chain input {{ type filter hook input priority -10; policy accept;\n\
         tcp dport {ports} ip saddr . ip daddr @apart drop\n\
         tcp sport {ports} ip saddr . ip daddr @apart drop\n{}}}\n\
         chain output {{ type filter hook output priority -10; policy accept;\n{}}}\n",
        firewall::one_way(ports),
        firewall::replies(ports),
    );
    // Deleting what is not there would be an error.
    let anew = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    one_line(&(anew + &firewall::table(TABLE, &chains)))
}

/// What makes the sets of this host hold its part of these, in one step.
pub(super) fn commands(
    elements: &BTreeMap<(Set, Hosts), ()>,
    host: Ipv4Addr,
    nodes: &[Ipv4Addr],
) -> String {
    let drops = |(from, to): Hosts| if nodes.contains(&to) { to } else { from };
    let own = elements.iter().filter(|((_, hosts), ())| drops(*hosts) == host);
    one_line(&firewall::commands(TABLE, &own.map(|(element, ())| (*element, ())).collect()))
}

fn one_line(text: &str) -> String {
    text.trim_end().replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Condition, Gate};

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    #[test]
    fn each_packet_is_dropped_by_one_host_that_is_ours() {
        let calls = Condition { calls: Gate::Hold, ..Condition::default() };
        let lost = Condition { replies: Gate::Lose, ..Condition::default() };
        let links = [((A, B), calls), ((B, A), lost.clone()), ((CLIENT, A), lost)];
        let elements = firewall::elements(&links.into_iter().collect());
        let of = |host| commands(&elements, host, &[A, B]);
        assert!(of(B).contains("quorate_jepsen calls { 10.0.0.1 . 10.0.0.2 }"), "{}", of(B));
        assert!(of(B).contains("quorate_jepsen replies { 10.0.0.1 . 10.0.0.2 }"), "{}", of(B));
        assert!(of(A).contains("quorate_jepsen replies { 10.0.0.1 . 10.0.0.9 }"), "{}", of(A));
        assert!(!of(A).contains("calls {"), "{}", of(A));
        assert_eq!(of(A).matches("add element").count() + of(B).matches("add element").count(), 3);
        assert_eq!(of(A).matches("flush set").count(), 5, "{}", of(A));
    }

    #[test]
    fn no_rule_is_without_our_ports() {
        let text = table("{ 7101, 7102 }");
        assert!(!text.contains('\n') && text.starts_with("add table inet quorate_jepsen; delete"));
        let rules: Vec<_> = text.split(';').filter(|rule| rule.contains("addr @")).collect();
        assert_eq!(rules.len(), 6, "{text}");
        for rule in rules {
            assert!(rule.contains("port { 7101, 7102 } "), "{rule}");
        }
    }
}
