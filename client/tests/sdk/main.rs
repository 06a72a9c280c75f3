//! The client against scripted nodes on 127.0.0.1: honest about what a log means, and faulty
//! exactly where a test says so.

#![allow(clippy::result_large_err, reason = "errors here are the wire's, passed on as they are")]
#![allow(clippy::large_enum_variant, reason = "a handful live at a time")]

mod ages;
mod calls;
mod cluster;
mod lanes;
mod producer;
mod reads;
mod replicas;
mod routes;
mod service;
mod session;
mod state;
