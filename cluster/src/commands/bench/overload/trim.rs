//! Keeps the log short while it is appended to: a minute of all that nodes can take is more than a
//! small disk holds, three times.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quorate_client::Client;
use tokio::task::JoinHandle;

/// Between two trims: at the rates of one machine, some hundred megabytes.
const EVERY: Duration = Duration::from_secs(1);

/// Trims until it is dropped.
pub struct Trimmer {
    acknowledged: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Trimmer {
    /// Leaves the last `keep` records that were acknowledged.
    #[must_use]
    pub fn start(client: Client, log: String, keep: u64) -> Self {
        let (acknowledged, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (end, failures) = (acknowledged.clone(), failed.clone());
        let task = tokio::spawn(async move {
            let mut trimmed = 0;
            loop {
                tokio::time::sleep(EVERY).await;
                let to = end.load(Ordering::Relaxed).saturating_sub(keep);
                if to <= trimmed {
                    continue;
                }
                // Where too much is offered, a trim may fail as well: the next one does its work.
                match client.trim_log(&log, to, None).await {
                    Ok(_) => trimmed = to,
                    Err(_) => _ = failures.fetch_add(1, Ordering::Relaxed),
                }
            }
        });
        Self { acknowledged, failed, task }
    }

    /// Where answers tell how far the log goes.
    #[must_use]
    pub fn acknowledged(&self) -> Arc<AtomicU64> {
        self.acknowledged.clone()
    }

    /// Trims that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Trimmer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
