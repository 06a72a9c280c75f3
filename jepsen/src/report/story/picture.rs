//! A counterexample as a picture: above, who led; below, what the clients did.

use quorate_jepsen_core::{
    history::History,
    ids::{OpId, Process},
    op::Op,
};

use super::{
    super::{
        charts::{Charts, outcome, seconds},
        plot::{Plot, Scale},
        rows,
    },
    words::answered,
};
use crate::suite::results::line;

/// Clients in the picture besides those involved: enough to see that others were served.
const OTHERS: usize = 6;

/// Operations around each that is involved, on either side.
const AROUND: usize = 20;

impl Charts<'_> {
    /// The picture: above, who led; below, a row for each client involved, and for some others.
    #[must_use]
    pub fn story(&self, history: &History, ops: &[&Op]) -> Option<String> {
        let from = seconds(ops.first()?.invoked);
        let to =
            ops.iter().map(|op| seconds(op.returned.unwrap_or(op.invoked))).fold(from, f64::max);
        // What led to it is often the fault before.
        let margin = ((to - from) * 0.15).max(0.05);
        let (from, to) = ((from - margin).max(0.0), to + margin);
        let log = ops.first()?.call.log();
        let near = near(history, log, ops);
        let mut clients: Vec<Process> = ops.iter().map(|op| op.process).collect();
        let others = near.iter().map(|op| op.process).collect::<Vec<_>>();
        let most = clients.len() + OTHERS;
        for process in others {
            if clients.len() < most && !clients.contains(&process) {
                clients.push(process);
            }
        }
        clients.dedup();
        let nodes = self.nodes();
        let rows = nodes.len() + clients.len();
        let mut plot = Plot::new(from, to, 42.0 + 24.0 * rows as f64, Scale::Rows(rows));
        plot.faults(&self.faults);
        rows::draw(&mut plot, self.marks, &nodes);
        for (at, process) in clients.iter().enumerate() {
            plot.row_name(nodes.len() + at, &format!("client {process}"));
        }
        let row =
            |op: &Op| clients.iter().position(|p| *p == op.process).map(|at| nodes.len() + at);
        for op in near.iter().filter(|op| !ops.iter().any(|guilty| guilty.id == op.id)) {
            let (begin, end) = (seconds(op.invoked), op.returned.map_or(to, seconds));
            if let Some(row) = row(op)
                && begin <= to
                && end >= from
            {
                plot.bar(
                    &format!("{} aside", outcome(op)),
                    row,
                    begin.max(from),
                    end.min(to),
                    &line(op),
                );
            }
        }
        for (number, op) in ops.iter().enumerate() {
            if let Some(row) = row(op) {
                let end = op.returned.map_or(to, seconds);
                let class = format!("{} guilty", outcome(op));
                plot.bar(&class, row, seconds(op.invoked), end, &line(op));
                plot.label(row, end, &format!("{} {}", number + 1, answered(op)));
            }
        }
        Some(plot.finish())
    }
}

/// Operations on the log a little before and after each of those involved.
fn near<'a>(history: &'a History, log: &str, ops: &[&Op]) -> Vec<&'a Op> {
    let on_log: Vec<&Op> = history.ops.iter().filter(|op| op.call.log() == log).collect();
    let mut ids: Vec<OpId> = Vec::new();
    for guilty in ops {
        let at = on_log.partition_point(|op| (op.invoked, op.id) < (guilty.invoked, guilty.id));
        let range = at.saturating_sub(AROUND)..(at + AROUND + 1).min(on_log.len());
        ids.extend(on_log[range].iter().map(|op| op.id));
    }
    ids.sort_unstable();
    ids.dedup();
    on_log.into_iter().filter(|op| ids.binary_search(&op.id).is_ok()).collect()
}
