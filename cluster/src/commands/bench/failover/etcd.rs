//! etcd: puts, at any member that takes them; a member that doesn't is left for the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tonic::transport::{Channel, Endpoint};

use super::{SIZE, Target};
use crate::{
    commands::bench::{etcd as client, payload::Payload},
    exit::Failure,
};

/// A member that can't be reached within this is left.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

pub struct Etcd {
    endpoints: Vec<String>,
    channels: Vec<Channel>,
    /// The member that is asked now.
    at: Arc<AtomicUsize>,
    payload: Payload,
}

impl Etcd {
    pub fn open(endpoints: &[String]) -> Result<Self, Failure> {
        let channel = |address: &String| {
            let endpoint = Endpoint::from_shared(address.clone());
            let endpoint = endpoint.map_err(|e| Failure::usage(e.to_string()))?;
            let timeout = super::PATIENCE;
            let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(timeout);
            Ok(endpoint.tcp_nodelay(true).connect_lazy())
        };
        Ok(Self {
            endpoints: endpoints.to_vec(),
            channels: endpoints.iter().map(channel).collect::<Result<_, Failure>>()?,
            at: Arc::new(AtomicUsize::new(0)),
            payload: Payload::new(SIZE),
        })
    }
}

impl Target for Etcd {
    fn send(&self, number: u64) -> BoxFuture<'static, bool> {
        let at = self.at.load(Ordering::Relaxed);
        let channel = self.channels[at % self.channels.len()].clone();
        let (shared, value) = (self.at.clone(), self.payload.of(number));
        async move {
            let done = client::put_one(channel, number, value).await.is_ok();
            if !done {
                // Whoever finds out first moves on; the others follow.
                let next = at.wrapping_add(1);
                let _ = shared.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            done
        }
        .boxed()
    }

    fn leader(&self) -> BoxFuture<'_, Result<usize, Failure>> {
        async move {
            let leader = client::leader(&self.endpoints).await?;
            let found = self.endpoints.iter().position(|e| *e == leader);
            found.ok_or_else(|| Failure::refused(format!("{leader} is no member of ours")))
        }
        .boxed()
    }
}
