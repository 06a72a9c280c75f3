//! At most one leader in a term, and terms of a running node do not go back (G6; Raft paper 5.2).

use std::collections::BTreeMap;

use openraft::{ServerState, async_runtime::WatchReceiver as _};

use super::Violation;
use crate::{
    cluster,
    world::{self, HostId},
};

/// The properties' names.
pub const TWO: &str = "two-leaders";
/// See [`TWO`].
pub const BACK: &str = "term-backwards";

/// Watches all cores.
#[derive(Debug, Default)]
pub struct Leaders {
    /// Who led, by group and term.
    of: BTreeMap<(u32, u64), HostId>,
    /// By node, its start, and group.
    terms: BTreeMap<(HostId, u64, u32), u64>,
}

impl Leaders {
    /// Looks at all cores.
    pub fn look(&mut self, found: &mut Vec<Violation>) {
        for id in cluster::in_service() {
            let Some(node) = cluster::node(id) else { continue };
            for group in &node.groups {
                let number = group.id.0;
                let metrics = group.raft().metrics();
                let (state, term) = {
                    let metrics = metrics.borrow_watched();
                    (metrics.state, metrics.current_term)
                };
                let life = world::presence(id).life;
                let before = self.terms.insert((id, life, number), term).unwrap_or(0);
                if term < before {
                    let what = format!("group {number}: n{id} was in term {before}, is in {term}");
                    found.push(Violation::new(BACK, what));
                }
                if state != ServerState::Leader {
                    continue;
                }
                let first = *self.of.entry((number, term)).or_insert_with(|| {
                    world::trace(format_args!("n{id} leads group {number} in term {term}"));
                    id
                });
                if first != id {
                    let what = format!("group {number}, term {term}: n{first} and n{id} led");
                    found.push(Violation::new(TWO, what));
                }
            }
        }
    }

    /// How often a group got another leader.
    #[must_use]
    pub fn changes(&self) -> u64 {
        let groups: std::collections::BTreeSet<u32> = self.of.keys().map(|(g, _)| *g).collect();
        (self.of.len() - groups.len()) as u64
    }
}
