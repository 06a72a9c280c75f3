//! openraft adapters: type config, log store, state machine, settings.
pub mod types;
