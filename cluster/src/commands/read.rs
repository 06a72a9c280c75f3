//! `quorate read` and `quorate tail`.

use quorate_client::{Level, ReadHeader, TailEvent};
use quorate_proto::v1::{ReadMethod, Role};

use super::logs::level;
use crate::{
    args::{Consistency, Global, ReadArgs, Show, TailArgs},
    exit::Failure,
    output::{Output, records::RecordWriter, units},
    sdk,
};

/// Reads what is there.
///
/// # Errors
/// The cluster's refusal; stdout is gone.
pub async fn read(args: &ReadArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let client = sdk::client(global)?;
    let mut read = client.read(&args.log).consistency(args.consistency.into());
    if let Some(offset) = args.start.from {
        read = read.from_offset(offset);
    }
    if let Some(ms) = args.start.from_timestamp {
        read = read.from_timestamp_ms(ms);
    }
    if let Some(n) = args.start.last {
        read = read.last(n);
    }
    if let Some(offset) = args.to {
        read = read.to_offset(offset);
    }
    if let Some(limit) = args.limit {
        read = read.max_records(limit);
    }
    if let Some(node) = &args.node {
        read = read.at(&sdk::endpoint(node)?);
    }
    let mut reader = read.open().await?;
    if args.header {
        let line = header_line(reader.header(), reader.endpoint().as_str());
        output.remark(&line);
    }
    let mut writer = RecordWriter::stdout(show(args.format, output))?;
    let end = loop {
        match reader.next_batch().await {
            Ok(Some(batch)) => writer.batch(&batch, u64::MAX)?,
            Ok(None) => break Ok(()),
            Err(error) => {
                // What came before it is good, and is the caller's.
                let failure = Failure::from(error);
                break Err(failure.at(format!("after {} records", writer.written())));
            }
        }
    };
    writer.flush()?;
    end
}

/// Follows a log.
///
/// # Errors
/// The cluster's refusal; stdout is gone.
pub async fn tail(args: &TailArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let client = sdk::client(global)?;
    let mut tail = client.tail(&args.log).consistency(args.consistency.into());
    if let Some(offset) = args.start.from {
        tail = tail.from_offset(offset);
    }
    if let Some(ms) = args.start.from_timestamp {
        tail = tail.from_timestamp_ms(ms);
    }
    if let Some(n) = args.start.last {
        tail = tail.last(n);
    }
    if let Some(node) = &args.node {
        tail = tail.at(&sdk::endpoint(node)?);
    }
    let mut tailer = tail.open().await?;
    let mut writer = RecordWriter::stdout(show(args.format, output))?;
    let limit = args.limit.unwrap_or(u64::MAX);
    while writer.written() < limit {
        match tailer.next().await {
            Ok(TailEvent::Batch(batch)) => {
                writer.batch(&batch, limit - writer.written())?;
                writer.flush()?;
            }
            // Comes every second, also when nothing is appended.
            Ok(_) if writer.is_abandoned() => return Err(Failure::quiet()),
            Ok(_) => {}
            Err(error) => {
                let next = tailer.next_offset();
                let failure = Failure::from(error);
                return Err(match next {
                    Some(next) => failure.at(format!("at offset {next}")),
                    None => failure,
                });
            }
        }
    }
    Ok(())
}

/// `--output json` means JSON records, unless another form was asked for.
fn show(asked: Option<Show>, output: Output) -> Show {
    asked.unwrap_or(if output.is_json() { Show::Json } else { Show::Value })
}

impl From<Consistency> for Level {
    fn from(level: Consistency) -> Self {
        match level {
            Consistency::Linearizable => Self::Linearizable,
            Consistency::Eventual => Self::Eventual,
            Consistency::Bounded(age) => Self::Bounded(age),
            Consistency::OfLog => Self::OfLog,
        }
    }
}

impl From<Consistency> for quorate_client::Consistency {
    fn from(level: Consistency) -> Self {
        Self::new(level.into())
    }
}

/// Who answered, and how fresh.
fn header_line(header: &ReadHeader, endpoint: &str) -> String {
    let age = match header.age_ms {
        Some(ms) => format!("at most {ms} ms old"),
        None => "of unknown age".into(),
    };
    let level = header.given.as_ref().map_or("an unknown level".into(), level);
    let method = match header.method() {
        ReadMethod::ReadIndex => "confirmed by a quorum",
        ReadMethod::Probe => "confirmed by a quorum through a probe",
        ReadMethod::Local | ReadMethod::Unspecified => "as it happened to be there",
    };
    format!(
        "node {} ({}, {}) answered from applied index {} of term {}, read at {level}: {age}, \
         {method}; the log has offsets {} to {}",
        header.served_by,
        role(header.role()),
        sdk::short(endpoint),
        units::grouped(header.applied_index),
        header.term,
        header.start_offset,
        header.next_offset,
    )
}

/// A role as people say it.
#[must_use]
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Unspecified => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto::v1::{self as wire, ReadLevel};

    use super::*;

    #[test]
    fn a_header() {
        let header = ReadHeader {
            served_by: 2,
            role: Role::Follower.into(),
            term: 3,
            applied_index: 12_345,
            age_ms: Some(12),
            method: ReadMethod::Probe.into(),
            start_offset: 5,
            next_offset: 9,
            given: Some(ReadLevel {
                level: wire::Level::Bounded.into(),
                max_staleness_ms: Some(500),
            }),
            ..Default::default()
        };
        assert_eq!(
            header_line(&header, "http://127.0.0.1:7102"),
            "node 2 (follower, 127.0.0.1:7102) answered from applied index 12,345 of term 3, read \
             at bounded:500ms: at most 12 ms old, confirmed by a quorum through a probe; the log has \
             offsets 5 to 9"
        );
    }
}
