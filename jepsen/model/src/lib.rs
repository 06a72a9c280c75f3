//! An explicit-state model of proven age (docs/life-of-a-read.md), small enough to search whole.
//!
//! Three nodes; node [`READER`] answers reads from what it has applied. Raft itself is taken for
//! granted, at the grain that matters here: an append is acknowledged by a quorum that is not ahead
//! of the leader's term; a new leader needs the votes of a quorum and then knows everything
//! acknowledged; an old leader does not know that it is old. Messages of the read protocol may be
//! delayed, reordered, duplicated and lost. Nodes may be paused and partitioned in any direction:
//! both are the same as messages that take long. The reader may restart.
//!
//! The claim, checked in every reachable state: if the reader may state the age `now − sent`, then
//! it has applied every append that was acknowledged before `sent`.
//!
//! Each [`Mistake`] is a plausible shortcut; the search must find a counterexample for each.

use std::collections::BTreeSet;

use stateright::{Model, Property};

/// Number of nodes.
pub const NODES: usize = 3;

/// The replica that serves reads.
pub const READER: usize = 2;

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// None: the protocol as built.
    None,
    /// Age from the last contact: the answer's arrival counts instead of the probe's departure.
    StampedOnArrival,
    /// The leader answers from its own commit index without asking its quorum: "I am the leader".
    LeaderExempt,
    /// A confirmation round survives a change of the leader's own term.
    RoundReusedAcrossTerms,
    /// The age is stated before the confirmed index is applied.
    NoWaitForApply,
    /// The commit index is pushed with heartbeats and taken for evidence.
    HeartbeatIsEvidence,
    /// Off by one entry: the age is stated when all but the last one is applied.
    OneEntryShort,
    /// Off by one round: a probe that comes during a round is answered by it, not by the next one.
    /// Takes two probes to go wrong.
    JoinsRound,
}

impl Mistake {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::StampedOnArrival,
        Self::LeaderExempt,
        Self::RoundReusedAcrossTerms,
        Self::NoWaitForApply,
        Self::HeartbeatIsEvidence,
        Self::OneEntryShort,
        Self::JoinsRound,
    ];
}

/// Bounds of the search.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// What to get wrong.
    pub mistake: Mistake,
    /// Ticks of time.
    pub max_time: u8,
    /// Appends.
    pub max_appends: u8,
    /// Elections.
    pub max_term: u8,
    /// Probes, heartbeats included.
    pub max_probes: u8,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// The highest term it has seen.
    pub term: u8,
    /// The term it believes to lead in; not withdrawn when it is deposed without being told.
    pub leads: Option<u8>,
    /// Acknowledged appends it knows of, as a leader.
    pub commit: u8,
    /// Its confirmation round, if one is under way.
    pub round: Option<Round>,
}

/// A leader confirming its leadership for a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Round {
    sent: u8,
    term: u8,
    index: u8,
    acks: BTreeSet<usize>,
}

/// A message of the read protocol. Stays in the network for ever: it may be late, or twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// From the reader to whoever it takes for the leader.
    Probe {
        /// When it left, on the reader's clock.
        sent: u8,
        /// To whom.
        to: usize,
    },
    /// The confirmed answer.
    Answer {
        /// As in the probe.
        sent: u8,
        /// Everything acknowledged before `sent` is at or below.
        index: u8,
        /// The leader's term.
        term: u8,
    },
}

/// The whole system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    now: u8,
    nodes: Vec<Node>,
    /// When each append was acknowledged.
    acked: Vec<u8>,
    network: BTreeSet<Message>,
    probes: u8,
    applied: u8,
    /// (sent, index): what the reader holds as evidence.
    proof: Option<(u8, u8)>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A node is elected in the next term by these voters.
    Elect(usize, [usize; 2]),
    /// A leader gets an append acknowledged by itself and another node.
    Append(usize, usize),
    /// The reader applies one more.
    Apply,
    /// The reader restarts: what is applied stays, evidence does not.
    Restart,
    /// The reader sends a probe.
    Probe(usize),
    /// A message arrives.
    Deliver(Message),
    /// A node acknowledges a leader's confirmation message.
    Ack(usize, usize),
    /// A leader's heartbeat reaches the reader.
    Heartbeat(usize),
}

impl Protocol {
    /// What the reader may state: the `sent` of its proof, if that is applied.
    fn stated(&self, state: &State) -> Option<u8> {
        let (sent, index) = state.proof?;
        let applied = match self.mistake {
            Mistake::NoWaitForApply => u8::MAX,
            Mistake::OneEntryShort => state.applied + 1,
            _ => state.applied,
        };
        (index <= applied).then_some(sent)
    }

    /// Begins or completes a round; the answer goes out with a quorum.
    fn confirm(&self, state: &mut State, leader: usize) {
        let Some(round) = &state.nodes[leader].round else { return };
        let quorum = round.acks.len() > NODES / 2;
        if quorum || self.mistake == Mistake::LeaderExempt {
            let answer = Message::Answer { sent: round.sent, index: round.index, term: round.term };
            state.network.insert(answer);
            state.nodes[leader].round = None;
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut nodes = vec![Node { term: 1, ..Node::default() }; NODES];
        nodes[0].leads = Some(1);
        vec![State {
            now: 0,
            nodes,
            acked: Vec::new(),
            network: BTreeSet::new(),
            probes: 0,
            applied: 0,
            proof: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.max_time {
            actions.push(Action::Tick);
        }
        let top = state.nodes.iter().map(|n| n.term).max().unwrap_or(0);
        for node in 0..NODES {
            if top < self.max_term {
                let other = (0..NODES).filter(|n| *n != node);
                actions.extend(other.map(|voter| Action::Elect(node, [node, voter])));
            }
            let Some(term) = state.nodes[node].leads else { continue };
            // An acknowledgement needs a quorum that follows no later leader.
            let follows = |n: usize| state.nodes[n].term <= term;
            for other in (0..NODES).filter(|n| *n != node) {
                if (state.acked.len() as u8) < self.max_appends && follows(node) && follows(other) {
                    actions.push(Action::Append(node, other));
                }
            }
            if let Some(round) = &state.nodes[node].round {
                let current = round.term == term || self.mistake == Mistake::RoundReusedAcrossTerms;
                for voter in 0..NODES {
                    if current && follows(voter) && !round.acks.contains(&voter) {
                        actions.push(Action::Ack(voter, node));
                    }
                }
            }
            if self.mistake == Mistake::HeartbeatIsEvidence && state.probes < self.max_probes {
                actions.push(Action::Heartbeat(node));
            }
        }
        if usize::from(state.applied) < state.acked.len() {
            actions.push(Action::Apply);
        }
        if state.proof.is_some() {
            actions.push(Action::Restart);
        }
        if state.probes < self.max_probes {
            actions.extend((0..NODES).map(Action::Probe));
        }
        actions.extend(state.network.iter().cloned().map(Action::Deliver));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => state.now += 1,
            Action::Elect(node, voters) => {
                let term = state.nodes.iter().map(|n| n.term).max()? + 1;
                for voter in voters {
                    state.nodes[voter].term = term;
                }
                // Its quorum meets every quorum that acknowledged something.
                state.nodes[node].commit = state.acked.len() as u8;
                state.nodes[node].leads = Some(term);
                if self.mistake != Mistake::RoundReusedAcrossTerms {
                    state.nodes[node].round = None;
                }
            }
            Action::Append(leader, other) => {
                let term = state.nodes[leader].leads?;
                state.acked.push(state.now);
                state.nodes[leader].commit = state.acked.len() as u8;
                for node in [leader, other] {
                    state.nodes[node].term = state.nodes[node].term.max(term);
                }
            }
            Action::Apply => state.applied += 1,
            Action::Restart => state.proof = None,
            Action::Probe(to) => {
                state.probes += 1;
                state.network.insert(Message::Probe { sent: state.now, to });
            }
            Action::Deliver(Message::Probe { sent, to }) => {
                let node = &mut state.nodes[to];
                let term = node.leads?;
                if let Some(round) = &mut node.round {
                    if self.mistake != Mistake::JoinsRound || round.sent >= sent {
                        return None;
                    }
                    round.sent = sent;
                    return Some(state);
                }
                let index = node.commit;
                // Its own acknowledgement is worth as much as another's: only in its term.
                node.round = Some(Round { sent, term, index, acks: BTreeSet::new() });
                self.confirm(&mut state, to);
            }
            Action::Deliver(Message::Answer { sent, index, term: _ }) => {
                let sent = if self.mistake == Mistake::StampedOnArrival { state.now } else { sent };
                if state.proof.is_some_and(|(known, _)| known >= sent) {
                    return None;
                }
                state.proof = Some((sent, index));
            }
            Action::Ack(voter, leader) => {
                let term = state.nodes[leader].leads?;
                state.nodes[voter].term = state.nodes[voter].term.max(term);
                state.nodes[leader].round.as_mut()?.acks.insert(voter);
                self.confirm(&mut state, leader);
            }
            Action::Heartbeat(leader) => {
                state.probes += 1;
                state.proof = Some((state.now, state.nodes[leader].commit));
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a stated age is never too young", |model: &Self, state| {
                let Some(sent) = model.stated(state) else { return true };
                let due = state.acked.iter().filter(|at| **at < sent).count();
                due <= usize::from(state.applied)
            }),
            // A search that never gets anywhere proves nothing.
            Property::sometimes("an age is stated after a change of leader", |model, state| {
                model.stated(state).is_some_and(|sent| sent > 0)
                    && state.nodes.iter().filter(|n| n.leads.is_some()).count() > 1
                    && !state.acked.is_empty()
            }),
        ]
    }
}
