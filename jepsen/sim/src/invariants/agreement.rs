//! At equal applied indexes all replicas have equal state, at every moment of a run and across
//! restarts (G2, G9; state machine safety, Raft paper 5.4.3). Here the digests are noted; the
//! history's checker compares them.

use std::collections::BTreeMap;

use quorate_jepsen_core::{history::Event, ids::Node, op::ReplicaDigest};

use super::Violation;
use crate::{cluster, record, world::HostId};

/// A replica whose state can't be read.
pub const UNREADABLE: &str = "replica-unreadable";

/// Watches all replicas.
#[derive(Debug, Default)]
pub struct Agreement {
    /// Where each replica was last.
    last: BTreeMap<(HostId, u32), u64>,
}

impl Agreement {
    /// Looks at all replicas.
    pub fn look(&mut self, found: &mut Vec<Violation>) {
        for id in cluster::in_service() {
            let Some(node) = cluster::node(id) else { continue };
            for group in &node.groups {
                let number = group.id.0;
                let applied = group.watch_applied().borrow().index.0;
                if self.last.insert((id, number), applied) == Some(applied) {
                    continue;
                }
                match group.view() {
                    Ok(view) => record::event(Event::Digest(ReplicaDigest {
                        node: Node(id),
                        group: number,
                        log_index: view.applied().map_or(0, |point| point.index.0),
                        digest: format!("{:?}", view.digest()),
                    })),
                    Err(why) => {
                        let what = format!("n{id} can't be read: {why}");
                        found.push(Violation::new(UNREADABLE, what));
                    }
                }
            }
        }
    }
}
