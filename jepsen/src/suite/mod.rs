//! The suite that the `jepsen` program runs: options, runs, their store and their results.

pub mod again;
pub mod backend;
pub mod counterpart;
pub mod coverage;
pub mod doctor;
pub mod drive;
pub mod exit;
pub mod hosts;
pub mod lines;
pub mod mutant_table;
pub mod mutants;
pub mod nightly;
pub mod options;
pub mod results;
pub mod scenarios;
pub mod serve;
pub mod settings;
pub mod sides;
pub mod store;
pub mod summary;
pub mod timeline;
