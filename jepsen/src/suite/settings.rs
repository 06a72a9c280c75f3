//! What the nodes of a run are started with: what its faults need, and the program that is asked for.

use anyhow::Result;

use super::{mutants, options::Options};
use crate::{
    cluster::{Between, Settings},
    nemesis::{fault::Kind, schedule::Schedule},
};

/// The profile for small machines: nobody is missed for 1.5 s. On a busy machine a node that is started at
/// once takes longer than others wait by default, and then another leads when it is back.
const PATIENT: &str =
    "\n[raft]\nheartbeat_ms = 100\nelection_min_ms = 500\nelection_max_ms = 1000\n";

/// Of a run with these options and faults.
///
/// # Errors
/// The program with planted faults was not built.
pub fn settings(options: &Options, schedule: &Schedule) -> Result<Settings> {
    let kinds = schedule.kinds();
    let any = |wanted: &[Kind]| kinds.iter().any(|kind| wanted.contains(kind));
    let (program, environment) = match &options.mutant {
        Some(name) => {
            (Some(mutants::program()?), vec![(mutants::VARIABLE.to_owned(), name.clone())])
        }
        None => (None, Vec::new()),
    };
    Ok(Settings {
        nodes: options.nodes as usize,
        newcomers: schedule.newcomers(),
        network: match &options.lab {
            Some(lab) => Between::Lab(lab.clone()),
            None => match &options.fleet {
                Some(fleet) => Between::Fleet(fleet.clone()),
                None => Between::Proxies,
            },
        },
        faulty_disks: any(Kind::BY_PRELOAD),
        power: any(&[Kind::PowerAll]),
        clocks: any(&[Kind::ClockJump, Kind::FastClock]),
        sections: sections(&kinds),
        program,
        environment,
        ..Settings::default()
    })
}

/// What nodes are told beside addresses, for a run of such faults.
fn sections(kinds: &[Kind]) -> String {
    let mut sections = Settings::default().sections;
    if kinds.contains(&Kind::FallBehind) {
        sections = sections.replacen("[log]\n", "[log]\nretain_mb = 16\n", 1);
    }
    // Among other faults the servers' own timing is worth more.
    if !kinds.is_empty() && kinds.iter().all(|kind| *kind == Kind::QuickRestart) {
        sections += PATIENT;
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_missed_soon_where_all_depends_on_being_back_before() {
        assert!(sections(&[Kind::QuickRestart]).ends_with(PATIENT));
        for others in [&[][..], &[Kind::Kill], &[Kind::QuickRestart, Kind::Kill]] {
            assert_eq!(sections(others), Settings::default().sections);
        }
        assert!(sections(&[Kind::FallBehind]).contains("retain_mb = 16"));
    }
}
