//! One flag that closes once: when the node begins to stop.

use tokio::sync::watch;

/// Cheap to clone; all clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    closed: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { closed: watch::Sender::new(false) }
    }
}

impl Gate {
    /// Closes it, for ever.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// True once it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until it is closed.
    pub async fn closed(&self) {
        let mut receiver = self.closed.subscribe();
        receiver.wait_for(|closed| *closed).await.expect("the gate itself holds the sender");
    }
}
