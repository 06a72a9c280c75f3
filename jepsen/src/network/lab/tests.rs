//! Each fault on real packets; where there can be no lab, they say so.

use anyhow::Result;

use super::{
    Lab,
    probe::{one_way, partition, reply_loss, slow},
};

fn possible() -> bool {
    match Lab::build(1) {
        Ok(_) => true,
        Err(why) => {
            println!("SKIPPED: this machine can have no lab: {why:#}");
            false
        }
    }
}

fn tried(probe: fn() -> Result<String>) -> Result<()> {
    if possible() {
        println!("{}", probe()?);
    }
    Ok(())
}

#[test]
fn calls_are_dropped_one_way_and_delivered_after_healing() -> Result<()> {
    tried(one_way)
}

#[test]
fn apart_is_both_ways_and_refused_is_at_once() -> Result<()> {
    tried(partition)
}

#[test]
fn a_lost_reply_was_sent() -> Result<()> {
    tried(reply_loss)
}

#[test]
fn slow_links_are_slow_and_fast_again() -> Result<()> {
    tried(slow)
}

#[test]
fn hosts_see_nothing_but_the_lab() -> Result<()> {
    if possible() {
        let lab = Lab::build(2)?;
        let list = lab.runner.run("ip", &["-br", "-4", "addr"], "")?;
        assert_eq!(list.lines().count(), 2, "{list}");
        assert!(list.contains("198.18.100.2/29") && list.contains("198.18.100.3/29"), "{list}");
    }
    Ok(())
}
