//! The Rust client of Quorate.
//!
//! ```no_run
//! use quorate_client::{Client, Consistency};
//!
//! # async fn tour() -> Result<(), quorate_client::Error> {
//! let client = Client::builder().endpoints(["127.0.0.1:7101", "127.0.0.1:7102"]).build()?;
//! client.create_log("orders", true).await?;
//!
//! // Exactly once; concurrent calls are packed and pipelined together.
//! let appended = client.append("orders", ["first", "second"]).await?;
//!
//! // Any replica; at least what was just appended.
//! let consistency = Consistency::eventual().at_least(appended.position);
//! let mut reader = client.read("orders").consistency(consistency).open().await?;
//! while let Some(batch) = reader.next_batch().await? {
//!     for record in batch.records() {
//!         let record = record?;
//!         println!("{} {:?}", record.offset, record.record.value);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Which way to append
//!
//! - [`Client::append`]: the default. Exactly once, through a [`Producer`] that all callers share.
//! - [`Producer`]: one writer's records in order, many in flight; under a writer epoch
//!   ([`ProducerBuilder::writer_epoch`]), or such that a crashed writer can begin again from the
//!   start ([`ProducerBuilder::resume`], [`Producer::append_batch`]).
//! - [`Client::append_with`]: one call, under conditions that are judged in the moment it takes
//!   effect ([`AppendOptions`]). [`Client::append_multi`]: the same for several logs at once.
//!
//! ```no_run
//! # use quorate_client::{Client, Effect};
//! # async fn pipelined(client: Client) -> Result<(), quorate_client::Error> {
//! let producer = client.producer("orders").open().await?;
//! let mut tickets = Vec::new();
//! for n in 0..1000 {
//!     // Waits only while too many bytes are in flight.
//!     tickets.push(producer.append([format!("order {n}")]).await?);
//! }
//! for ticket in tickets {
//!     match ticket.await {
//!         Ok(appended) => assert!(appended.next_offset > appended.first_offset),
//!         // A producer that fails, fails for good; each ticket says what became of its records.
//!         Err(error) if error.effect() == Effect::None => println!("not appended: {error}"),
//!         Err(error) => println!("perhaps appended: {error}"),
//!     }
//! }
//! producer.close().await
//! # }
//! ```
//!
//! `examples/` has whole programs: appending under conditions, moving a file exactly once, a tail
//! that goes on after a restart, a fenced writer, reading from any replica with a proven age.
//!
//! # What can be relied on
//!
//! - Every [`Error`] says what became of the call ([`Effect`]) and whether trying again makes
//!   sense. Nothing is retried behind the caller's back unless it had no effect, or repeating it
//!   is harmless.
//! - A [`Reader`] yields exactly what it was opened for, a [`Tailer`] every record once and in
//!   order, whatever happens to their streams.
//! - Offsets, sequences, epochs and terms are plain `u64` in this API, always under their own
//!   name: callers compute with them and store them. What must not be computed with
//!   ([`Position`], [`ProducerId`]) has a type.
//!
//! # Map
//!
//! | file | what |
//! |---|---|
//! | `client`, `call` | settings; the loop of attempts |
//! | `retry` (pure), `routing` | whether, when and where to try again; who leads |
//! | `replicas`, `hedge` (pure) | which replica reads go to; second tries |
//! | `transport` | the seam to the network; `runtime`: the seam to tasks and time |
//! | `errors`, `position`, `consistency` | vocabulary |
//! | `batch` | records to bytes, once, and back without copies |
//! | `logs`, `append`, `admin` | calls one at a time |
//! | `producer` | appends in order and exactly once, many in flight |
//! | `stored`, `cursor` (pure), `feed` | batches as they come back; keeping them dense; repairing streams |
//! | `reader`, `tailer` | reading to the end; following |
//! | `session` | reading one's own writes, on any replica; tokens |

mod admin;
mod append;
mod arrival;
mod batch;
mod call;
mod client;
mod consistency;
mod cursor;
mod errors;
mod feed;
mod hedge;
mod logs;
mod position;
mod producer;
mod reader;
mod replicas;
mod retry;
mod routing;
mod runtime;
mod session;
mod stored;
mod tailer;
mod transport;

pub use admin::{
    Admin, BatchDigest, DigestAtResponse, DiskStatus, GroupStatus, LogDigest, MarkDigestResponse,
    Member, Members, ReplicaProgress, StatusResponse,
};
pub use append::{AppendOptions, AppendPart, Appended, IntoBatch};
pub use batch::{
    Batch, BatchBuilder, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_HEADER_BYTES, MAX_HEADERS,
    MAX_KEY_BYTES, MAX_RECORD_BYTES, Record,
};
pub use client::{Client, ClientBuilder};
pub use consistency::{Consistency, Level, OnUnmet};
pub use errors::{Effect, Error, ErrorKind, Leader, Result, Stamp};
pub use hedge::Hedging;
pub use logs::{CreatedLog, Fenced, LogInfo, LogsPage, ReadHeader, Trimmed};
pub use position::{NotHex, Position, ProducerId};
pub use producer::{AppendTicket, MAX_BATCHES_IN_FLIGHT, Producer, ProducerBuilder};
pub use reader::{Read, Reader};
pub use replicas::Route;
pub use retry::RetryPolicy;
pub use session::{BadSession, Session, SessionToken};
pub use stored::{ReadBatch, ReadRecord, ReadRecords};
pub use tailer::{Tail, TailEvent, Tailer};
pub use transport::{Answers, Endpoint, GrpcTransport, Requests, Transport};
