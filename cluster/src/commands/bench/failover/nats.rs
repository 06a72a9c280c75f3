//! NATS JetStream: publications over one connection, to any server; the servers pass them on to
//! whoever leads the stream. A server that breaks the connection is left for the next.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

use super::{SIZE, Target};
use crate::{
    commands::bench::{
        nats::{self, Conversation},
        payload::Payload,
    },
    exit::Failure,
};

const STREAM: &str = "failover";
/// Between two attempts to find a server.
const PAUSE: Duration = Duration::from_millis(5);
/// A question about the stream that takes longer is asked again: its answer may never come.
const ANSWER: Duration = Duration::from_secs(2);

pub struct Nats {
    endpoints: Vec<String>,
    payload: Payload,
    queue: mpsc::UnboundedSender<(Bytes, oneshot::Sender<bool>)>,
}

impl Nats {
    pub async fn open(endpoints: &[String]) -> Result<Self, Failure> {
        nats::make_stream(&endpoints[0], STREAM, endpoints.len() as u32).await?;
        let (queue, waiting) = mpsc::unbounded_channel();
        tokio::spawn(publish(endpoints.to_vec(), waiting));
        Ok(Self { endpoints: endpoints.to_vec(), payload: Payload::new(SIZE), queue })
    }
}

async fn publish(
    endpoints: Vec<String>,
    mut waiting: mpsc::UnboundedReceiver<(Bytes, oneshot::Sender<bool>)>,
) {
    for endpoint in endpoints.iter().cycle() {
        if let Ok(mut conversation) = Conversation::open(endpoint).await {
            let mut unanswered: HashMap<usize, oneshot::Sender<bool>> = HashMap::new();
            for number in 0.. {
                // Until the connection breaks; those without an answer were not acknowledged.
                let said = loop {
                    tokio::select! {
                        next = waiting.recv() => {
                            let Some((value, answer)) = next else { return };
                            unanswered.insert(number, answer);
                            break conversation.publish(STREAM, number, &value).await;
                        }
                        said = conversation.acknowledgement() => match said {
                            Ok((number, good)) => {
                                if let Some(answer) = unanswered.remove(&number) {
                                    // Nobody listens any more when the measurement is over.
                                    let _ = answer.send(good);
                                }
                            }
                            Err(failure) => break Err(failure),
                        },
                    }
                };
                if said.is_err() {
                    break;
                }
            }
        }
        if waiting.is_closed() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Target for Nats {
    fn send(&self, number: u64) -> BoxFuture<'static, bool> {
        let (answer, told) = oneshot::channel();
        if self.queue.send((self.payload.of(number), answer)).is_err() {
            return futures::future::ready(false).boxed();
        }
        async move { told.await.unwrap_or(false) }.boxed()
    }

    fn leader(&self) -> BoxFuture<'_, Result<usize, Failure>> {
        async move {
            let asked = nats::stream_leader(&self.endpoints, STREAM);
            let asked = tokio::time::timeout(ANSWER, asked).await;
            asked.map_err(|_| Failure::refused("NATS does not say who leads the stream"))?
        }
        .boxed()
    }
}
