//! `quorate bench`: one load generator for every load, so that figures can be compared.
//!
//! [`load`] runs clients and counts, [`report`] sums up, [`plan`] holds the settings; `append`,
//! `read` and `etcd` are the loads.

mod connect;
mod etcd;
mod load;
mod payload;
mod plan;
mod report;

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
    let plan = |load| Plan::new(load, &global.endpoints);
    match &args.command {
        BenchCommand::EtcdPut { load, keys } => etcd::put(&plan(load)?, load, keys, output).await,
        BenchCommand::EtcdRange { load, keys, serializable } => {
            etcd::range(&plan(load)?, load, keys, *serializable, output).await
        }
        _ => Err(Failure::refused("later")),
    }
}
