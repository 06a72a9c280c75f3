//! `quorate bench`: one load generator for every load, so that figures can be compared.
//!
//! [`load`] runs clients and counts, [`report`] sums up, [`plan`] holds the settings, [`scratch`]
//! makes the logs; `append` (with `stream`) and `read` are the loads; `etcd`, `nats` and `redis` are
//! the same for other systems, and `disk` for none; `compare` runs them side by side.
//!
//! Loads that look into nodes or end them start three of their own ([`here`], [`systems`]):
//! `overload`, `failover`, `fanout`, `cost`, `restart`, `soak`, `levels`. [`pace`] is for loads that
//! do not wait for answers, [`memory`] and [`spread`] sum up.

mod append;
mod compare;
mod connect;
mod cost;
mod disk;
mod etcd;
mod failover;
mod fanout;
mod here;
mod levels;
mod load;
mod memory;
mod nats;
mod overload;
mod pace;
mod payload;
mod plan;
mod read;
mod redis;
mod report;
mod restart;
mod scratch;
mod soak;
mod spread;
mod stream;
mod systems;

use self::plan::Plan;
use crate::{
    args::{BenchArgs, BenchCommand, Global},
    exit::Failure,
    output::Output,
    sdk,
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
        BenchCommand::Read {
            load,
            mode,
            batch,
            records,
            stored_batch,
            consistency,
            node,
            keep,
        } => {
            let shape = read::Shape {
                mode: *mode,
                batch: *batch,
                records: *records,
                stored_batch: *stored_batch,
                consistency: *consistency,
                node: node.as_deref().map(sdk::endpoint).transpose()?,
                keep: *keep,
            };
            read::run(&plan(load)?, load, &shape, output).await
        }
        BenchCommand::EtcdPut { load, keys } => etcd::put(&plan(load)?, load, keys, output).await,
        BenchCommand::EtcdRange { load, keys, serializable } => {
            etcd::range(&plan(load)?, load, keys, *serializable, output).await
        }
        BenchCommand::NatsPublish { load, replicas } => {
            nats::run(&plan(load)?, load, *replicas, output).await
        }
        BenchCommand::RedisXadd { load, wait } => {
            redis::run(&plan(load)?, load, *wait, output).await
        }
        BenchCommand::Compare(args) => compare::run(args, output).await,
        BenchCommand::Failover(args) => failover::run(args, output).await,
        BenchCommand::Cost(args) => cost::run(args, output).await,
        BenchCommand::Fanout(args) => fanout::run(args, output).await,
        BenchCommand::Restart(args) => restart::run(args, output).await,
        BenchCommand::Soak(args) => soak::run(args, output).await,
        BenchCommand::Levels(args) => levels::run(args, output).await,
        BenchCommand::Overload(args) => overload::run(args, output).await,
        BenchCommand::Disk { load, dir } => disk::run(&plan(load)?, load, dir, output).await,
    }
}
