//! The client against scripted nodes on 127.0.0.1: honest about what a log means, and faulty
//! exactly where a test says so.

mod calls;
mod cluster;
mod producer;
mod reads;
mod service;
mod state;
