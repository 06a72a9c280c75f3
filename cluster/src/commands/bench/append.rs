//! Appends, one request at a time per client or pipelined.

use bytes::Bytes;
use quorate_client::{AppendOptions, Batch, Client as Sdk};
use quorate_proto::v1::{AppendPart, AppendRequest};
use rand::{SeedableRng, rngs::SmallRng};

use super::{
    load::{Client, Measured, Work, closed_loop, drive},
    payload::Payload,
    plan::Plan,
    report::Report,
    scratch::Scratch,
    stream,
};
use crate::{
    args::{AppendMode, Load},
    exit::Failure,
    output::Output,
};

/// What is particular to appending.
pub struct Shape {
    /// How appends travel.
    pub mode: AppendMode,
    /// Records per request.
    pub batch: u32,
    /// Requests each client keeps unanswered, on streams.
    pub in_flight: u32,
    /// Logs the clients are spread over.
    pub logs: u32,
    /// Keep the logs.
    pub keep: bool,
}

/// `quorate bench append`.
///
/// # Errors
/// When the cluster can't be reached or keeps refusing.
pub async fn run(plan: &Plan, load: &Load, shape: &Shape, output: Output) -> Result<(), Failure> {
    report(plan, load, shape, output).await?.write(output)
}

/// The same, without telling.
///
/// # Errors
/// As [`run`].
pub async fn report(
    plan: &Plan,
    load: &Load,
    shape: &Shape,
    output: Output,
) -> Result<Report, Failure> {
    let clients = plan.clients()?;
    let logs = Scratch::create(&clients[0], shape.logs, shape.keep).await?;
    let measured = measure(plan, load, shape, &clients, &logs.names).await;
    logs.clean_up(output).await;
    let in_flight = if shape.mode == AppendMode::Stream { shape.in_flight } else { 1 };
    let mut settings = plan.settings(&format!("append ({})", shape.mode), shape.batch, in_flight);
    settings.spread = shape.logs.into();
    if shape.mode == AppendMode::Stream {
        // A stream is a connection's worth of order; each client has its own.
        settings.connections = settings.connections.min(load.clients);
    }
    Ok(Report::new(settings, &measured?))
}

/// The load alone, against logs that are there.
///
/// # Errors
/// As [`run`].
pub async fn measure(
    plan: &Plan,
    load: &Load,
    shape: &Shape,
    clients: &[Sdk],
    logs: &[String],
) -> Result<Measured, Failure> {
    let run = plan.run();
    let payload = Payload::new(plan.size);
    let appender = |id: usize| {
        let (client, log) = (clients[id % clients.len()].clone(), logs[id % logs.len()].clone());
        Appender::new(client, log, payload.clone(), shape.batch)
    };
    let ids = 0..load.clients as usize;
    match shape.mode {
        AppendMode::Unary => {
            let all = ids.map(|id| closed_loop(run.clone(), id, Unary(appender(id))));
            drive(&run, load.warm_up, all.collect::<Vec<_>>()).await
        }
        AppendMode::Sdk => {
            let all = ids.map(|id| closed_loop(run.clone(), id, Producing(appender(id))));
            drive(&run, load.warm_up, all.collect::<Vec<_>>()).await
        }
        AppendMode::Stream => {
            let in_flight = shape.in_flight as usize;
            let transports = stream::transports(plan);
            let all = ids.map(|id| {
                let transport = transports[id % transports.len()].clone();
                stream::pipelined(run.clone(), id, appender(id), transport, in_flight)
            });
            drive(&run, load.warm_up, all.collect::<Vec<_>>()).await
        }
    }
}

/// One client's part: where to, and what.
pub struct Appender {
    /// The SDK, also to find leaders with.
    pub client: Sdk,
    /// The log.
    pub log: String,
    /// What it appends.
    values: Values,
    batch: u32,
}

struct Values {
    payload: Payload,
    rng: SmallRng,
}

impl Iterator for Values {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        Some(self.payload.next(&mut self.rng))
    }
}

impl Appender {
    /// Appends batches of so many records to a log.
    #[must_use]
    pub fn new(client: Sdk, log: String, payload: Payload, batch: u32) -> Self {
        Self { client, log, values: Values { payload, rng: SmallRng::from_os_rng() }, batch }
    }

    /// The next request as it goes over the wire, for loads below the SDK.
    ///
    /// # Errors
    /// As [`Appender::batch`].
    pub fn request(&mut self) -> Result<(AppendRequest, Work), Failure> {
        let (batch, work) = self.batch()?;
        let part = AppendPart {
            log: self.log.clone(),
            batch: batch.bytes().clone(),
            batch_crc32c: Some(batch.crc32c()),
            ..Default::default()
        };
        Ok((AppendRequest { part: Some(part), ..Default::default() }, work))
    }

    /// The next request's records, encoded.
    ///
    /// # Errors
    /// They are over a limit.
    pub fn batch(&mut self) -> Result<(Batch, Work), Failure> {
        let batch = Batch::of(self.values.by_ref().take(self.batch as usize))?;
        Ok((batch, self.work()))
    }

    fn work(&self) -> Work {
        let records = u64::from(self.batch);
        Work { records, bytes: records * self.values.payload.size() as u64 }
    }
}

struct Unary(Appender);

impl Client for Unary {
    async fn call(&mut self) -> Result<Work, Failure> {
        let (batch, work) = self.0.batch()?;
        self.0.client.append_with(&self.0.log, batch, &AppendOptions::default()).await?;
        Ok(work)
    }
}

struct Producing(Appender);

impl Client for Producing {
    async fn call(&mut self) -> Result<Work, Failure> {
        let (batch, work) = self.0.batch()?;
        self.0.client.append(&self.0.log, batch).await?;
        Ok(work)
    }
}
