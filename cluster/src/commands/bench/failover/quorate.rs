//! Quorate: a producer of the SDK.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use quorate_client::{Batch, Client, Endpoint, GrpcTransport, Producer, Transport};
use quorate_proto::admin::v1::StatusRequest;
use tokio::sync::oneshot;

use super::{SIZE, Target};
use crate::{
    commands::bench::{here::REQUEST_TIMEOUT, payload::Payload},
    exit::Failure,
};

const LOG: &str = "failover";

pub struct Quorate {
    endpoints: Vec<Endpoint>,
    transport: Arc<GrpcTransport>,
    payload: Payload,
    /// In order, to the task that has the producer: it may have to wait for room in its window.
    queue: tokio::sync::mpsc::UnboundedSender<(Batch, oneshot::Sender<bool>)>,
}

impl Quorate {
    pub async fn open(endpoints: &[String]) -> Result<Self, Failure> {
        let client = Client::builder().endpoints(endpoints.iter().cloned());
        let client = client.request_timeout(REQUEST_TIMEOUT).build()?;
        client.create_log(LOG, true).await?;
        let producer = client.producer(LOG).open().await?;
        let (queue, waiting) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(produce(producer, waiting));
        Ok(Self {
            endpoints: endpoints.iter().map(|e| Endpoint::new(e)).collect::<Result<_, _>>()?,
            transport: Arc::new(GrpcTransport::new(REQUEST_TIMEOUT)),
            payload: Payload::new(SIZE),
            queue,
        })
    }
}

async fn produce(
    producer: Producer,
    mut waiting: tokio::sync::mpsc::UnboundedReceiver<(Batch, oneshot::Sender<bool>)>,
) {
    while let Some((batch, answer)) = waiting.recv().await {
        // A producer that failed stays so: the measurement ends for want of acknowledgements.
        let Ok(ticket) = producer.append_batch(batch).await else { return };
        tokio::spawn(async move {
            // Nobody listens any more when the measurement is over.
            let _ = answer.send(ticket.await.is_ok());
        });
    }
}

impl Target for Quorate {
    fn send(&self, number: u64) -> BoxFuture<'static, bool> {
        let Ok(batch) = Batch::of([self.payload.of(number)]) else {
            return futures::future::ready(false).boxed();
        };
        let (answer, told) = oneshot::channel();
        if self.queue.send((batch, answer)).is_err() {
            return futures::future::ready(false).boxed();
        }
        async move { told.await.unwrap_or(false) }.boxed()
    }

    fn leader(&self) -> BoxFuture<'_, Result<usize, Failure>> {
        async move {
            let mut leaders = Vec::new();
            for endpoint in &self.endpoints {
                let asked = StatusRequest::default();
                let status = self.transport.status(endpoint, asked, REQUEST_TIMEOUT).await?;
                let group = status.groups.first();
                let leader = group.and_then(|g| g.leader.as_ref()).map_or(0, |l| l.node_id);
                leaders.push(leader);
            }
            match leaders.first() {
                Some(&first) if first > 0 && leaders.iter().all(|l| *l == first) => {
                    Ok(first as usize - 1)
                }
                _ => Err(Failure::refused("the nodes do not agree on a leader yet")),
            }
        }
        .boxed()
    }
}
