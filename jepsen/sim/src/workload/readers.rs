//! Those who read: any node, at any level, with positions that anybody was given.

use std::time::Duration;

use quorate_jepsen_core::{
    history::Event,
    ids::{Epoch, Node, Offset, Stamp},
    op::{Answer, Call, Claim},
};
use quorate_proto::v1 as wire;

use super::{Client, recreated, stopped};
use crate::{
    cluster,
    record::{self, Token},
    rpc,
    world::{self, HostId},
};

impl Client {
    pub(super) async fn read(mut self, logs: Vec<String>) {
        while !stopped() {
            let log = self.seed.pick(&logs).clone();
            let node = *self.seed.pick(&cluster::in_service());
            self.read_once(log, node).await;
            self.pause().await;
        }
    }

    /// Draws a read: its request and, when it has one, its staleness bound.
    fn draw_read(&mut self, log: &str) -> (wire::ReadRequest, Option<u64>, Option<Token>) {
        let (level, bound_ms) = match self.seed.below(4) {
            0 | 1 => (wire::Level::Linearizable, None),
            2 => (wire::Level::Bounded, Some(*self.seed.pick(&[0, 20, 100, 400]))),
            _ => (wire::Level::Eventual, None),
        };
        let on_unmet = *self.seed.pick(&[
            wire::OnUnmet::Wait,
            wire::OnUnmet::Wait,
            wire::OnUnmet::Fail,
            wire::OnUnmet::Redirect,
            wire::OnUnmet::ServeAndMark,
        ]);
        let with_token = self.seed.one_in(3);
        let token = record::token(self.seed.next_u64()).filter(|t| with_token && t.log == log);
        let request = wire::ReadRequest {
            log: log.to_owned(),
            from: Some(wire::ReadFrom { from: Some(wire::read_from::From::Last(10)) }),
            consistency: Some(wire::Consistency {
                level: level.into(),
                max_staleness_ms: bound_ms,
                at_least: token.iter().map(|t| t.bytes.clone()).collect(),
                on_unmet: on_unmet.into(),
            }),
            ..wire::ReadRequest::default()
        };
        (request, bound_ms, token)
    }

    pub(super) async fn read_once(&mut self, log: String, node: HostId) {
        let (request, bound, token) = self.draw_read(&log);
        let consistency = request.consistency.clone().unwrap_or_default();
        let marked = consistency.on_unmet() == wire::OnUnmet::ServeAndMark;
        let linearizable = consistency.level() == wire::Level::Linearizable && !marked;
        let invoked = world::moment();
        let limit = Duration::from_millis(200 + self.seed.below(800));
        let shown = rpc::read(node, request, limit).await;
        // Where a read of the last records begins is known only with its answer, so the history is
        // told the call afterwards, at the time it was made.
        match shown {
            Ok(shown) => {
                let header = shown.header;
                let next_offset = Offset(header.next_offset);
                let from = shown.batches.first().map_or(next_offset, |b| b.first_offset);
                let call = Call::Read { log: log.clone(), from, linearizable };
                let op = record::invoke_at(self.process, call, invoked);
                let stamp = Stamp {
                    group: header.group,
                    term: header.term,
                    log_index: header.applied_index,
                    next_offset,
                    writer_epoch: Epoch(0),
                };
                let answer =
                    Answer::Read { batches: shown.batches, next_offset, stamp: Some(stamp) };
                record::answer(op, answer);
                if recreated::is(&log) {
                    recreated::told(&log, op, None, Some(header.incarnation));
                }
                record::event(Event::Claim(Claim {
                    op,
                    node: Node(node),
                    // An answer that is only marked says its age, and promises no bound.
                    bound_ms: bound.filter(|_| !marked),
                    age_ms: header.age_ms,
                    // And an answer that is marked may say that it lacks the position.
                    at_least: token.filter(|_| !header.position_unmet).map(|t| t.next_offset),
                    served: Some(shown.served),
                }));
                record::give(Token { log, bytes: header.position, next_offset });
            }
            Err(failure) => {
                if failure.kind == "TOO_STALE" && bound.is_some() {
                    record::refused_bound();
                }
                let call = Call::Read { log, from: Offset(0), linearizable };
                let op = record::invoke_at(self.process, call, invoked);
                record::answer(op, failure.of_a_read());
            }
        }
    }
}
