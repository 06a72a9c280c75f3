//! What is different when nodes run on hosts of the user's: whether they can be called at all, and what
//! becomes of their data.

use anyhow::Result;

use super::{Between, Cluster};

impl Cluster {
    /// Of a run that is not valid: the next one, and the end of the runner, empty the folders.
    pub(super) fn keep_data_on_hosts(&self) {
        let Between::Fleet(fleet) = &self.settings.network else { return };
        if self.data_is_away || self.finished {
            return;
        }
        let run = self.dir.file_name().map(|name| name.to_string_lossy().into_owned());
        for kept in fleet.keep_data(&run.unwrap_or_default()) {
            match kept {
                Ok(place) => eprintln!("data stays in {place}"),
                Err(why) => eprintln!("no data could be kept: {why}"),
            }
        }
    }

    /// Makes sure that a cluster on hosts of the user's is not kept apart by a firewall.
    ///
    /// # Errors
    /// It is, or a node does not listen in time.
    pub fn check_reach(&self) -> Result<()> {
        match &self.settings.network {
            Between::Fleet(fleet) => Ok(fleet.reachable(self.settings.nodes)?),
            _ => Ok(()),
        }
    }
}
