//! Deaths at the steps of the durability protocol.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use crate::world::{self, HostId};

thread_local! {
    /// Hosts that passed their crash point.
    pub(super) static DYING: RefCell<BTreeSet<HostId>> = const { RefCell::new(BTreeSet::new()) };
    static PASSED: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
    /// Who dies where, after passing it so many times.
    pub(super) static ARMED: Cell<Option<(HostId, &'static str, u32)>> = const { Cell::new(None) };
}

/// The host dies at the end of this tick.
pub fn die(id: HostId) {
    DYING.with_borrow_mut(|dying| dying.insert(id));
}

/// Unwinds out of a task of a node that dies.
struct Died;

/// How often each crash point was passed.
#[must_use]
pub fn passed() -> BTreeMap<&'static str, u64> {
    PASSED.with_borrow(Clone::clone)
}

pub(super) fn at_crash_point(point: &'static str) {
    let me = world::current();
    PASSED.with_borrow_mut(|passed| *passed.entry(point).or_default() += 1);
    if !DYING.with_borrow(|dying| dying.contains(&me)) {
        let Some((host, at, left)) = ARMED.get() else { return };
        if (host, at) != (me, point) {
            return;
        }
        if left > 0 {
            ARMED.set(Some((host, at, left - 1)));
            return;
        }
        ARMED.set(None);
        world::trace(format_args!("n{me} dies at {point}"));
        DYING.with_borrow_mut(|dying| dying.insert(me));
    }
    // Not a panic: nobody is to be told. Every task that comes to a crash point ends here.
    std::panic::resume_unwind(Box::new(Died));
}
