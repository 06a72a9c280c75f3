//! The client API, call by call, against three real nodes.

mod answers;
mod appends;
mod cluster;
mod crowd;
mod different;
mod exactly_once;
mod failing_disk;
mod flushes;
mod forwarding;
mod fuzz;
mod levels;
mod lost_data;
mod many;
mod proxy;
mod reads;
mod tails;
mod truth;
mod unread;
mod watched;

use cluster::detail;
use quorate_proto::v1::{
    AppendConditions, AppendPart, AppendRequest, AppendResponse, Consistency, CreateLogRequest,
    ErrorKind, Level, ReadFrom, ReadRequest, ReadResponse, Record, RecordBatch,
    log_service_client::LogServiceClient, read_from::From,
};
use tonic::{Status, transport::Channel};

type Logs = LogServiceClient<Channel>;

fn records(values: &[&str]) -> Vec<Record> {
    values
        .iter()
        .map(|v| Record { value: v.as_bytes().to_vec().into(), ..Record::default() })
        .collect()
}

fn part(log: &str, values: &[&str], conditions: AppendConditions) -> AppendPart {
    AppendPart {
        log: log.to_owned(),
        records: records(values),
        conditions: Some(conditions),
        ..AppendPart::default()
    }
}

async fn append_if(
    logs: &mut Logs,
    log: &str,
    values: &[&str],
    conditions: AppendConditions,
) -> Result<AppendResponse, Status> {
    let request = AppendRequest { part: Some(part(log, values, conditions)), ack: 0 };
    Ok(logs.append(request).await?.into_inner())
}

async fn append(logs: &mut Logs, log: &str, values: &[&str]) -> AppendResponse {
    append_if(logs, log, values, AppendConditions::default()).await.expect("an append")
}

async fn create(logs: &mut Logs, log: &str) -> u64 {
    let request = CreateLogRequest { name: log.to_owned(), if_absent: false, ..Default::default() };
    logs.create_log(request)
        .await
        .expect("a new log")
        .into_inner()
        .log
        .expect("its info")
        .incarnation
}

async fn read(
    logs: &mut Logs,
    request: ReadRequest,
) -> Result<(Vec<String>, ReadResponse), Status> {
    let mut stream = logs.read(request).await?.into_inner();
    let mut values = Vec::new();
    let mut first = None;
    while let Some(message) = stream.message().await? {
        for stored in &message.batches {
            values.extend(visible(stored));
        }
        first.get_or_insert(message);
    }
    Ok((values, first.expect("the first message carries the header")))
}

fn visible(stored: &quorate_proto::v1::StoredBatch) -> Vec<String> {
    assert_eq!(crc32c::crc32c(&stored.batch), stored.batch_crc32c);
    let batch: RecordBatch = prost::Message::decode(&*stored.batch).expect("a batch");
    assert_eq!(batch.records.len() as u32, stored.count);
    let to = if stored.visible_to == 0 { u64::MAX } else { stored.visible_to };
    (stored.first_offset..)
        .zip(batch.records)
        .filter(|(offset, _)| (stored.visible_from..to).contains(offset))
        .map(|(_, r)| String::from_utf8(r.value.to_vec()).expect("text"))
        .collect()
}

fn from(log: &str, from: From) -> ReadRequest {
    ReadRequest {
        log: log.to_owned(),
        from: Some(ReadFrom { from: Some(from) }),
        ..Default::default()
    }
}

fn all(log: &str, level: Level) -> ReadRequest {
    let consistency = Some(Consistency { level: level.into(), ..Consistency::default() });
    ReadRequest { log: log.to_owned(), consistency, ..ReadRequest::default() }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    kind: ErrorKind,
) -> quorate_proto::v1::ErrorDetail {
    let status = result.expect_err("it must be refused");
    let detail = detail(&status);
    assert_eq!(detail.kind(), kind, "{detail:?}");
    assert!(!detail.message.is_empty());
    detail
}
