//! Clients that read: any node, at any level, and note what the answer claimed.

use bytes::Bytes;
use quorate_jepsen_core::{
    history::Event,
    ids::{Offset, OpId, Process},
    op::{self, Answer, Call, Claim},
};
use quorate_proto::v1::{Level, OnUnmet};

use super::{Client, FENCED, SHARED, TRIMMED};
use crate::direct::{Asked, Shown};

impl Client {
    /// Everything, linearizable.
    pub(super) async fn read(mut self) {
        let process = self.recorder.process();
        while !self.stopped() {
            let logs: &[&str] = match self.mix.trimmers {
                0 => &[SHARED, FENCED],
                _ => &[SHARED, FENCED, TRIMMED],
            };
            let log = (*self.seed.pick(logs)).to_owned();
            self.ask(process, log, &Asked::linearizable(), None).await;
            // A read costs a round of the quorum each: fewer of them than of appends.
            for _ in 0..10 {
                self.pause().await;
            }
        }
    }

    /// Asks any node, and notes the read with what it claimed; `seen` is how far the client had
    /// seen the log when it demanded a position.
    pub(super) async fn ask(
        &mut self,
        process: Process,
        log: String,
        asked: &Asked,
        seen: Option<Offset>,
    ) -> (OpId, Option<Shown>) {
        let endpoint = self.seed.below(64) as usize;
        self.direct.aim(endpoint);
        // Where a read of the last records begins is known only with its answer, so the history is
        // told the call afterwards, at the time it was made.
        let (invoked, node) = (self.recorder.moment(), self.direct.aimed());
        let result = self.direct.read_last(&log, 20, asked).await;
        let from = result.as_ref().map_or(Offset(0), |shown| shown.from);
        let linearizable = asked.level == Level::Linearizable;
        let call = Call::Read { log, from, linearizable };
        let op = self.recorder.invoke_at(process, call, invoked);
        self.recorder.add(Event::Asked(op::Asked {
            op,
            node,
            bound_ms: asked.bound_ms,
            or_fail: asked.on_unmet == OnUnmet::Fail,
        }));
        match result {
            Ok(shown) => {
                self.recorder.answer(op, shown.answer.clone());
                self.recorder.add(Event::Claim(Claim {
                    op,
                    node: shown.node,
                    bound_ms: asked.bound_ms,
                    age_ms: shown.age_ms,
                    served: None,
                    at_least: seen.filter(|_| asked.at_least.is_some()),
                }));
                (op, Some(shown))
            }
            Err(failure) => {
                self.recorder.answer(op, failure.answer());
                (op, None)
            }
        }
    }

    /// Any node, any bound; some wait for it, some would rather be refused.
    pub(super) async fn read_bounded(mut self) {
        let process = self.recorder.process();
        while !self.stopped() {
            let bound_ms = *self.seed.pick(&[None, Some(20), Some(100), Some(500), Some(2000)]);
            let asked = Asked {
                level: if bound_ms.is_some() { Level::Bounded } else { Level::Eventual },
                bound_ms,
                at_least: None,
                on_unmet: *self.seed.pick(&[OnUnmet::Wait, OnUnmet::Fail, OnUnmet::Forward]),
            };
            self.ask(process, SHARED.to_owned(), &asked, None).await;
            self.pause().await;
        }
    }

    /// Its own writes, and what it has read, whoever answers.
    pub(super) async fn session(mut self) {
        let process = self.recorder.process();
        let mut seen: Option<(Offset, Bytes)> = None;
        while !self.stopped() {
            if self.seed.one_in(2) {
                let append = self.new_append(SHARED);
                let op = self.recorder.invoke(process, Call::Append(append.clone()));
                let result = self.direct.append(&append, None, self.mix.record_bytes).await;
                self.note(op, &result);
                if let Ok(Answer::Appended { next_offset, .. }) = &result {
                    seen = Some((*next_offset, self.direct.position().clone()));
                }
            } else {
                let asked = Asked {
                    level: Level::Eventual,
                    bound_ms: None,
                    at_least: seen.as_ref().map(|(_, position)| position.clone()),
                    on_unmet: OnUnmet::Wait,
                };
                let end = seen.as_ref().map(|(end, _)| *end);
                let (_, shown) = self.ask(process, SHARED.to_owned(), &asked, end).await;
                if let Some(shown) = shown {
                    seen = Some((shown.next_offset, shown.position));
                }
            }
            self.pause().await;
        }
    }
}
