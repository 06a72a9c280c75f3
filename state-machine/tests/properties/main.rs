//! Properties of the state machine under random streams of commands, and of everything that reads
//! bytes under random damage.

mod damage;
mod divergence;
mod model;
mod reads;
mod replicas;
mod stream;
mod truth;
