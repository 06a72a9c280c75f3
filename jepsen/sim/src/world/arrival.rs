//! What was posted or sent arrives.

use super::{conn::break_after, current, enter, with};

/// Delivers everything that is due.
pub fn deliver() {
    loop {
        let due = with(|w| {
            let ((at, _), _) = w.queue.first_key_value()?;
            if *at > w.tick {
                return None;
            }
            let ((_, number), packet) = w.queue.pop_first().expect("looked at above");
            let presence = w.hosts.get(&packet.to).cloned().unwrap_or_default();
            if presence.paused_until.is_some() {
                // Its number keeps it in front of what was sent behind it on the same connection,
                // whenever the process goes on.
                w.queue.insert((w.tick + 1, number), packet);
                return Some(None);
            }
            let gone = !presence.up || packet.life.is_some_and(|life| life != presence.life);
            let between = packet.from != packet.to;
            let cut = between && w.link(packet.from, packet.to).cut;
            let broken =
                packet.conn.is_some_and(|conn| w.conns.get(&conn).is_none_or(|conn| conn.broken));
            if gone || cut || broken {
                w.traffic.lost += 1;
                // A process that is not there any more resets the connection, unless its machine is
                // gone as well.
                let soon = gone && !cut && presence.powered;
                let breaks = packet.conn.map(|conn| (conn, soon));
                return Some(Some((packet, breaks, false)));
            }
            w.traffic.delivered += u64::from(between);
            Some(Some((packet, None, true)))
        });
        match due {
            None => return,
            // Put back.
            Some(None) => {}
            Some(Some((packet, _, true))) => {
                let before = current();
                enter(packet.to);
                (packet.deliver)();
                enter(before);
            }
            Some(Some((packet, breaks, false))) => {
                match breaks {
                    Some((conn, true)) => break_after(conn, 1, 5),
                    Some((conn, false)) => break_after(conn, 1000, 3000),
                    None => {}
                }
                drop(packet);
            }
        }
    }
}
