//! Faults: as data ([`fault`]), in time ([`schedule`]), and done to a cluster ([`inject`]).

pub mod fault;
pub mod inject;
pub mod schedule;
