//! The condition of one directed link, and what it did.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What happens to bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// They pass.
    #[default]
    Open,
    /// They wait, as when packets are dropped.
    Hold,
    /// They wait, and when the gate changes their connection is reset: they never arrive.
    Lose,
    /// Their connection is reset, as by a firewall that rejects.
    Reset,
}

/// How good a link is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// From the caller to the called.
    pub calls: Gate,
    /// Back.
    pub replies: Gate,
    /// Each way takes so much longer.
    pub delay: Duration,
    /// And up to so much more, at random, in order.
    pub jitter: Duration,
    /// Bytes a second, each way; 0 for no limit.
    pub bytes_per_s: u64,
}

/// What a condition has done, in chunks of bytes as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Passed.
    pub passed: u64,
    /// Found the gate closed and had to wait, calls.
    pub held_calls: u64,
    /// Found the gate closed and had to wait, replies.
    pub held_replies: u64,
    /// Were delayed or slowed.
    pub delayed: u64,
    /// Connections reset or refused.
    pub reset: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub passed: AtomicU64,
    pub held_calls: AtomicU64,
    pub held_replies: AtomicU64,
    pub delayed: AtomicU64,
    pub reset: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Link {
    condition: watch::Sender<Condition>,
    pub counters: Counters,
}

impl Default for Link {
    fn default() -> Self {
        Self { condition: watch::Sender::new(Condition::default()), counters: Counters::default() }
    }
}

impl Link {
    pub(super) fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }

    pub(super) fn watch(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    pub(super) fn traffic(&self) -> Traffic {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        Traffic {
            passed: get(&c.passed),
            held_calls: get(&c.held_calls),
            held_replies: get(&c.held_replies),
            delayed: get(&c.delayed),
            reset: get(&c.reset),
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Calls,
    Replies,
}

impl Condition {
    pub(super) fn gate(&self, way: Way) -> Gate {
        match way {
            Way::Calls => self.calls,
            Way::Replies => self.replies,
        }
    }

    pub(super) fn is_reset(&self) -> bool {
        self.calls == Gate::Reset || self.replies == Gate::Reset
    }
}
