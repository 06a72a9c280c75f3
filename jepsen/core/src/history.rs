//! Events as JSON lines, and their pairing into operations.
//!
//! A history is written while it happens, one line an event, so that a run that dies leaves all it
//! saw. Times in it are of the one runner's clock; the order of lines means nothing.

use std::{
    collections::HashMap,
    io::{self, BufRead, Write},
};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Moment, OpId, Process},
    op::{Answer, Asked, Call, Claim, Identity, Op, ReplicaDigest, ReplicaLog},
};

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Where the history comes from.
    Run {
        /// What was run.
        name: String,
        /// The seed everything random was drawn from.
        seed: u64,
    },
    /// A call was made.
    Invoke {
        /// The operation.
        op: OpId,
        /// Who called.
        process: Process,
        /// When.
        at: Moment,
        /// What was asked.
        call: Call,
    },
    /// Its answer came.
    Return {
        /// The operation.
        op: OpId,
        /// When.
        at: Moment,
        /// What came back.
        answer: Answer,
    },
    /// To whom a read was sent.
    Asked(Asked),
    /// Which incarnation of a log a call was about.
    Identity(Identity),
    /// What a read promised.
    Claim(Claim),
    /// How wrong the nodes' clocks may have run, in millionths; not at all if there is no such line.
    Clocks {
        /// At most by this.
        error_ppm: u64,
    },
    /// Something was done to the cluster, in words for people.
    Fault {
        /// When.
        at: Moment,
        /// What.
        what: String,
    },
    /// What one replica serves of one log after the run.
    Replica(ReplicaLog),
    /// What one replica's digest is after the run.
    Digest(ReplicaDigest),
    /// How many replicas must have been read back for the history to be judged at all.
    Expect {
        /// The number of replicas.
        replicas: usize,
    },
}

/// A whole history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// What was run, for reports.
    pub name: String,
    /// The seed of the run.
    pub seed: u64,
    /// All operations, by invocation.
    pub ops: Vec<Op>,
    /// To whom reads were sent.
    pub asked: Vec<Asked>,
    /// Which incarnations of their logs calls were about.
    pub identities: Vec<Identity>,
    /// What reads promised.
    pub claims: Vec<Claim>,
    /// The nodes' clocks ran wrong by at most so many millionths.
    pub clock_error_ppm: u64,
    /// Faults, as told.
    pub faults: Vec<(Moment, String)>,
    /// The replicas' final logs.
    pub replicas: Vec<ReplicaLog>,
    /// The replicas' final digests.
    pub digests: Vec<ReplicaDigest>,
    /// How many replicas had to be read back.
    pub expected_replicas: usize,
}

/// A history that cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Reading or writing failed.
    #[error("history: {0}")]
    Io(#[from] io::Error),
    /// A line is no event.
    #[error("history, line {line}: {source}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// Two calls with one name, or an answer to no call, or two answers.
    #[error("history: operation {0} is invoked or answered twice, or answered without a call")]
    Unpaired(OpId),
}

impl History {
    /// Pairs calls with answers.
    ///
    /// # Errors
    /// [`HistoryError::Unpaired`].
    pub fn from_events(events: impl IntoIterator<Item = Event>) -> Result<Self, HistoryError> {
        let mut history = Self::default();
        let mut ops: HashMap<OpId, Op> = HashMap::new();
        let mut answers: HashMap<OpId, (Moment, Answer)> = HashMap::new();
        for event in events {
            match event {
                Event::Run { name, seed } => (history.name, history.seed) = (name, seed),
                Event::Invoke { op: id, process, at, call } => {
                    let answer = Answer::Unknown { kind: "no answer".to_owned() };
                    let op = Op { id, process, invoked: at, returned: None, call, answer };
                    if ops.insert(id, op).is_some() {
                        return Err(HistoryError::Unpaired(id));
                    }
                }
                Event::Return { op, at, answer } => {
                    if answers.insert(op, (at, answer)).is_some() {
                        return Err(HistoryError::Unpaired(op));
                    }
                }
                Event::Asked(asked) => history.asked.push(asked),
                Event::Identity(identity) => history.identities.push(identity),
                Event::Claim(claim) => history.claims.push(claim),
                Event::Clocks { error_ppm } => history.clock_error_ppm = error_ppm,
                Event::Fault { at, what } => history.faults.push((at, what)),
                Event::Replica(replica) => history.replicas.push(replica),
                Event::Digest(digest) => history.digests.push(digest),
                Event::Expect { replicas } => history.expected_replicas = replicas,
            }
        }
        for (id, (at, answer)) in answers {
            let op = ops.get_mut(&id).ok_or(HistoryError::Unpaired(id))?;
            (op.returned, op.answer) = (Some(at), answer);
        }
        history.ops = ops.into_values().collect();
        history.ops.sort_by_key(|op| (op.invoked, op.id));
        Ok(history)
    }

    /// Reads JSON lines.
    ///
    /// # Errors
    /// All of [`HistoryError`].
    pub fn read(from: impl BufRead) -> Result<Self, HistoryError> {
        let mut events = Vec::new();
        for (number, line) in from.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            events.push(
                serde_json::from_str(&line)
                    .map_err(|source| HistoryError::Line { line: number + 1, source })?,
            );
        }
        Self::from_events(events)
    }

    /// The events this history is made of.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Run { name: self.name.clone(), seed: self.seed }];
        for op in &self.ops {
            events.push(Event::Invoke {
                op: op.id,
                process: op.process,
                at: op.invoked,
                call: op.call.clone(),
            });
            if let Some(at) = op.returned {
                events.push(Event::Return { op: op.id, at, answer: op.answer.clone() });
            }
        }
        events.extend(self.asked.iter().cloned().map(Event::Asked));
        events.extend(self.identities.iter().cloned().map(Event::Identity));
        events.extend(self.claims.iter().cloned().map(Event::Claim));
        if self.clock_error_ppm > 0 {
            events.push(Event::Clocks { error_ppm: self.clock_error_ppm });
        }
        let faults = self.faults.iter().cloned();
        events.extend(faults.map(|(at, what)| Event::Fault { at, what }));
        events.push(Event::Expect { replicas: self.expected_replicas });
        events.extend(self.replicas.iter().cloned().map(Event::Replica));
        events.extend(self.digests.iter().cloned().map(Event::Digest));
        events
    }

    /// Writes JSON lines.
    ///
    /// # Errors
    /// Whatever the writer fails with.
    pub fn write(&self, mut to: impl Write) -> Result<(), HistoryError> {
        for event in self.events() {
            write_event(&mut to, &event)?;
        }
        Ok(())
    }
}

/// Writes one line.
///
/// # Errors
/// Whatever the writer fails with.
pub fn write_event(mut to: impl Write, event: &Event) -> Result<(), HistoryError> {
    serde_json::to_writer(&mut to, event).map_err(io::Error::from)?;
    to.write_all(b"\n")?;
    Ok(())
}
