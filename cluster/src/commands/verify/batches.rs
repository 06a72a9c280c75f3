//! Stored batches, read back from every replica's disk and compared in step.

use std::collections::VecDeque;

use futures::{StreamExt, future::join_all};
use quorate_client::{BatchDigest, Client, Consistency, Error, ErrorKind};
use quorate_proto::admin::v1::BatchDigestsResponse;

use super::{digests::LogRange, name_nodes, odd_ones};
use crate::{commands::nodes::Node, exit::Failure};

/// What reading a log back came to.
#[derive(Debug, Default)]
pub struct Scan {
    /// Batches that are the same everywhere and undamaged.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Where replicas part, or a disk holds something damaged.
    pub findings: Vec<String>,
    /// Replicas that stopped answering.
    pub unanswered: Vec<String>,
}

/// Reads `log` back from each of `nodes`, up to the first batch that is not the same everywhere.
///
/// # Errors
/// The log can't be described.
pub async fn scan(
    client: &Client,
    nodes: &[&Node],
    group: u32,
    log: &LogRange,
) -> Result<Scan, Failure> {
    let mut scan = Scan::default();
    let opened = nodes.iter().map(|node| async move {
        let stream =
            node.admin.batch_digests(group, &log.name, log.incarnation, log.from, log.to).await;
        (node.id, stream)
    });
    let mut replicas = Vec::new();
    for (id, opened) in join_all(opened).await {
        match opened {
            Ok(stream) => replicas.push(Replica { id, stream, waiting: VecDeque::new() }),
            Err(error) => scan.unanswered.push(unanswered(log, id, &error)),
        }
    }
    loop {
        let heads = join_all(replicas.iter_mut().map(Replica::head)).await;
        let mut step = Vec::with_capacity(heads.len());
        for (id, head) in heads {
            match head {
                Ok(head) => step.push((id, head)),
                Err(error) => scan.unanswered.push(unanswered(log, id, &error)),
            }
        }
        if step.len() < replicas.len() {
            return Ok(scan);
        }
        match judge(&step) {
            Verdict::End => return Ok(scan),
            Verdict::Same(batch) => {
                scan.batches += 1;
                scan.records += u64::from(batch.count);
                for replica in &mut replicas {
                    replica.waiting.pop_front();
                }
            }
            Verdict::Finding { offset, what } => {
                if !is_gone(client, log, offset).await? {
                    scan.findings.push(format!("log {}, offset {offset}: {what}", log.name));
                }
                return Ok(scan);
            }
        }
    }
}

fn unanswered(log: &LogRange, id: u64, error: &Error) -> String {
    format!("log {}, node {id}: {error}", log.name)
}

/// Whether the batch at `offset` was trimmed, or its log deleted, while we read: one replica does
/// that before another, and neither is wrong.
async fn is_gone(client: &Client, log: &LogRange, offset: u64) -> Result<bool, Failure> {
    match client.describe_log(&log.name, &Consistency::linearizable()).await {
        Ok((now, _)) => Ok(now.incarnation != log.incarnation || now.start_offset > offset),
        Err(error) if error.kind() == ErrorKind::LogNotFound => Ok(true),
        Err(error) => Err(error.into()),
    }
}

struct Replica {
    id: u64,
    stream: quorate_client::Answers<BatchDigestsResponse>,
    waiting: VecDeque<BatchDigest>,
}

impl Replica {
    /// The batch that comes next; `None` at the end.
    async fn head(&mut self) -> (u64, Result<Option<BatchDigest>, Error>) {
        while self.waiting.is_empty() {
            match self.stream.next().await {
                Some(Ok(answer)) => self.waiting.extend(answer.batches),
                Some(Err(error)) => return (self.id, Err(error)),
                None => break,
            }
        }
        (self.id, Ok(self.waiting.front().copied()))
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    /// Every replica is at its end.
    End,
    /// Every replica has this batch, undamaged.
    Same(BatchDigest),
    Finding {
        offset: u64,
        what: String,
    },
}

/// Compares what the replicas have next.
fn judge(step: &[(u64, Option<BatchDigest>)]) -> Verdict {
    let present = || step.iter().filter_map(|(id, b)| Some((*id, b.as_ref()?)));
    let Some(offset) = present().map(|(_, b)| b.first_offset).min() else { return Verdict::End };
    let finding = |what| Verdict::Finding { offset, what };

    // Its own checksum convicts a replica without any other's testimony.
    let damaged: Vec<u64> = present()
        .filter(|(_, b)| b.first_offset == offset && b.computed_crc32c != b.stored_crc32c)
        .map(|(id, _)| id)
        .collect();
    if !damaged.is_empty() {
        return finding(format!(
            "the batch is damaged on {}: its bytes do not match their checksum",
            name_nodes(&damaged)
        ));
    }
    let here = |b: &Option<BatchDigest>| b.filter(|b| b.first_offset == offset);
    let missing: Vec<u64> =
        step.iter().filter(|(_, b)| here(b).is_none()).map(|(id, _)| *id).collect();
    if !missing.is_empty() {
        return finding(format!("the batch is missing on {}", name_nodes(&missing)));
    }
    let mut batches = present().map(|(_, b)| *b);
    let first = batches.next().expect("one is present, see above");
    if batches.all(|b| b == first) {
        return Verdict::Same(first);
    }
    finding(format!("the batch is not the same everywhere: {}", odd_ones(present())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first_offset: u64, crc: u32) -> Option<BatchDigest> {
        Some(BatchDigest {
            first_offset,
            count: 3,
            timestamp_ms: 5,
            computed_crc32c: crc,
            stored_crc32c: crc,
        })
    }

    #[test]
    fn verdicts() {
        let rotten = batch(4, 1).map(|b| BatchDigest { computed_crc32c: 9, ..b });
        type Row = ([Option<BatchDigest>; 3], Result<Option<u64>, &'static str>);
        let table: [Row; 8] = [
            ([None; 3], Ok(None)),
            ([batch(4, 1); 3], Ok(Some(4))),
            (
                [batch(4, 1), batch(4, 2), batch(4, 1)],
                Err("4: the batch is not the same everywhere: node 2 differs from nodes 1 and 3"),
            ),
            ([batch(4, 1), batch(4, 1), None], Err("4: the batch is missing on node 3")),
            ([batch(7, 1), batch(4, 1), batch(4, 1)], Err("4: the batch is missing on node 1")),
            (
                [batch(4, 1), batch(7, 1), batch(7, 1)],
                Err("4: the batch is missing on nodes 2 and 3"),
            ),
            (
                [batch(4, 1), rotten, batch(4, 1)],
                Err("4: the batch is damaged on node 2: its bytes do not match their checksum"),
            ),
            (
                [rotten, rotten, rotten],
                Err(
                    "4: the batch is damaged on nodes 1, 2 and 3: its bytes do not match their checksum",
                ),
            ),
        ];
        for (heads, want) in table {
            let step: Vec<_> = (1..).zip(heads).collect();
            let got = match judge(&step) {
                Verdict::End => Ok(None),
                Verdict::Same(b) => Ok(Some(b.first_offset)),
                Verdict::Finding { offset, what } => Err(format!("{offset}: {what}")),
            };
            assert_eq!(got, want.map_err(str::to_owned), "{heads:?}");
        }
    }

    #[test]
    fn the_timestamp_and_the_count_belong_to_it() {
        let late = batch(4, 1).map(|b| BatchDigest { timestamp_ms: 6, ..b });
        let long = batch(4, 1).map(|b| BatchDigest { count: 4, ..b });
        for odd in [late, long] {
            let verdict = judge(&[(1, batch(4, 1)), (2, odd), (3, batch(4, 1))]);
            assert!(matches!(verdict, Verdict::Finding { offset: 4, .. }), "{verdict:?}");
        }
    }
}
