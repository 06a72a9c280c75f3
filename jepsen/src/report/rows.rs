//! What each node was, from when to when, as rows of a picture: who led, who followed, who was cut off
//! from the majority, and who did not answer.

use std::collections::BTreeSet;

use quorate_jepsen_core::ids::{Moment, Node};

use super::{charts::seconds, plot::Plot};
use crate::{
    nemesis::fault::Kind,
    suite::{
        sides,
        timeline::{self, Mark, NodeSample},
    },
};

/// The classes of all bars, with their names, for a legend.
pub const LEGEND: [(&str, &str); 4] =
    [("leads", "leads"), ("follows", "follows"), ("cut", "cut off"), ("silent", "no answer")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It said that it led this term.
    Leads(u64),
    /// It said that it did not.
    Follows(u64),
    /// No majority heard it and was heard.
    CutOff,
    /// The same, and it said that it led this term.
    CutOffLeads(u64),
    /// It was asked, and did not answer in time.
    Silent,
}

impl State {
    fn class(self) -> &'static str {
        match self {
            Self::Leads(_) => "leads",
            Self::Follows(_) => "follows",
            Self::CutOff => "cut",
            Self::CutOffLeads(_) => "leads cut",
            Self::Silent => "silent",
        }
    }

    /// Inside the bar; who follows needs no words.
    fn text(self) -> Option<String> {
        match self {
            Self::Leads(term) => Some(format!("leads, term {term}")),
            Self::Follows(_) => None,
            Self::CutOff => Some("cut off".to_owned()),
            Self::CutOffLeads(term) => Some(format!("cut off, says it leads term {term}")),
            Self::Silent => Some("no answer".to_owned()),
        }
    }

    fn tip(self, node: Node) -> String {
        match self {
            Self::Follows(term) => format!("n{node} follows, term {term}"),
            Self::CutOff => format!("n{node} cut off from the majority"),
            Self::Silent => format!("n{node} gave no answer when it was asked how it is"),
            _ => format!("n{node} {}", self.text().unwrap_or_default()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: Moment,
    to: Moment,
    state: State,
}

/// Draws a row for each of these nodes, from the first row on.
pub fn draw(plot: &mut Plot, marks: &[Mark], nodes: &[Node]) {
    for (row, node) in nodes.iter().enumerate() {
        plot.row_name(row, &format!("n{node}"));
        for Span { from, to, state } in spans(marks, *node) {
            let (from, to) = (seconds(from), seconds(to));
            if !plot.shows(from, to) {
                continue;
            }
            plot.bar(state.class(), row, from, to, &state.tip(*node));
            if let Some(text) = state.text() {
                plot.bar_text(state.class(), row, from, to, &text);
            }
        }
    }
}

/// What a node was, without a gap from its first answer on.
fn spans(marks: &[Mark], node: Node) -> Vec<Span> {
    let cuts = cuts(marks, node);
    let samples = samples(marks, node);
    let (Some((first, _)), Some((last, _))) = (samples.first(), samples.last()) else {
        return Vec::new();
    };
    let edges = cuts.iter().flat_map(|(from, to)| [*from, *to]);
    let edges: BTreeSet<Moment> = samples
        .iter()
        .map(|(at, _)| *at)
        .chain(edges.filter(|at| (*first..*last).contains(at)))
        .collect();
    let edges: Vec<Moment> = edges.into_iter().collect();
    let mut spans: Vec<Span> = Vec::new();
    for pair in edges.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let known = samples.partition_point(|(at, _)| *at <= from);
        let said = known.checked_sub(1).and_then(|at| samples[at].1);
        let cut = cuts.iter().any(|(begin, end)| *begin <= from && to <= *end);
        let state = match (said, cut) {
            (Some(said), true) if said.leads => State::CutOffLeads(said.term),
            (_, true) => State::CutOff,
            (Some(said), false) if said.leads => State::Leads(said.term),
            (Some(said), false) => State::Follows(said.term),
            (None, false) => State::Silent,
        };
        match spans.last_mut() {
            Some(last) if last.state == state => last.to = to,
            _ => spans.push(Span { from, to, state }),
        }
    }
    spans
}

/// What the node said whenever nodes were asked, from its first answer on. One that was taken out of the
/// cluster is not asked any more.
fn samples(marks: &[Mark], node: Node) -> Vec<(Moment, Option<&NodeSample>)> {
    let all = marks.iter().filter_map(|mark| match mark {
        Mark::Sample { at, nodes } => Some((*at, nodes.iter().find(|one| one.node == node))),
        _ => None,
    });
    let mut samples: Vec<_> = all.skip_while(|(_, said)| said.is_none()).collect();
    let went = |mark: &&Mark| match mark {
        Mark::Fault(fault) => fault.kind == Kind::Member && fault.hit.contains(&node),
        _ => false,
    };
    if marks.iter().any(|mark| went(&mark)) {
        let answered = samples.iter().rposition(|(_, said)| said.is_some());
        // One more, at which its last bar ends.
        samples.truncate(answered.map_or(0, |last| last + 2));
    }
    samples
}

/// When the node was cut off from the majority, as the verdict counts it.
fn cuts(marks: &[Mark], node: Node) -> Vec<(Moment, Moment)> {
    let cuts = timeline::faults(marks).filter(|fault| fault.apart.contains(&node));
    cuts.map(|fault| (fault, fault.healing.unwrap_or(fault.to)))
        .filter(|(fault, healing)| !sides::leading(marks, fault, *healing).contains(&node))
        .map(|(fault, healing)| (fault.from, healing))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::plot::Scale, *};
    use crate::suite::timeline::FaultMark;

    const N: Node = Node(1);

    fn ms(at: u64) -> Moment {
        Moment(at * 1_000_000)
    }

    fn said(at: u64, leads: bool, term: u64) -> Mark {
        let (committed, applied, age_ms) = (0, 0, None);
        let sample = NodeSample { node: N, leads, term, committed, applied, age_ms };
        Mark::Sample { at: ms(at), nodes: vec![sample] }
    }

    fn nothing(at: u64) -> Mark {
        Mark::Sample { at: ms(at), nodes: Vec::new() }
    }

    fn fault(kind: Kind, from: u64, healing: u64, apart: &[Node]) -> Mark {
        Mark::Fault(FaultMark {
            kind,
            what: String::new(),
            from: ms(from),
            to: ms(healing + 1),
            hit: vec![N],
            hit_leader: true,
            healing: Some(ms(healing)),
            apart: apart.to_vec(),
            count: 1,
            effect: String::new(),
        })
    }

    fn told(marks: &[Mark]) -> Vec<(u64, u64, State)> {
        let span = |span: Span| (span.from.0 / 1_000_000, span.to.0 / 1_000_000, span.state);
        spans(marks, N).into_iter().map(span).collect()
    }

    #[test]
    fn a_node_that_is_cut_off_has_a_row_without_gaps() {
        let marks = [
            said(10, true, 1),
            said(20, true, 1),
            nothing(30),
            said(40, false, 1),
            nothing(50),
            said(60, false, 2),
            said(70, false, 2),
            fault(Kind::Partition, 15, 55, &[N]),
        ];
        let want = [
            (10, 15, State::Leads(1)),
            (15, 30, State::CutOffLeads(1)),
            (30, 55, State::CutOff),
            // Healed, and not heard of yet.
            (55, 60, State::Silent),
            (60, 70, State::Follows(2)),
        ];
        assert_eq!(told(&marks), want);
        let mut plot = Plot::new(0.01, 0.07, 100.0, Scale::Rows(1));
        draw(&mut plot, &marks, &[N]);
        let svg = plot.finish();
        for part in ["n1 cut off from the majority", r#"class="inside cut""#, ">cut off<"] {
            assert!(svg.contains(part), "{part:?} is not in {svg}");
        }
    }

    #[test]
    fn who_does_not_answer_is_not_left_out() {
        let marks = [nothing(10), said(20, false, 1), nothing(30), nothing(40), nothing(50)];
        assert_eq!(told(&marks), [(20, 30, State::Follows(1)), (30, 50, State::Silent)]);
        // It was taken out, and nobody asks it any more.
        let marks = [&marks[..], &[fault(Kind::Member, 25, 28, &[])]].concat();
        assert_eq!(told(&marks), [(20, 30, State::Follows(1))]);
    }

    #[test]
    fn a_minority_that_comes_to_lead_was_not_cut_off() {
        let marks = [
            said(10, false, 1),
            said(30, true, 2),
            said(40, true, 2),
            fault(Kind::Aside, 15, 35, &[N]),
        ];
        assert_eq!(told(&marks), [(10, 30, State::Follows(1)), (30, 40, State::Leads(2))]);
    }
}
