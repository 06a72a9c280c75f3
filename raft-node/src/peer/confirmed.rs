//! What a peer has confirmed to this leader, so that a peer that has lost some of it is noticed.
//!
//! Within one term of its leader a follower's log only grows: an entry that it confirmed is on its
//! disk. If it conflicts at such an entry later, its disk has lost what it had made durable. openraft
//! would send the same entries to it again at once, for ever, on the thread that all groups share;
//! and filling the gap up would hide that a voter has forgotten.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct State {
    /// The leader's, as of the last request.
    term: u64,
    /// The highest index confirmed in that term.
    index: Option<u64>,
    /// People were told.
    told: bool,
}

/// Of one peer and group. Clones share.
#[derive(Clone, Debug, Default)]
pub(super) struct Confirmed(Arc<Mutex<State>>);

/// A peer lacks what it had confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// The highest index that it had confirmed.
    pub confirmed: u64,
    /// Seen for the first time in this term.
    pub news: bool,
}

impl Confirmed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request of this term goes out. In another term the peer may have followed another leader
    /// in between: what it confirmed before need not be there any more.
    pub fn request(&self, term: u64) {
        let mut state = self.state();
        if state.term != term {
            *state = State { term, ..State::default() };
        }
    }

    /// The peer confirms everything up to `index`.
    pub fn matches(&self, index: u64) {
        let mut state = self.state();
        state.index = state.index.max(Some(index));
    }

    /// The peer has no such entry at `index`.
    pub fn conflicts(&self, index: u64) -> Result<(), Lost> {
        let mut state = self.state();
        match state.index {
            Some(confirmed) if index <= confirmed => {
                let news = !std::mem::replace(&mut state.told, true);
                Err(Lost { confirmed, news })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_confirmed_in_this_term_must_stay() {
        let confirmed = Confirmed::default();
        confirmed.request(3);
        // Looking for the point up to which the logs agree.
        assert_eq!(confirmed.conflicts(50), Ok(()));
        confirmed.matches(20);
        assert_eq!(confirmed.conflicts(35), Ok(()));
        confirmed.matches(30);
        confirmed.matches(25);
        assert_eq!(confirmed.conflicts(31), Ok(()));
        assert_eq!(confirmed.conflicts(30), Err(Lost { confirmed: 30, news: true }));
        assert_eq!(confirmed.conflicts(7), Err(Lost { confirmed: 30, news: false }));
        confirmed.request(3);
        assert_eq!(confirmed.conflicts(30), Err(Lost { confirmed: 30, news: false }));
        // It may have followed another leader, who had other entries.
        confirmed.request(5);
        assert_eq!(confirmed.conflicts(30), Ok(()));
    }
}
