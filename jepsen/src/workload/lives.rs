//! A log that is deleted and created again under load: a name stands for one log after the other.

use quorate_jepsen_core::{
    history::Event,
    ids::{Incarnation, OpId},
    op::{Append, Call, Identity},
};
use quorate_proto::v1::{Level, OnUnmet};

use super::{Client, REBORN};
use crate::direct::Asked;

impl Client {
    /// Creates it, appends, reads, and now and then deletes it; some calls are for the log that the
    /// client last heard of and no other, some for whichever has the name.
    pub(super) async fn outlive(mut self) {
        let process = self.recorder.process();
        let mut known: Option<Incarnation> = None;
        while !self.stopped() {
            let named = known.filter(|_| self.seed.one_in(2));
            match self.seed.below(32) {
                0 => {
                    let call = Call::Delete { log: REBORN.to_owned() };
                    let op = self.recorder.invoke(process, call);
                    let result = self.direct.delete(REBORN, named).await;
                    self.about(op, named, None);
                    self.note(op, &result);
                }
                1..=5 => {
                    let call = Call::Create { log: REBORN.to_owned() };
                    let op = self.recorder.invoke(process, call);
                    let result = self.direct.create(REBORN).await;
                    let answered = result.as_ref().ok().and(self.direct.incarnation());
                    self.about(op, None, answered);
                    self.note(op, &result);
                    known = answered.or(known);
                }
                6..=12 => {
                    let linearizable = self.seed.one_in(2);
                    let level = if linearizable { Level::Linearizable } else { Level::Eventual };
                    let asked = Asked { level, on_unmet: OnUnmet::Wait, ..Asked::linearizable() };
                    let (op, shown) = self.ask(process, REBORN.to_owned(), &asked, None).await;
                    let answered = shown.and_then(|shown| shown.incarnation);
                    self.about(op, None, answered);
                    // What an old state shows may be gone: to be named all the same.
                    known = answered.or(known);
                }
                _ => {
                    let append: Append = self.new_append(REBORN);
                    let op = self.recorder.invoke(process, Call::Append(append.clone()));
                    let bytes = self.mix.record_bytes;
                    let result = self.direct.append_to(&append, None, bytes, named).await;
                    let answered = result.as_ref().ok().and(self.direct.incarnation());
                    self.about(op, named, answered);
                    self.note(op, &result);
                    known = answered.or(known);
                }
            }
            self.pause().await;
        }
    }

    fn about(&self, op: OpId, asked: Option<Incarnation>, answered: Option<Incarnation>) {
        self.recorder.add(Event::Identity(Identity { op, asked, answered }));
    }
}
