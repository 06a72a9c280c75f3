//! Memory of nodes while something is done to them.

use serde::{Deserialize, Serialize};

use crate::{local::process::Usage, output::units};

/// Resident memory of one node, in MiB.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Memory {
    /// Before.
    pub before_mib: f64,
    /// The most that was seen in the first half of the looks.
    pub first_half_max_mib: f64,
    /// The most that was seen in the second half: much more would be growth.
    pub second_half_max_mib: f64,
    /// At the end.
    pub end_mib: f64,
}

/// Looks, in the order of time.
pub struct Watch {
    before: Vec<Usage>,
    looks: Vec<Vec<f64>>,
}

fn mib(usage: &Usage) -> f64 {
    usage.resident_bytes as f64 / f64::from(1 << 20)
}

impl Watch {
    /// What it is like before.
    #[must_use]
    pub fn new(before: Vec<Usage>) -> Self {
        let looks = vec![Vec::new(); before.len()];
        Self { before, looks }
    }

    /// Looks.
    pub fn look(&mut self, usage: &[Usage]) {
        for (looks, one) in self.looks.iter_mut().zip(usage) {
            looks.push(mib(one));
        }
    }

    /// Each node's.
    #[must_use]
    pub fn done(self) -> Vec<Memory> {
        let most = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
        let each = self.before.iter().zip(&self.looks).map(|(before, looks)| {
            let (first, second) = looks.split_at(looks.len() / 2);
            Memory {
                before_mib: mib(before),
                first_half_max_mib: most(first),
                second_half_max_mib: most(second),
                end_mib: looks.last().copied().unwrap_or_default(),
            }
        });
        each.collect()
    }
}

impl Memory {
    /// For people.
    #[must_use]
    pub fn table(nodes: &[Self]) -> String {
        let size = |mib: f64| units::bytes((mib * f64::from(1 << 20)) as u64);
        let line = |(n, m): (usize, &Self)| {
            format!(
                "{:>12} memory of node {}: {} before, at most {} in the first half, {} in the second, \
                 {} at the end\n",
                "",
                n + 1,
                size(m.before_mib),
                size(m.first_half_max_mib),
                size(m.second_half_max_mib),
                size(m.end_mib),
            )
        };
        nodes.iter().enumerate().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        let usage = |mib: u64| Usage { resident_bytes: mib << 20, ..Usage::default() };
        let mut watch = Watch::new(vec![usage(5), usage(6)]);
        for mib in [10, 30, 20, 40, 15] {
            watch.look(&[usage(mib), usage(1)]);
        }
        let done = watch.done();
        let want = Memory {
            before_mib: 5.0,
            first_half_max_mib: 30.0,
            second_half_max_mib: 40.0,
            end_mib: 15.0,
        };
        assert_eq!(done[0], want);
        assert_eq!((done[1].before_mib, done[1].second_half_max_mib), (6.0, 1.0));
    }
}
