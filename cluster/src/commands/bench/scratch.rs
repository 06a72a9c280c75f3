//! Logs that live as long as a measurement.

use quorate_client::Client;

use crate::{exit::Failure, output::Output};

/// Logs made for one measurement.
pub struct Scratch {
    client: Client,
    /// Their names.
    pub names: Vec<String>,
    keep: bool,
}

impl Scratch {
    /// Makes `count` logs of names that no other has.
    ///
    /// # Errors
    /// The cluster's refusal.
    pub async fn create(client: &Client, count: u32, keep: bool) -> Result<Self, Failure> {
        let run = uuid::Uuid::new_v4().simple().to_string();
        let names: Vec<String> = (0..count).map(|i| format!("bench/{}/{i}", &run[..8])).collect();
        for name in &names {
            client.create_log(name, false).await.map_err(Failure::from)?;
        }
        Ok(Self { client: client.clone(), names, keep })
    }

    /// Deletes them, unless they are to be kept. That one stays behind is no failure of the
    /// measurement, so it is only said.
    pub async fn clean_up(self, output: Output) {
        if self.keep {
            output.note(&format!("kept the logs {}", self.names.join(" ")));
            return;
        }
        for name in &self.names {
            if let Err(error) = self.client.delete_log(name, None).await {
                output.note(&format!("log {name} stays behind: {error}"));
            }
        }
    }
}
