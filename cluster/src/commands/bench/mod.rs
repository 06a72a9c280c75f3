//! `quorate bench`: one load generator for every load, so that figures can be compared.
//!
//! [`load`] runs clients and counts, [`report`] sums up, [`plan`] holds the settings, [`scratch`]
//! makes the logs; `append` (with `stream`), `read` and `etcd` are the loads.

mod append;
mod connect;
mod etcd;
mod load;
mod payload;
mod plan;
mod read;
mod report;
mod scratch;
mod stream;

use self::plan::Plan;
use crate::{
    args::{BenchArgs, BenchCommand, Global},
    exit::Failure,
    output::Output,
};

/// Measures.
///
/// # Errors
/// When the system under load cannot be reached or keeps failing.
pub async fn run(args: &BenchArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let plan = |load| Plan::new(load, global);
    match &args.command {
        BenchCommand::Append { load, mode, batch, in_flight, logs, keep } => {
            let shape = append::Shape {
                mode: *mode,
                batch: *batch,
                in_flight: *in_flight,
                logs: *logs,
                keep: *keep,
            };
            append::run(&plan(load)?, load, &shape, output).await
        }
        BenchCommand::Read { load, batch, records, consistency, keep } => {
            let shape = read::Shape {
                batch: *batch,
                records: *records,
                consistency: *consistency,
                keep: *keep,
            };
            read::run(&plan(load)?, load, &shape, output).await
        }
        BenchCommand::EtcdPut { load, keys } => etcd::put(&plan(load)?, load, keys, output).await,
        BenchCommand::EtcdRange { load, keys, serializable } => {
            etcd::range(&plan(load)?, load, keys, *serializable, output).await
        }
    }
}
