//! Planted faults, and whether each is caught.

use std::time::Instant;

use quorate_jepsen_core::check::Verdict;
use quorate_sim::mutants::{self, Mutant};

use crate::{
    args::{Shape, named},
    told::report,
};

/// Plants one fault after the other; all must be caught, and none found without it.
///
/// # Errors
/// There is no such mutant, or the shape is none.
pub fn hunt(only: Option<&str>, seeds: u64, from: u64, shape: &Shape) -> anyhow::Result<Verdict> {
    let wanted: Vec<&Mutant> = match only {
        Some(name) => vec![named(name)?],
        None => mutants::ALL.iter().collect(),
    };
    let plan = shape.plan()?;
    let (mut survivors, mut false_alarms) = (0, 0);
    let began = Instant::now();
    println!("{:<28} {:<8} {:>5} {:>7}  caught as", "mutant", "breaks", "seeds", "seconds");
    for mutant in wanted {
        match mutant.hunt(&plan, from, seeds, shape.jobs()) {
            Some(caught) => {
                let again = Shape { mutant: Some(mutant.name.to_owned()), ..shape.clone() };
                let again = Shape { theme: again.theme.or(mutant.theme_name()), ..again };
                let recreated = shape.recreated.or(Some(mutant.recreated()));
                let again = Shape { recreated, ..again };
                println!(
                    "{:<28} {:<8} {:>5} {:>7.1}  {}\n{:52}sim replay {} {}",
                    mutant.name,
                    mutant.breaks,
                    caught.runs,
                    caught.took.as_secs_f64(),
                    caught.by.join(", "),
                    "",
                    caught.outcome.seed,
                    again.arguments().join(" ")
                );
                if let Some(alarm) = mutant.clean(&plan, from, caught.runs, shape.jobs()) {
                    false_alarms += 1;
                    println!("  and without the fault, the same seeds are not valid:");
                    report(&alarm, &Shape { mutant: None, ..again });
                }
            }
            None => {
                survivors += 1;
                println!("{:<28} {:<8} {seeds:>5} {:>7}  SURVIVES", mutant.name, mutant.breaks, "");
            }
        }
    }
    println!(
        "{survivors} survive; without them the same seeds are valid, but for {false_alarms}; {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let all_well = survivors == 0 && false_alarms == 0;
    Ok(if all_well { Verdict::Valid } else { Verdict::Invalid })
}
