//! openraft adapters: type config, log store, state machine, settings.
pub mod settings;
pub mod snapshot_data;
pub mod types;
