//! The real command line against real nodes: what people type, what they get to see, and how it
//! ends. Each test has a cluster of its own, which ends with it.

mod append;
mod bench;
mod cluster;
mod commands;
mod endings;
mod examples;
mod member;
mod scripts;
mod terminal;
