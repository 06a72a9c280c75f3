//! Append: judge every part first, then do all or nothing.
//!
//! The order of judgement, for each part: the log exists; it is the incarnation that is meant; the
//! (producer, sequence) is not a repetition; the writer epoch; the expected offset; the sequence.
//!
//! A repetition is recognised before the other conditions on purpose: it asks "what became of my
//! append?", and the answer is the same whatever happened since. A writer that was fenced, or that
//! lost the race for an offset, after its append was acknowledged must still learn that it *was*
//! appended; it gets nothing new in.

use super::{Context, Done, session::Session};
use crate::{
    dedupe::{self, Head, Place, Remembered, decode_chunk},
    digest,
    entry::PartView,
    keys::{self, BatchKey},
    limits::{MAX_PRODUCERS_PER_LOG, PRODUCER_SWEEP},
    outcome::{Accepted, Appended, Refused},
    planted,
    types::{Incarnation, Offset, ProducerId, Sequence},
    values::LogMeta,
    view::{View, ViewError},
};

/// What judging a part came to.
enum Verdict {
    /// It may be appended.
    New {
        /// The log before.
        log: LogMeta,
        producer: Option<Writer>,
    },
    /// It was appended before.
    Repetition { log: LogMeta, original: Remembered },
    /// It may not.
    Refused(Option<LogMeta>, Refused),
}

/// A producer that is about to append.
struct Writer {
    id: ProducerId,
    /// Before the append.
    head: Head,
    /// `head` is not what is stored: nothing is, or an expired one.
    first: First,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// Known and alive.
    No,
    /// Not stored.
    Unknown,
    /// Stored under this bucket, but expired.
    Expired(u64),
}

pub(super) fn append<V: View>(
    session: &mut Session<'_, V>,
    context: Context,
    parts: &[PartView<'_>],
) -> Result<Done, ViewError> {
    let mut verdicts = Vec::with_capacity(parts.len());
    for (n, part) in parts.iter().enumerate() {
        if parts[..n].iter().any(|earlier| earlier.log == part.log) {
            let log = session.log(part.log)?.cloned();
            let refused = Refused::DuplicateLog(super::owned(part.log));
            return Ok(Done::refused(log.as_ref(), refused));
        }
        match judge(session, part)? {
            Verdict::Refused(log, refused) => return Ok(Done::refused(log.as_ref(), refused)),
            verdict => verdicts.push(verdict),
        }
    }
    let repeated = |v: &Verdict| matches!(v, Verdict::Repetition { .. });
    // A multi-append is remembered log by log, but it is atomic: when only some of its parts were
    // appended, those were parts of another append.
    if verdicts.iter().any(repeated)
        && !verdicts.iter().all(repeated)
        && let Some(at) = verdicts.iter().position(repeated)
        && let (Verdict::Repetition { log, .. }, Some((_, got))) =
            (&verdicts[at], parts[at].header.producer)
    {
        let refused = Refused::SequenceReused { log: super::owned(parts[at].log), got };
        return Ok(Done::refused(Some(log), refused));
    }
    let mut appended = Vec::with_capacity(parts.len());
    let mut first_log = None;
    for (part, verdict) in parts.iter().zip(verdicts) {
        let log = match verdict {
            Verdict::New { log, producer } => {
                let (log, done) = carry_out(session, context, part, log, producer)?;
                appended.push(done);
                log
            }
            Verdict::Repetition { log, original } => {
                appended.push(Appended {
                    first_offset: original.first_offset,
                    next_offset: Offset(original.first_offset.0 + u64::from(original.count)),
                    timestamp: original.timestamp,
                    deduplicated: true,
                    incarnation: log.incarnation,
                });
                log
            }
            Verdict::Refused(..) => unreachable!("refusals returned above"),
        };
        first_log.get_or_insert(log);
    }
    Ok(Done::accepted(first_log.as_ref(), Accepted::Appended(appended)))
}

fn judge<V: View>(session: &mut Session<'_, V>, part: &PartView<'_>) -> Result<Verdict, ViewError> {
    let h = &part.header;
    let name = || super::owned(part.log);
    let Some(log) = session.log(part.log)?.cloned() else {
        return Ok(Verdict::Refused(None, Refused::LogNotFound(name())));
    };
    let incarnation = log.incarnation;
    if let Some(asked) = h.incarnation
        && asked != incarnation
    {
        let refused = Refused::LogRecreated { name: name(), asked, actual: incarnation };
        return Ok(Verdict::Refused(Some(log), refused));
    }
    let head = match h.producer {
        Some((id, _)) => lookup(session, &log, id)?,
        None => (Head::default(), First::Unknown),
    };
    if let Some((id, got)) = h.producer
        && got.0 < head.0.next
        && !planted::is("no_dedupe")
    {
        return Ok(match original(session, incarnation, id, &head.0, got)? {
            Some(original) if original.crc32c == h.crc32c && original.count == h.count => {
                Verdict::Repetition { log, original }
            }
            Some(_) => Verdict::Refused(Some(log), Refused::SequenceReused { log: name(), got }),
            None => Verdict::Refused(
                Some(log),
                Refused::SequenceStale { log: name(), got, expected: Sequence(head.0.next) },
            ),
        });
    }
    let refused = conditions(session, part, &log, &head)?;
    if let Some(refused) = refused {
        return Ok(Verdict::Refused(Some(log), refused));
    }
    let producer = h.producer.map(|(id, _)| Writer { id, head: head.0, first: head.1 });
    Ok(Verdict::New { log, producer })
}

/// Everything that is judged once it is clear that the append is not a repetition.
fn conditions<V: View>(
    session: &Session<'_, V>,
    part: &PartView<'_>,
    log: &LogMeta,
    (head, first): &(Head, First),
) -> Result<Option<Refused>, ViewError> {
    let h = &part.header;
    let name = || super::owned(part.log);
    match (h.writer_epoch, log.writer_epoch) {
        (None, None) => {}
        (Some(asked), Some(current)) if asked == current => {}
        (Some(_), Some(_)) if planted::is("ignore_fence") => {}
        (asked, Some(current)) if asked.is_none_or(|asked| asked < current) => {
            return Ok(Some(Refused::Fenced { log: name(), current }));
        }
        (asked, current) => {
            let asked = asked.expect("an absent epoch was judged above");
            return Ok(Some(Refused::EpochNotGranted { log: name(), asked, current }));
        }
    }
    if let Some(expected) = h.expected_offset
        && expected != log.next_offset
        && !planted::is("expected_offset_by_leader")
    {
        let actual = log.next_offset;
        return Ok(Some(Refused::OffsetMismatch { log: name(), expected, actual }));
    }
    if let Some((_, got)) = h.producer {
        if *first != First::No && got.0 > 0 {
            return Ok(Some(Refused::ProducerUnknown { log: name(), got }));
        }
        if got.0 > head.next {
            let expected = Sequence(head.next);
            return Ok(Some(Refused::SequenceGap { log: name(), got, expected }));
        }
        if *first == First::Unknown
            && log.producers >= MAX_PRODUCERS_PER_LOG
            && session.expired(log.incarnation, 1)?.is_empty()
        {
            let limit = MAX_PRODUCERS_PER_LOG;
            return Ok(Some(Refused::TooManyProducers { log: name(), limit }));
        }
        if got.0 == u64::MAX {
            return Ok(Some(Refused::Overflow { log: name(), what: "the producer sequence" }));
        }
    }
    if log.next_offset.0.checked_add(u64::from(h.count)).is_none() {
        return Ok(Some(Refused::Overflow { log: name(), what: "the next offset" }));
    }
    if log.total_bytes.checked_add(part.batch_len() as u64).is_none() {
        return Ok(Some(Refused::Overflow { log: name(), what: "the number of bytes" }));
    }
    Ok(None)
}

/// What is remembered of a producer. An expired one is unknown, whether swept yet or not.
fn lookup<V: View>(
    session: &mut Session<'_, V>,
    log: &LogMeta,
    id: ProducerId,
) -> Result<(Head, First), ViewError> {
    let live = dedupe::first_live_bucket(session.group.log_time);
    let Some(head) = session.producer(log.incarnation, id)? else {
        return Ok((Head::default(), First::Unknown));
    };
    if let Some(last) = head.recent.last()
        && (last.first_offset >= log.next_offset || last.timestamp > log.last_timestamp)
    {
        let what = format!("producer {id}");
        return Err(ViewError::corrupt(what, "it appended behind the end of its log"));
    }
    Ok(if head.bucket < live {
        (Head::default(), First::Expired(head.bucket))
    } else {
        (head.clone(), First::No)
    })
}

fn original<V: View>(
    session: &Session<'_, V>,
    incarnation: Incarnation,
    id: ProducerId,
    head: &Head,
    sequence: Sequence,
) -> Result<Option<Remembered>, ViewError> {
    match head.place(sequence) {
        Place::Head(at) => Ok(Some(head.recent[at])),
        Place::Slot(slot, at) => {
            let key = keys::chunk(incarnation, id, slot);
            let Some(row) = session.row(&key)? else {
                let what = format!("producer {id}");
                return Err(ViewError::corrupt(what, "its remembered appends are missing"));
            };
            let chunk = decode_chunk(&row).map_err(ViewError::damaged("a producer's chunk"))?;
            Ok(Some(chunk[at]))
        }
        Place::Forgotten => Ok(None),
    }
}

fn carry_out<V: View>(
    session: &mut Session<'_, V>,
    context: Context,
    part: &PartView<'_>,
    mut log: LogMeta,
    producer: Option<Writer>,
) -> Result<(LogMeta, Appended), ViewError> {
    let count = part.header.count;
    let first_offset = log.next_offset;
    let next_offset = Offset(first_offset.0 + u64::from(count));
    let timestamp = log.last_timestamp.max(context.timestamp);
    let key = BatchKey {
        incarnation: log.incarnation,
        last_offset: Offset(next_offset.0 - 1),
        timestamp,
        bytes_before: log.total_bytes,
    };
    log.digest = digest::of_batch(log.digest, &key, &part.stored);
    log.next_offset = next_offset;
    log.last_timestamp = timestamp;
    log.total_bytes += part.batch_len() as u64;
    session.put_batch(key, part.stored.clone());
    if let Some(writer) = producer {
        let append = Remembered { first_offset, count, timestamp, crc32c: part.header.crc32c };
        remember(session, &mut log, writer, append)?;
    }
    session.set_log(part.log, Some(log.clone()));
    let appended = Appended {
        first_offset,
        next_offset,
        timestamp,
        deduplicated: false,
        incarnation: log.incarnation,
    };
    Ok((log, appended))
}

fn remember<V: View>(
    session: &mut Session<'_, V>,
    log: &mut LogMeta,
    writer: Writer,
    append: Remembered,
) -> Result<(), ViewError> {
    let incarnation = log.incarnation;
    let Writer { id, mut head, first } = writer;
    let bucket = dedupe::bucket(session.group.log_time);
    match first {
        First::Unknown => {
            sweep(session, log)?;
            log.producers += 1;
        }
        First::Expired(old) => session.set_row(keys::expiry(incarnation, old, id), None),
        First::No if head.bucket != bucket => {
            session.set_row(keys::expiry(incarnation, head.bucket, id), None);
        }
        First::No => {}
    }
    if first != First::No || head.bucket != bucket {
        session.set_row(keys::expiry(incarnation, bucket, id), Some(bytes::Bytes::new()));
        head.bucket = bucket;
    }
    if let Some((slot, chunk)) = head.push(append) {
        session.set_row(keys::chunk(incarnation, id, slot), Some(chunk.into()));
    }
    session.set_producer(incarnation, id, Some(head));
    Ok(())
}

/// Forgets a few expired producers of the log for good.
fn sweep<V: View>(session: &mut Session<'_, V>, log: &mut LogMeta) -> Result<(), ViewError> {
    let incarnation = log.incarnation;
    for (bucket, id) in session.expired(incarnation, PRODUCER_SWEEP)? {
        session.set_row(keys::expiry(incarnation, bucket, id), None);
        for slot in 0..dedupe::SLOTS {
            session.set_row(keys::chunk(incarnation, id, slot as u8), None);
        }
        session.set_producer(incarnation, id, None);
        log.producers = log.producers.checked_sub(1).ok_or_else(|| {
            ViewError::corrupt("a log's row", "it counts fewer producers than it remembers")
        })?;
    }
    Ok(())
}
