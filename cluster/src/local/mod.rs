//! Servers as processes of this machine, for as long as a measurement or a test lasts.
//!
//! Used by `quorate bench compare`, which starts other systems beside Quorate, and by the tests of
//! this crate. [`ports`] finds addresses, [`process`] starts, watches and ends,
//! [`metrics`] asks a node for its own figures.

pub mod metrics;
pub mod ports;
pub mod process;
