//! What a node tells its operator: metrics, probes, logs, and the code it exits with.
//!
//! - `metrics`: one table of names; counters and histograms that the hot paths touch; values that
//!   are asked for when somebody scrapes.
//! - `health`: what the probes ask of a running node.
//! - `http`: `/metrics`, `/livez`, `/readyz`, `/leader`.
//! - `logging`: log lines to stderr; `panic`: what happens when a task or thread panics.
//! - `exit`: exit codes.
//!
//! Nothing here decides anything about the data: the rest of the crate works the same when nobody
//! looks.
pub mod exit;
pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod panic;

pub use metrics::Metrics;
