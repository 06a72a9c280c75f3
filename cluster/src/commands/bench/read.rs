//! Reads at random offsets.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_client::{Batch, Client as Sdk, Consistency, Endpoint, Position};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{
    load::{Client, Measured, Work, closed_loop, drive},
    payload::Payload,
    plan::Plan,
    report::Report,
    scratch::Scratch,
};
use crate::{
    args::{Consistency as Level, Load, ReadMode},
    exit::Failure,
    output::Output,
};

/// What is particular to reading.
pub struct Shape {
    /// How reads travel.
    pub mode: ReadMode,
    /// Records per request.
    pub batch: u32,
    /// Records in the log.
    pub records: u64,
    /// Records in each batch that they were appended in. What is read is whole batches.
    pub stored_batch: u32,
    /// How fresh the answers must be.
    pub consistency: Level,
    /// Whom to read from, if not from any node.
    pub node: Option<Endpoint>,
    /// Keep the log.
    pub keep: bool,
}

/// Appends unanswered at a time while filling.
const FILL_IN_FLIGHT: usize = 1024;

/// `quorate bench read`.
///
/// # Errors
/// When the cluster can't be reached or keeps refusing.
pub async fn run(plan: &Plan, load: &Load, shape: &Shape, output: Output) -> Result<(), Failure> {
    if u64::from(shape.batch) > shape.records {
        return Err(Failure::usage("--batch is more than --records"));
    }
    let clients = plan.clients_with(|client| client.share_reads(shape.mode == ReadMode::Sdk))?;
    let scratch = Scratch::create(&clients[0], 1, shape.keep).await?;
    let measured = measure(plan, load, shape, &clients, &scratch.names[0], output).await;
    scratch.clean_up(output).await;
    let mut settings =
        plan.settings(&format!("read ({}, {})", shape.mode, shape.consistency), shape.batch, 1);
    settings.spread = shape.records;
    if let Some(node) = &shape.node {
        settings.endpoints = vec![node.as_str().to_owned()];
    }
    Report::new(settings, &measured?).write(output)
}

async fn measure(
    plan: &Plan,
    load: &Load,
    shape: &Shape,
    clients: &[Sdk],
    log: &str,
    output: Output,
) -> Result<Measured, Failure> {
    let payload = Payload::new(plan.size);
    output.note(&format!("appending {} records first", shape.records));
    let position = fill(&clients[0], log, &payload, shape).await?;
    let consistency: Consistency = shape.consistency.into();
    let run = plan.run();
    let readers = (0..load.clients as usize).map(|id| {
        let reader = Reading {
            client: match &shape.node {
                Some(node) => clients[id % clients.len()].pinned_to(node),
                None => clients[id % clients.len()].clone(),
            },
            log: log.to_owned(),
            // A replica that has not got the records yet has nothing to be measured.
            consistency: consistency.clone().at_least(position.clone()),
            payload: payload.clone(),
            batch: shape.batch.into(),
            starts: shape.records - u64::from(shape.batch) + 1,
            rng: SmallRng::from_os_rng(),
        };
        closed_loop(run.clone(), id, reader)
    });
    drive(&run, load.warm_up, readers.collect::<Vec<_>>()).await
}

async fn fill(
    client: &Sdk,
    log: &str,
    payload: &Payload,
    shape: &Shape,
) -> Result<Position, Failure> {
    // One producer keeps the order, so that record n gets offset n.
    let producer = client.producer(log).open().await?;
    let (mut tickets, mut position) = (VecDeque::new(), None);
    for first in (0..shape.records).step_by(shape.stored_batch as usize) {
        let last = shape.records.min(first + u64::from(shape.stored_batch));
        let batch = Batch::of((first..last).map(|n| payload.of(n)))?;
        tickets.push_back(producer.append_batch(batch).await?);
        if tickets.len() == FILL_IN_FLIGHT
            && let Some(oldest) = tickets.pop_front()
        {
            oldest.await?;
        }
    }
    for ticket in tickets {
        position = Some(ticket.await?.position);
    }
    producer.close().await?;
    Ok(position.expect("there is at least one record to append"))
}

struct Reading {
    client: Sdk,
    log: String,
    consistency: Consistency,
    payload: Payload,
    batch: u64,
    starts: u64,
    rng: SmallRng,
}

impl Client for Reading {
    async fn call(&mut self) -> Result<Work, Failure> {
        let first = self.rng.random_range(0..self.starts);
        let read = self.client.read(&self.log).from_offset(first).to_offset(first + self.batch);
        let mut reader = read.consistency(self.consistency.clone()).open().await?;
        let mut work = Work::default();
        while let Some(batch) = reader.next_batch().await? {
            for record in batch.records() {
                let record = record?;
                check(first + work.records, record.offset, &record.record.value, &self.payload)?;
                work.records += 1;
                work.bytes += record.record.value.len() as u64;
            }
        }
        match work.records == self.batch {
            true => Ok(work),
            false => Err(Failure::refused("fewer records came than were asked for")),
        }
    }
}

/// Anything but the record that was appended there is not the work that is being measured.
fn check(want: u64, got: u64, value: &Bytes, payload: &Payload) -> Result<(), Failure> {
    if got == want && *value == payload.of(want) {
        return Ok(());
    }
    Err(Failure::refused(format!("offset {want} did not have the record that was appended there")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_record_that_was_appended_counts() {
        let payload = Payload::new(16);
        assert!(check(7, 7, &payload.of(7), &payload).is_ok());
        assert!(check(7, 8, &payload.of(7), &payload).is_err());
        assert!(check(7, 7, &payload.of(8), &payload).is_err());
        assert!(check(7, 7, &Bytes::new(), &payload).is_err());
    }
}
