//! How the nodes of this program's runs are connected: decided once, before it has threads.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::options::{Backend, Options};
use crate::{
    nemesis::{
        fault::Kind,
        schedule::{NEWCOMERS, Schedule},
    },
    network::Lab,
};

/// The most nodes a run begins with.
const HOSTS: u8 = 6;

/// What the hosts of a program's runs must be able to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Links can be slow.
    pub slow_links: bool,
    /// So many nodes join a run, at most.
    pub newcomers: usize,
}

impl Needs {
    /// Of runs that do this, or what is drawn from these kinds.
    #[must_use]
    pub fn of(schedule: &Schedule, kinds: &[Kind]) -> Self {
        let drawn = if kinds.contains(&Kind::Member) { NEWCOMERS } else { 0 };
        Self {
            slow_links: schedule.windows.iter().any(|window| window.fault.slows_links())
                || kinds.iter().any(|kind| [Kind::Delay, Kind::SlowLink].contains(kind)),
            newcomers: schedule.newcomers().max(drawn),
        }
    }
}

/// Decides, makes the hosts (with all that is needed of them), and moves the program to the
/// runner's. Call it while the program has one thread: those that it starts afterwards are where it
/// is.
///
/// # Errors
/// Hosts are asked for and cannot be had.
pub fn settle(options: &mut Options, needs: Needs) -> Result<()> {
    let lab = match options.backend {
        Some(Backend::Process) => None,
        Some(Backend::Netns) => Some(lab(needs).context("--backend netns")?),
        None => match lab(needs) {
            Ok(lab) => Some(lab),
            Err(why) => {
                println!(
                    "NO HOSTS OF THEIR OWN FOR NODES HERE, proxies on loopback instead: {why:#}"
                );
                None
            }
        },
    };
    options.backend = Some(if lab.is_some() { Backend::Netns } else { Backend::Process });
    options.lab = lab.map(Arc::new);
    Ok(())
}

/// Keeps what this program mounts to itself and its nodes: the kernel unmounts it when the last of
/// them is gone, however it ended. Without root nothing can be mounted anyway.
///
/// # Errors
/// The kernel refuses root.
pub fn own_mounts() -> Result<()> {
    // SAFETY: these calls change the calling thread and touch no memory but the literals.
    unsafe {
        if libc::geteuid() != 0 || libc::unshare(libc::CLONE_NEWNS) != 0 {
            return Ok(());
        }
        let (none, all) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
        if libc::mount(none, c"/".as_ptr(), none, all, none.cast()) != 0 {
            return Err(std::io::Error::last_os_error()).context("mounts of its own");
        }
    }
    Ok(())
}

fn lab(needs: Needs) -> Result<Lab> {
    let lab = Lab::build(HOSTS + u8::try_from(needs.newcomers)?)?;
    if needs.slow_links {
        lab.open_slow_lane()?;
    }
    lab.enter()?;
    Ok(lab)
}
