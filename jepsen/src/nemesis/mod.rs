//! Faults: as data ([`fault`]), in time ([`schedule`]), and done to a cluster ([`inject`],
//! with `links` for those of the network, [`members`] for those who are in it, and [`effect`] for what came of it).

mod again;
pub mod effect;
pub mod fault;
pub mod inject;
mod links;
pub mod members;
mod rot;
pub mod schedule;
pub mod shape;
