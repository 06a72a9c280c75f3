//! Sessions: reading one's own writes, and never going back in time, on whatever replica.
//!
//! - `frontier` (pure): how far a session has seen
//! - `token` (pure): the same as text, for cookies and messages

mod frontier;
mod token;

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard},
};

pub use token::BadSession;

use crate::{
    append::{AppendOptions, Appended, IntoBatch},
    client::Client,
    consistency::{Consistency, Level},
    errors::{Error, ErrorKind, Result},
    logs::{LogInfo, ReadHeader},
    position::Position,
    reader::Read,
    tailer::Tail,
};
use frontier::{Frontier, Needs, Seen};

/// What a session has seen, as a value: text that fits into a cookie or a message header. Whoever
/// goes on with it ([`Client::resume_session`], [`Session::join`]) sees at least as much.
///
/// It holds names of logs and positions, no secrets; it is not signed. A forged one is refused by
/// the nodes ([`ErrorKind::BadPosition`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionToken(Frontier);

impl fmt::Display for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&token::encode(&self.0))
    }
}

impl FromStr for SessionToken {
    type Err = BadSession;

    fn from_str(text: &str) -> Result<Self, BadSession> {
        token::decode(text).map(Self)
    }
}

/// A caller's own thread through time: what it reads reflects everything that it appended and read
/// before, in all logs, whichever replicas answer. Clones are the same session.
///
/// Reads are [`Level::Eventual`] unless told otherwise, so any replica can serve them; one that is
/// behind waits until it has caught up. Two sessions know nothing of each other: hand a
/// [`SessionToken`] over to make what one did visible to the other.
#[derive(Clone)]
pub struct Session {
    client: Client,
    seen: Arc<Mutex<Frontier>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("seen", &*self.seen()).finish_non_exhaustive()
    }
}

impl Client {
    /// A new session, which has seen nothing.
    #[must_use]
    pub fn session(&self) -> Session {
        Session { client: self.clone(), seen: Arc::default() }
    }

    /// A session that goes on where another one was, perhaps in another process.
    #[must_use]
    pub fn resume_session(&self, token: &SessionToken) -> Session {
        let session = self.session();
        session.join(token);
        session
    }
}

impl Session {
    fn seen(&self) -> MutexGuard<'_, Frontier> {
        self.seen.lock().expect("nothing panics while holding it")
    }

    /// What it has seen so far.
    #[must_use]
    pub fn token(&self) -> SessionToken {
        SessionToken(self.seen().clone())
    }

    /// From now on it sees at least what the other session had seen, besides.
    pub fn join(&self, token: &SessionToken) {
        self.seen().join(&token.0);
    }

    /// Forgets a log: after it was deleted, reads of a new one under its name are refused until
    /// then, because what was seen is gone. What was seen of other logs, and how far the log's group
    /// had come, stays.
    pub fn forget(&self, log: &str) {
        self.seen().forget(log);
    }

    /// An append that was made otherwise, by a [`Producer`](crate::Producer) for example, counts as
    /// the session's own.
    pub fn observe(&self, log: &str, appended: &Appended) {
        if let Some(stamp) = &appended.stamp {
            let seen = Seen {
                group: stamp.group,
                log_index: stamp.log_index,
                incarnation: appended.incarnation,
                position: appended.position.clone(),
            };
            self.seen().observe(log, seen);
        }
    }

    /// [`Client::append`].
    ///
    /// # Errors
    /// As there.
    pub async fn append(&self, log: &str, records: impl IntoBatch) -> Result<Appended> {
        let appended = self.client.append(log, records).await?;
        self.observe(log, &appended);
        Ok(appended)
    }

    /// [`Client::append_with`].
    ///
    /// # Errors
    /// As there.
    pub async fn append_with(
        &self,
        log: &str,
        batch: impl IntoBatch,
        options: &AppendOptions,
    ) -> Result<Appended> {
        let appended = self.client.append_with(log, batch, options).await?;
        self.observe(log, &appended);
        Ok(appended)
    }

    /// [`Client::read`], from any replica, within this session.
    pub fn read(&self, log: &str) -> Read {
        self.client.read(log).consistency(Consistency::eventual()).within(self)
    }

    /// [`Client::tail`], from any replica, within this session.
    pub fn tail(&self, log: &str) -> Tail {
        self.client.tail(log).consistency(Consistency::eventual()).within(self)
    }

    /// [`Client::describe_log`] within this session.
    ///
    /// # Errors
    /// As there, and [`BadPosition`](ErrorKind::BadPosition) when what was seen is gone.
    pub async fn describe_log(
        &self,
        name: &str,
        consistency: &Consistency,
    ) -> Result<(LogInfo, ReadHeader)> {
        let mut reading = Reading::new(Some(self), name, consistency);
        loop {
            match self.client.describe_log(name, reading.asks()).await {
                Ok((info, header)) => {
                    reading.answered(&header);
                    return Ok((info, header));
                }
                Err(error) => reading.refused(error).await?,
            }
        }
    }

    /// The header of an answer about `log`.
    pub(crate) fn saw(&self, log: &str, header: &ReadHeader) {
        let seen = Seen {
            group: header.group,
            log_index: header.applied_index,
            incarnation: header.incarnation,
            position: Position::from_bytes(header.position.clone()),
        };
        self.seen().observe(log, seen);
    }

    /// An answer about `log` that goes on: a later point, in the words of `header`.
    pub(crate) fn reached(&self, log: &str, header: &ReadHeader, at: (u64, Position)) {
        let ((log_index, position), incarnation) = (at, header.incarnation);
        self.seen().observe(log, Seen { group: header.group, log_index, incarnation, position });
    }

    /// Is the log that was seen gone, or another one by now?
    async fn is_deleted(&self, log: &str, seen: &Seen) -> Result<bool> {
        if seen.incarnation == 0 {
            // A point of the group: no log goes away with it.
            return Ok(false);
        }
        match self.client.describe_log(log, &Consistency::linearizable()).await {
            Ok((info, _)) => Ok(info.incarnation != seen.incarnation),
            Err(error) if error.kind() == ErrorKind::LogNotFound => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// A read about to be made, within a session or not: what it asks for.
pub(crate) struct Reading<'a> {
    session: Option<&'a Session>,
    log: &'a str,
    /// What was seen of the log itself is in it.
    own: Consistency,
    /// What was seen of others.
    foreign: Vec<(String, Seen)>,
    /// Of those, the logs that turned out to be deleted, with their groups.
    deleted: Vec<(String, u32)>,
    asks: Consistency,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(session: Option<&'a Session>, log: &'a str, asked: &Consistency) -> Self {
        let Needs { own, foreign } = session.map(|s| s.seen().needs(log)).unwrap_or_default();
        let own = own.into_iter().fold(asked.clone(), Consistency::at_least);
        let seen = foreign.iter().map(|(_, seen)| seen.position.clone());
        let asks = seen.fold(own.clone(), Consistency::at_least);
        Self { session, log, own, foreign, deleted: Vec::new(), asks }
    }

    /// What to ask for.
    pub(crate) fn asks(&self) -> &Consistency {
        &self.asks
    }

    /// It was answered.
    pub(crate) fn answered(&self, header: &ReadHeader) {
        let Some(session) = self.session else { return };
        session.saw(self.log, header);
        // Only now, and only of this group: until a read has made up for it, what was seen in them
        // must not get lost.
        for (log, _) in self.deleted.iter().filter(|(_, group)| *group == header.group) {
            session.seen().forget(log);
        }
    }

    /// It was refused: with another question it may not be. Otherwise, that is the answer.
    pub(crate) async fn refused(&mut self, error: Error) -> Result<()> {
        let foreign = std::mem::take(&mut self.foreign);
        let Some(session) = self.session else { return Err(error) };
        if let Some(header) = error.read_header() {
            // A state was seen in which it is not there: that, too, is not taken back.
            let (log_index, position) = (header.applied_index, header.position.clone());
            let position = Position::from_bytes(position);
            let (group, incarnation) = (header.group, header.incarnation);
            session.seen().reached(self.log, Seen { group, log_index, incarnation, position });
        }
        if error.kind() != ErrorKind::BadPosition || foreign.is_empty() {
            return Err(error);
        }
        // Another log that was seen may have been deleted since. Then a linearizable read is as
        // good: it reflects all that anybody has seen before, without naming it.
        let mut asks = self.own.clone().with_level(Level::Linearizable);
        for (log, seen) in foreign {
            if session.is_deleted(&log, &seen).await? {
                self.deleted.push((log, seen.group));
            } else {
                asks = asks.at_least(seen.position);
            }
        }
        self.asks = asks;
        if self.deleted.is_empty() { Err(error) } else { Ok(()) }
    }
}
