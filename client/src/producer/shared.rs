//! Many callers over one producer a log.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::OnceCell;

use super::Producer;
use crate::{
    append::{AppendOptions, Appended, IntoBatch},
    client::Client,
    errors::{Effect, Error, ErrorKind, Result},
    runtime::{self, Instant},
};

/// Producers kept. Beyond it those that nobody uses at the moment are let go.
const MAX_KEPT: usize = 4096;

/// Attempts of one append with another producer each: an old one may have failed long ago, or
/// belong to a log that was deleted and created again.
const ATTEMPTS: usize = 3;

type Slot = Arc<OnceCell<Producer>>;

/// One producer a log, made when it is first needed.
#[derive(Default)]
pub(crate) struct SharedProducers {
    slots: Mutex<HashMap<String, Slot>>,
}

impl SharedProducers {
    fn slot(&self, log: &str) -> Slot {
        let mut slots = self.slots.lock().expect("nothing panics while holding it");
        if let Some(slot) = slots.get(log) {
            return slot.clone();
        }
        if slots.len() >= MAX_KEPT {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(log.to_owned()).or_default().clone()
    }

    /// Lets `slot` go, unless another one has taken its place.
    fn discard(&self, log: &str, slot: &Slot) {
        let mut slots = self.slots.lock().expect("nothing panics while holding it");
        if slots.get(log).is_some_and(|kept| Arc::ptr_eq(kept, slot)) {
            slots.remove(log);
        }
    }
}

impl Client {
    /// Appends records, exactly once, through a producer that all callers of this client and its
    /// clones share: hundreds of concurrent calls are packed and pipelined together. Calls made
    /// one after the other keep their order.
    ///
    /// # Errors
    /// [`LogNotFound`](ErrorKind::LogNotFound), [`Fenced`](ErrorKind::Fenced) (this method knows
    /// no writer epoch: see [`Producer`](crate::Producer)), or
    /// [`Deadline`](ErrorKind::Deadline): with [`Effect::Unknown`], the records may still be
    /// appended.
    pub async fn append(&self, log: &str, records: impl IntoBatch) -> Result<Appended> {
        let batch = records.into_batch()?;
        if self.pinned().is_some() {
            return self.append_with(log, batch, &AppendOptions::default()).await;
        }
        // Read once: with a thousand callers, looking at the clock is a good part of the cost.
        let began = runtime::now();
        let deadline = began + self.timeout();
        let mut attempt = 1;
        loop {
            let slot = self.producers.slot(log);
            let producer = match slot.get() {
                Some(producer) => producer,
                // On the heap, so that it does not make every call's future large.
                None => Box::pin(self.open_shared(log, &slot, deadline)).await?,
            };
            let mut admitted = false;
            let appended = async {
                let ticket = producer.submit(batch.clone(), false, began).await?;
                admitted = true;
                ticket.await
            };
            let error = match runtime::timeout_at(deadline, appended).await {
                Some(Ok(appended)) => return Ok(appended),
                Some(Err(error)) => error,
                None if admitted => {
                    let message = "the append was not acknowledged in time; it may still be";
                    return Err(Error::deadline(Effect::Unknown, message));
                }
                None => {
                    let message = "too many bytes wait to be appended; nothing was appended";
                    return Err(Error::deadline(Effect::None, message));
                }
            };
            // A failed producer stays failed; the next call gets another.
            self.producers.discard(log, &slot);
            // Somebody else's append failed, or the log that the producer knew is gone.
            let not_ours = error.is_secondary() || error.kind() == ErrorKind::LogRecreated;
            if !not_ours || error.effect() != Effect::None || attempt == ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
        }
    }

    async fn open_shared<'a>(
        &self,
        log: &str,
        slot: &'a Slot,
        deadline: Instant,
    ) -> Result<&'a Producer> {
        let left = deadline.saturating_duration_since(runtime::now());
        let open = || self.with_timeout(left).producer(log).open();
        // Another caller may be opening it, with another deadline.
        match runtime::timeout_at(deadline, slot.get_or_try_init(open)).await {
            Some(Ok(producer)) => Ok(producer),
            Some(Err(error)) => {
                self.producers.discard(log, slot);
                Err(error)
            }
            None => {
                let message = "the log could not be looked up in time; nothing was appended";
                Err(Error::deadline(Effect::None, message))
            }
        }
    }
}
