//! Connections: what is sent on one in one direction arrives in order, or the connection breaks and both
//! its ends learn of it.

use std::{collections::BTreeMap, rc::Rc};

use super::{Deliver, HostId, Packet, WORLD, with};

/// A connection: what is sent in one direction arrives in order, or the connection breaks.
pub type ConnId = u64;

pub(super) struct Conn {
    pub(super) ends: [(HostId, u64); 2],
    /// Nothing is delivered any more.
    pub(super) broken: bool,
    /// When the last message in each direction arrives.
    pub(super) last: [u64; 2],
    /// How each end learns that it broke.
    on_break: [Vec<Deliver>; 2],
}

/// Opens a connection.
#[must_use]
pub fn open(from: HostId, to: HostId) -> ConnId {
    with(|w| {
        w.number += 1;
        let conn = Conn {
            ends: [(from, w.life(from)), (to, w.life(to))],
            broken: false,
            last: [0; 2],
            on_break: [Vec::new(), Vec::new()],
        };
        w.conns.insert(w.number, conn);
        w.number
    })
}

/// What the end at `host` does when the connection breaks.
pub fn on_break(conn: ConnId, host: HostId, what: impl FnOnce() + 'static) {
    with(|w| {
        if let Some(conn) = w.conns.get_mut(&conn) {
            let side = usize::from(conn.ends[0].0 != host);
            conn.on_break[side].push(Box::new(what));
        }
    });
}

/// Sends on a connection, from the end at `host`.
pub fn send(conn: ConnId, host: HostId, deliver: impl FnOnce() + 'static) {
    let lost = with(|w| {
        let Some(state) = w.conns.get(&conn).filter(|conn| !conn.broken) else { return false };
        let side = usize::from(state.ends[0].0 != host);
        let ((from, _), (to, life)) = (state.ends[side], state.ends[1 - side]);
        let cut = w.link(from, to).cut;
        let way = w.way(from, to);
        if cut {
            w.traffic.lost += 1;
            return true;
        }
        // What is lost on a connection is sent again after a while.
        let at = way.unwrap_or(w.tick + 200);
        let state = w.conns.get_mut(&conn).expect("looked up above");
        let at = at.max(state.last[side]);
        state.last[side] = at;
        let deliver = Box::new(deliver);
        w.push(at, Packet { from, to, life: Some(life), conn: Some(conn), deliver });
        false
    });
    if lost {
        // Both ends notice by their keep-alive.
        break_after(conn, 1000, 3000);
    }
}

/// Ends a connection in order: the other end learns of it.
pub fn close(conn: ConnId) {
    // Also called by what is dropped with the world.
    let there = WORLD.with(|world| world.try_borrow().is_ok_and(|world| world.is_some()));
    if there {
        break_after(conn, 1, 3);
    }
}

/// Nothing more gets through; the ends learn of it within so many ticks.
pub(super) fn break_after(conn: ConnId, least: u64, most: u64) {
    with(|w| {
        let Some(state) = w.conns.get_mut(&conn).filter(|conn| !conn.broken) else { return };
        state.broken = true;
        let (ends, hooks) = (state.ends, std::mem::take(&mut state.on_break));
        for ((host, life), hooks) in ends.into_iter().zip(hooks) {
            let at = w.tick + least + w.seed.below(most - least + 1);
            let deliver = Box::new(move || hooks.into_iter().for_each(|hook| hook()));
            w.push(at, Packet { from: host, to: host, life: Some(life), conn: None, deliver });
        }
    });
}

/// A process has died: its connections break, at once if its kernel is still there to say so.
pub fn lost_host(host: HostId, powered: bool) {
    let conns: Vec<ConnId> = with(|w| {
        let of_host = w.conns.iter().filter(|(_, c)| c.ends.iter().any(|(end, _)| *end == host));
        of_host.map(|(id, _)| *id).collect()
    });
    for conn in conns {
        if powered {
            break_after(conn, 1, 5);
        } else {
            break_after(conn, 1000, 3000);
        }
    }
    // Closures for the dead process hold its parts.
    let (dead, broken) = with(|w| {
        let keys: Vec<_> = w.queue.iter().filter(|(_, p)| p.to == host).map(|(k, _)| *k).collect();
        let dead: Vec<_> = keys.iter().filter_map(|key| w.queue.remove(key)).collect();
        let (broken, kept) =
            std::mem::take(&mut w.conns).into_iter().partition(|(_, conn)| conn.broken);
        w.conns = kept;
        let broken: Rc<BTreeMap<ConnId, Conn>> = Rc::new(broken);
        (dead, broken)
    });
    drop((dead, broken));
}
