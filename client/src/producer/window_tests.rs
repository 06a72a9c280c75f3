use std::sync::Arc;

use proptest::prelude::*;
use quorate_proto::v1 as wire;
use tokio::sync::{Semaphore, oneshot::Receiver};

use super::*;
use crate::position::Position;

type Ticket = Receiver<Result<Appended>>;

struct Bench {
    window: Window,
    bytes: Arc<Semaphore>,
}

impl Bench {
    fn new(target_bytes: usize) -> Self {
        Self { window: Window::new(0, 32, target_bytes), bytes: Arc::new(Semaphore::new(1 << 20)) }
    }

    fn submit(&mut self, values: &[&'static str], exact: bool) -> Ticket {
        let (answer, ticket) = oneshot::channel();
        let bytes = self.bytes.clone().try_acquire_many_owned(10).unwrap();
        self.window.submit(Submission {
            batch: Batch::of(values.iter().copied()).unwrap(),
            exact,
            at: crate::runtime::now(),
            caller: Caller { answer, _bytes: bytes },
        });
        ticket
    }

    fn sent(&mut self) -> Vec<(u64, u32)> {
        let mut sent = Vec::new();
        self.window.pack();
        self.window
            .send(Moment::now(), |sequence, batch| sent.push((sequence, batch.record_count())));
        sent
    }
}

fn appended(first: u64, next: u64) -> Appended {
    Appended {
        first_offset: first,
        next_offset: next,
        timestamp_ms: 1,
        deduplicated: false,
        incarnation: 1,
        position: Position::from_bytes(Default::default()),
        stamp: None,
    }
}

fn refusal(kind: wire::ErrorKind, retryable: bool, effect: wire::Effect) -> Error {
    Error::from_detail(wire::ErrorDetail {
        kind: kind.into(),
        retryable,
        effect: effect.into(),
        stamp: Some(wire::Stamp::default()),
        ..Default::default()
    })
}

fn offsets(ticket: &mut Ticket) -> (u64, u64) {
    let appended = ticket.try_recv().unwrap().unwrap();
    (appended.first_offset, appended.next_offset)
}

fn effect(ticket: &mut Ticket) -> Effect {
    ticket.try_recv().unwrap().unwrap_err().effect()
}

#[test]
fn records_that_wait_are_packed_and_each_caller_gets_its_own_offsets() {
    let mut bench = Bench::new(1000);
    let mut early: Vec<_> = (0..EAGER_BATCHES)
        .map(|_| {
            let ticket = bench.submit(&["x"], false);
            assert_eq!(bench.sent().len(), 1, "a few go out at once");
            ticket
        })
        .collect();
    let mut a = bench.submit(&["a"], false);
    let mut b = bench.submit(&["b", "c"], false);
    assert_eq!(bench.sent(), [], "the others gather");
    bench.window.acknowledge(0, &appended(10, 11)).unwrap();
    assert_eq!(offsets(&mut early[0]), (10, 11));
    assert_eq!(bench.sent(), [(4, 3)]);
    for tag in 1..4 {
        bench.window.acknowledge(tag, &appended(10 + tag, 11 + tag)).unwrap();
    }
    bench.window.acknowledge(4, &appended(20, 23)).unwrap();
    assert_eq!((offsets(&mut a), offsets(&mut b)), ((20, 21), (21, 23)));
    assert!(bench.window.is_empty());
    assert_eq!(bench.window.acknowledged(), 5);
    assert_eq!(bench.bytes.available_permits(), 1 << 20, "all bytes are given back");
}

#[test]
fn exact_batches_are_never_packed() {
    let mut bench = Bench::new(1000);
    let _tickets = [
        bench.submit(&["a"], true),
        bench.submit(&["b"], false),
        bench.submit(&["c"], false),
        bench.submit(&["d"], true),
        bench.submit(&["e"], true),
    ];
    assert_eq!(bench.sent(), [(0, 1), (1, 2), (2, 1), (3, 1)]);
}

#[test]
fn a_reconnect_resends_everything_in_order_with_the_same_numbers() {
    let mut bench = Bench::new(1);
    let mut tickets: Vec<_> = (0..6).map(|_| bench.submit(&["a", "b"], true)).collect();
    assert_eq!(bench.sent(), (0..6).map(|n| (n, 2)).collect::<Vec<_>>());
    bench.window.acknowledge(0, &appended(0, 2)).unwrap();
    bench.window.disconnected(true);
    assert_eq!(bench.sent(), (1..6).map(|n| (n, 2)).collect::<Vec<_>>());
    assert_eq!(bench.sent(), []);
    for n in 1..6 {
        bench.window.acknowledge(n, &appended(n * 2, n * 2 + 2)).unwrap();
    }
    for (n, ticket) in (0..).zip(&mut tickets) {
        assert_eq!(offsets(ticket), (n * 2, n * 2 + 2));
    }
}

#[test]
fn answers_that_do_not_fit_are_not_believed() {
    let mut bench = Bench::new(1000);
    let mut ticket = bench.submit(&["a", "b"], true);
    assert!(bench.window.acknowledge(0, &appended(0, 2)).is_err(), "nothing was sent");
    bench.sent();
    assert!(bench.window.acknowledge(1, &appended(0, 2)).is_err(), "another batch");
    assert!(bench.window.acknowledge(0, &appended(0, 3)).is_err(), "another count");
    assert!(bench.window.acknowledge(0, &appended(u64::MAX, 1)).is_err());
    assert!(ticket.try_recv().is_err(), "still unanswered");
    bench.window.acknowledge(0, &appended(0, 2)).unwrap();
}

#[test]
fn what_a_refusal_means_for_those_behind() {
    use Effect::{None, Unknown};
    use wire::{Effect as E, ErrorKind as K};
    // What happened to the first batch before, and its refusal => effects of the first, of one
    // sent behind it, of one never sent.
    let table: [(&str, bool, Error, [Effect; 3]); 5] = [
        ("first attempt", false, refusal(K::LogRecreated, false, E::None), [None, None, None]),
        ("after a cut", true, refusal(K::LogRecreated, false, E::None), [Unknown, Unknown, None]),
        ("fenced after a cut", true, refusal(K::Fenced, false, E::None), [None, None, None]),
        (
            "unknown",
            false,
            refusal(K::ProducerUnknown, false, E::Unknown),
            [Unknown, Unknown, None],
        ),
        ("reused", false, refusal(K::SequenceReused, false, E::None), [None, None, None]),
    ];
    for (what, cut, error, expected) in table {
        let mut bench = Bench::new(1000);
        let mut tickets = vec![bench.submit(&["a"], true), bench.submit(&["b"], true)];
        bench.sent();
        if cut {
            bench.window.disconnected(true);
            bench.sent();
        }
        tickets.push(bench.submit(&["c"], true));
        let (done, mut flushed) = oneshot::channel();
        bench.window.flush(done);
        let Verdict::Fatal(error) = bench.window.refuse(0, error) else { panic!("{what}") };
        bench.window.fail(&error);
        let effects: Vec<_> = tickets.iter_mut().map(effect).collect();
        assert_eq!(effects, expected, "{what}");
        assert!(flushed.try_recv().unwrap().is_err());
        assert_eq!(bench.bytes.available_permits(), 1 << 20);
    }
}

#[test]
fn a_deadline_knows_what_was_never_sent_or_always_refused() {
    let late = || Error::deadline(Effect::None, "late");
    // Never sent.
    let mut bench = Bench::new(1000);
    let mut ticket = bench.submit(&["a"], true);
    bench.window.pack();
    bench.window.fail(&late());
    assert_eq!(effect(&mut ticket), Effect::None);
    // Sent, no answer.
    let mut ticket = bench.submit(&["a"], true);
    bench.sent();
    bench.window.fail(&late());
    assert_eq!(effect(&mut ticket), Effect::Unknown);
    // Sent, and refused without effect.
    let mut ticket = bench.submit(&["a"], true);
    let busy = refusal(wire::ErrorKind::ResourceExhausted, true, wire::Effect::None);
    let [(sequence, _)] = bench.sent()[..] else { panic!("one batch") };
    assert!(matches!(bench.window.refuse(sequence, busy), Verdict::Resend(_)));
    bench.window.disconnected(true);
    bench.window.fail(&late());
    assert_eq!(effect(&mut ticket), Effect::None);
    // A connection that was never made.
    let mut ticket = bench.submit(&["a"], true);
    bench.sent();
    bench.window.disconnected(false);
    bench.window.fail(&late());
    assert_eq!(effect(&mut ticket), Effect::None);
}

#[test]
fn a_stale_batch_is_answered_and_the_others_go_on() {
    let mut bench = Bench::new(1000);
    let mut stale = bench.submit(&["a"], true);
    let mut next = bench.submit(&["b"], true);
    bench.sent();
    let error = refusal(wire::ErrorKind::SequenceStale, false, wire::Effect::Applied);
    assert!(matches!(bench.window.refuse(0, error), Verdict::Answered));
    assert_eq!(effect(&mut stale), Effect::Applied);
    bench.window.acknowledge(1, &appended(5, 6)).unwrap();
    assert_eq!(offsets(&mut next), (5, 6));
}

#[test]
fn a_forgotten_producer_may_begin_again_unless_something_is_in_doubt() {
    let unknown = || refusal(wire::ErrorKind::ProducerUnknown, false, wire::Effect::None);
    let mut bench = Bench::new(1000);
    let mut answered = bench.submit(&["a"], true);
    bench.sent();
    bench.window.acknowledge(0, &appended(0, 1)).unwrap();
    offsets(&mut answered);
    let mut tickets = [bench.submit(&["b"], true), bench.submit(&["c"], true)];
    assert_eq!(bench.sent(), [(1, 1), (2, 1)]);
    assert!(matches!(bench.window.refuse(1, unknown()), Verdict::Forgotten(_)));
    bench.window.renumber();
    assert_eq!(bench.sent(), [(0, 1), (1, 1)]);
    bench.window.acknowledge(0, &appended(7, 8)).unwrap();
    assert_eq!(offsets(&mut tickets[0]), (7, 8));
    // The other one may be in the log, under its number.
    bench.window.disconnected(true);
    bench.sent();
    let Verdict::Fatal(error) = bench.window.refuse(1, unknown()) else { panic!("in doubt") };
    bench.window.fail(&error);
    assert_eq!(effect(&mut tickets[1]), Effect::Unknown);
    // Sequence 0 needs nobody to know it.
    let mut bench = Bench::new(1000);
    let _ticket = bench.submit(&["a"], true);
    bench.sent();
    assert!(matches!(bench.window.refuse(0, unknown()), Verdict::Fatal(_)));
}

#[test]
fn doubt_begins_with_the_first_copy() {
    let mut bench = Bench::new(1000);
    let mut ticket = bench.submit(&["a"], true);
    bench.sent();
    assert!(bench.window.in_doubt_since().is_none(), "an answer is on its way");
    bench.window.disconnected(true);
    let since = bench.window.in_doubt_since().expect("it may have been delivered");
    bench.sent();
    bench.window.disconnected(false);
    let still = bench.window.in_doubt_since().expect("another copy changes nothing");
    assert_eq!(since.until(&still), Duration::ZERO);
    bench.sent();
    bench.window.acknowledge(0, &appended(0, 1)).unwrap();
    offsets(&mut ticket);
    assert!(bench.window.in_doubt_since().is_none());
}

#[test]
fn a_flush_waits_for_exactly_what_was_before_it() {
    let mut bench = Bench::new(1000);
    let (done, mut nothing) = oneshot::channel();
    bench.window.flush(done);
    assert!(nothing.try_recv().unwrap().is_ok());
    let _a = bench.submit(&["a"], true);
    let (done, mut first) = oneshot::channel();
    bench.window.flush(done);
    let _b = bench.submit(&["b"], true);
    bench.sent();
    assert!(first.try_recv().is_err());
    bench.window.acknowledge(0, &appended(0, 1)).unwrap();
    assert!(first.try_recv().unwrap().is_ok());
}

#[test]
fn silence_is_waited_for_longer_each_time() {
    let waits: Vec<_> = (0..6).map(|n| answer_timeout(n).as_secs()).collect();
    assert_eq!(waits, [3, 6, 12, 24, 30, 30]);
    assert_eq!(answer_timeout(u32::MAX).as_secs(), 30);
}

#[derive(Clone, Debug)]
enum Step {
    Submit(u8, bool),
    Send,
    Acknowledge,
    Disconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..5_u8, any::<bool>()).prop_map(|(n, exact)| Step::Submit(n, exact)),
        3 => Just(Step::Send),
        3 => Just(Step::Acknowledge),
        1 => Just(Step::Disconnect),
    ]
}

proptest! {
    /// Whatever happens, every record goes out in the order it was submitted, under a number that
    /// always means the same bytes; and the window keeps its bound.
    #[test]
    fn numbers_keep_their_bytes(steps in prop::collection::vec(step(), 1..200)) {
        let mut bench = Bench::new(40);
        let mut tickets = Vec::new();
        let mut numbered: Vec<Batch> = Vec::new();
        let (mut submitted, mut outstanding) = (Vec::new(), VecDeque::new());
        let mut count = 0_usize;
        for step in steps {
            match step {
                Step::Submit(n, exact) => {
                    let values: Vec<String> = (0..n).map(|n| format!("{count}.{n}")).collect();
                    count += 1;
                    submitted.extend(values.clone());
                    let (answer, ticket) = oneshot::channel();
                    let bytes = bench.bytes.clone().try_acquire_owned().unwrap();
                    bench.window.submit(Submission {
                        batch: Batch::of(values).unwrap(), exact, at: crate::runtime::now(),
                        caller: Caller { answer, _bytes: bytes },
                    });
                    tickets.push(ticket);
                }
                Step::Send => {
                    bench.window.pack();
                    bench.window.send(Moment::now(), |sequence, batch| {
                        match numbered.get(sequence as usize) {
                            Some(known) => assert_eq!(known, batch),
                            None => {
                                assert_eq!(sequence as usize, numbered.len());
                                numbered.push(batch.clone());
                            }
                        }
                        outstanding.push_back(sequence);
                    });
                    prop_assert!(outstanding.len() <= 32);
                }
                Step::Acknowledge => {
                    if let Some(sequence) = outstanding.pop_front() {
                        let records = u64::from(numbered[sequence as usize].record_count());
                        let first = numbered[..sequence as usize].iter()
                            .map(|b| u64::from(b.record_count())).sum();
                        let done = bench.window.acknowledge(sequence, &appended(first, first + records));
                        prop_assert!(done.is_ok());
                    }
                }
                Step::Disconnect => {
                    bench.window.disconnected(true);
                    outstanding.clear();
                }
            }
        }
        let went_out: Vec<String> = numbered.iter()
            .flat_map(|batch| crate::batch::Records::of(batch.bytes().clone()))
            .map(|record| String::from_utf8(record.unwrap().value.to_vec()).unwrap())
            .collect();
        prop_assert_eq!(&went_out[..], &submitted[..went_out.len()]);
        // Answered tickets lie end to end.
        let mut next = 0;
        for ticket in &mut tickets {
            let Ok(answer) = ticket.try_recv() else { break };
            let answer = answer.unwrap();
            prop_assert_eq!(answer.first_offset, next);
            next = answer.next_offset;
        }
    }
}
