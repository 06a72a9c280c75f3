//! openraft adapters: type config, log store, state machine, settings.
pub mod catching_up;
pub mod compaction;
pub mod generations;
pub mod group;
pub mod log_storage;
pub mod members;
pub mod one_history;
pub mod settings;
pub mod snapshot_data;
pub mod state_machine;
pub mod types;
