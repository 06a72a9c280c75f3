//! How the nodes of this program's runs are connected: decided once, before it has threads.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::options::{Backend, Options};
use crate::network::Lab;

/// The most nodes a run has.
const HOSTS: u8 = 6;

/// Decides, makes the hosts (with links that can be slow, if wanted), and moves the program to the
/// runner's. Call it while the program has one thread: those that it starts afterwards are where it
/// is.
///
/// # Errors
/// Hosts are asked for and cannot be had.
pub fn settle(options: &mut Options, slow_links: bool) -> Result<()> {
    let lab = match options.backend {
        Some(Backend::Process) => None,
        Some(Backend::Netns) => Some(lab(slow_links).context("--backend netns")?),
        None => match lab(slow_links) {
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

fn lab(slow_links: bool) -> Result<Lab> {
    let lab = Lab::build(HOSTS)?;
    if slow_links {
        lab.open_slow_lane()?;
    }
    lab.enter()?;
    Ok(lab)
}
