//! Those who append: plainly, as producers, and under writer epochs.

use quorate_jepsen_core::{
    ids::{Epoch, Offset},
    op::{Answer, Call},
};
use quorate_proto::v1 as wire;
use quorate_state_machine::planted;

use super::{ATTEMPT, Client, stopped};
use crate::{
    record,
    rpc::{self, Failure},
};

impl Client {
    pub(super) async fn write_plainly(mut self, log: String) {
        let mut known_end = Offset(0);
        while !stopped() {
            let mut append = self.new_append(&log);
            append.expected_offset = self.seed.one_in(2).then_some(known_end);
            let op = record::invoke(self.process, Call::Append(append.clone()));
            let result = self.append_once(&append, None).await;
            self.note(op, &result);
            match &result {
                Ok(Answer::Appended { next_offset, .. }) => known_end = *next_offset,
                Err(Failure { detail: Some(detail), .. }) => {
                    known_end = detail.next_offset.map_or(known_end, Offset);
                }
                _ => {}
            }
            self.pause().await;
        }
    }

    /// The same (producer, sequence) again until its fate is known; exactly once is the promise.
    pub(super) async fn produce(mut self, log: String) {
        let mut id = self.new_id();
        let mut sequence = 0;
        while !stopped() {
            let mut append = self.new_append(&log);
            append.producer = Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
            let op = record::invoke(self.process, Call::Append(append.clone()));
            let mut lost = false;
            let result = loop {
                if lost && planted::is("batch_split_on_retry") && append.records.len() > 1 {
                    // A planted fault: the rest goes with the next sequence.
                    let mut half = append.clone();
                    let rest = half.records.split_off(append.records.len() / 2);
                    if self.append_once(&half, Some((id, sequence))).await.is_ok() {
                        sequence += 1;
                        half.records = rest;
                        break self.append_once(&half, Some((id, sequence))).await;
                    }
                }
                match self.append_once(&append, Some((id, sequence))).await {
                    Err(failure) => {
                        // After a lost answer, a refusal says nothing about the attempt that was lost.
                        lost |= failure.effect == wire::Effect::Unknown;
                        let again = failure.detail.as_ref().is_none_or(|d| d.retryable);
                        if failure.effect == wire::Effect::Applied {
                            break Err(failure);
                        }
                        if stopped() || !again {
                            let effect = if lost { wire::Effect::Unknown } else { failure.effect };
                            break Err(Failure { effect, ..failure });
                        }
                    }
                    done => break done,
                }
                self.pause().await;
            };
            self.note(op, &result);
            match result {
                Ok(_) => sequence += 1,
                Err(failure) if failure.effect == wire::Effect::Applied => sequence += 1,
                Err(failure) if failure.effect == wire::Effect::None => {}
                // Whether the sequence is taken is not known: another producer goes on.
                Err(_) => (id, sequence) = (self.new_id(), 0),
            }
            self.pause().await;
        }
    }

    pub(super) fn new_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.seed.next_u64().to_be_bytes());
        id
    }

    /// Takes the log, writes until another takes it, takes it back.
    pub(super) async fn write_fenced(mut self, log: String) {
        let mut epoch: Option<Epoch> = None;
        while !stopped() {
            if let Some(epoch_now) = epoch {
                let mut append = self.new_append(&log);
                append.writer_epoch = Some(epoch_now);
                let op = record::invoke(self.process, Call::Append(append.clone()));
                let result = self.append_once(&append, None).await;
                self.note(op, &result);
                // Now and then it insists although it was fenced off.
                if matches!(&result, Err(f) if f.kind == "FENCED") && self.seed.one_in(3) {
                    epoch = None;
                }
            } else {
                let op = record::invoke(self.process, Call::Fence { log: log.clone() });
                let result = rpc::fence(self.at, log.clone(), ATTEMPT).await;
                let result = match result {
                    Ok(granted) => {
                        epoch = Some(Epoch(granted.writer_epoch));
                        Ok(Answer::Fenced {
                            epoch: Epoch(granted.writer_epoch),
                            next_offset: Offset(granted.next_offset),
                            stamp: granted.stamp.map(rpc::stamp),
                        })
                    }
                    Err(failure) => {
                        self.move_on(&failure);
                        Err(failure)
                    }
                };
                self.note(op, &result);
            }
            self.pause().await;
        }
    }
}
