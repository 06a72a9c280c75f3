//! All replicas serve the same, and all were read (G2, G9).

use std::collections::BTreeMap;

use super::{Findings, Kind};
use crate::{
    history::History,
    op::{Batch, ReplicaLog},
};

/// Compares the replicas; answers what is missing for a judgement.
pub(super) fn check(history: &History, found: &mut Findings) -> Vec<String> {
    let mut missing = Vec::new();
    let mut logs: BTreeMap<&str, Vec<&ReplicaLog>> = BTreeMap::new();
    for replica in &history.replicas {
        logs.entry(&replica.log).or_default().push(replica);
    }
    for (log, replicas) in &logs {
        if replicas.len() < history.expected_replicas {
            missing.push(format!(
                "log {log:?} was read from {} of {} replicas",
                replicas.len(),
                history.expected_replicas
            ));
        }
        for pair in replicas.windows(2) {
            if let Some(what) = difference(pair[0], pair[1]) {
                found.add(Kind::ReplicasDiffer, log, &[], what);
            }
        }
    }
    if history.expected_replicas == 0 || logs.is_empty() {
        missing.push("no replica was read back".to_owned());
    }
    digests(history, found);
    missing
}

fn difference(a: &ReplicaLog, b: &ReplicaLog) -> Option<String> {
    let (x, y) = (a.node, b.node);
    if a.incarnation != b.incarnation {
        let (a, b) = (a.incarnation, b.incarnation);
        return Some(format!("n{x} has incarnation {a:?}, n{y} has {b:?}"));
    }
    if (a.start_offset, a.next_offset) != (b.start_offset, b.next_offset) {
        return Some(format!(
            "n{x} has offsets {}..{}, n{y} has {}..{}",
            a.start_offset, a.next_offset, b.start_offset, b.next_offset
        ));
    }
    if let Some((p, q)) = a.batches.iter().zip(&b.batches).find(|(p, q)| p != q) {
        return Some(format!("n{x} has {}, n{y} has {}", shown(p), shown(q)));
    }
    let (m, n) = (a.batches.len(), b.batches.len());
    (m != n).then(|| format!("n{x} has {m} batches, n{y} has {n}"))
}

/// A batch, for people.
fn shown(batch: &Batch) -> String {
    let records: Vec<_> = batch
        .records
        .iter()
        .map(|record| record.map_or("damaged bytes".to_owned(), |record| record.to_string()))
        .collect();
    let by = match &batch.producer {
        Some((id, sequence)) => format!(" by producer {id}, sequence {sequence}"),
        None => String::new(),
    };
    format!(
        "records {} at offsets {} to {}{by} (stored at {} ms, checksum {:08x})",
        records.join(" "),
        batch.first_offset,
        batch.next_offset().0.saturating_sub(1),
        batch.timestamp_ms,
        batch.crc32c
    )
}

fn digests(history: &History, found: &mut Findings) {
    let mut at: BTreeMap<(u32, u64), &crate::op::ReplicaDigest> = BTreeMap::new();
    for digest in &history.digests {
        let first = at.entry((digest.group, digest.log_index)).or_insert(digest);
        if first.digest != digest.digest {
            let what = format!(
                "group {} at log index {}: n{} has {}, n{} has {}",
                digest.group,
                digest.log_index,
                first.node,
                first.digest,
                digest.node,
                digest.digest
            );
            found.add(Kind::DigestsDiffer, "", &[], what);
        }
    }
}
