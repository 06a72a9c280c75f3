//! How the nodes of this program's runs are connected: decided once, before it has threads.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;

use super::{
    mutants,
    options::{Backend, Options},
};
use crate::{
    cluster::server_binary,
    hosts::Fleet,
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
    options.backend = chosen(options)?;
    if options.backend == Some(Backend::Ssh) {
        return reach(options);
    }
    let lab = match options.backend {
        Some(Backend::Process | Backend::Ssh) => None,
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

/// Connects to the hosts that are named, and brings them the server.
fn reach(options: &mut Options) -> Result<()> {
    let request = options.hosts.request()?;
    let fleet = Fleet::connect(&request)?;
    // What does not start there is an error now, not in the middle of a run.
    let program = match &options.mutant {
        Some(_) => mutants::program()?,
        None => server_binary()?,
    };
    fleet.install(&program)?;
    options.nodes = request.places.len() as u64;
    options.fleet = Some(Arc::new(fleet));
    Ok(())
}

/// The backend that is asked for; hosts are a word for it, too.
///
/// # Errors
/// Two are asked for, or one without what it needs.
pub fn chosen(options: &Options) -> Result<Option<Backend>> {
    let ssh = options.backend == Some(Backend::Ssh);
    if options.hosts.is_asked() {
        ensure!(ssh || options.backend.is_none(), "only --backend ssh has hosts");
        return Ok(Some(Backend::Ssh));
    }
    ensure!(!ssh, "--backend ssh needs --hosts root@h1,root@h2,root@h3 or --hosts-file FILE");
    Ok(options.backend)
}

impl Backend {
    /// As given on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().expect("no backend is hidden").get_name().to_owned()
    }

    /// Why this fault cannot be done there, if so.
    #[must_use]
    pub fn lacks(self, kind: Kind) -> Option<&'static str> {
        if self != Self::Ssh {
            return None;
        }
        match kind {
            Kind::Partition
            | Kind::OneWay
            | Kind::Aside
            | Kind::ReplyLoss
            | Kind::Kill
            | Kind::Pause
            | Kind::KillAll
            | Kind::RollingRestart
            | Kind::Transfer
            | Kind::Snapshot
            | Kind::FallBehind => None,
            Kind::Delay | Kind::SlowLink => Some("a packet filter makes no link slow"),
            Kind::StallApply => Some("the runner can trace no process there"),
            Kind::ClockJump | Kind::FastClock => Some("nothing is preloaded there"),
            Kind::SlowDisk
            | Kind::StallDisk
            | Kind::DiskFull
            | Kind::SyncError
            | Kind::QuickRestart => Some("nothing is preloaded there"),
            Kind::BitFlip | Kind::BitRot => Some("the runner does not reach the files there"),
            Kind::PowerAll => Some("the hosts' disks are not the runner's to cut"),
            Kind::Member => Some("there is no host for one more node"),
        }
    }

    /// What of these cannot be done there, each with the reason.
    #[must_use]
    pub fn refuses(self, schedule: &Schedule, kinds: &[Kind]) -> Vec<String> {
        let mut all: Vec<_> = schedule.kinds().into_iter().chain(kinds.iter().copied()).collect();
        // What stops a process between question and answer does so by slow links.
        all.extend(schedule.windows.iter().filter(|w| w.fault.slows_links()).map(|_| Kind::Delay));
        all.sort_unstable();
        all.dedup();
        let lacking = |kind: Kind| self.lacks(kind).map(|why| format!("{kind} ({why})"));
        all.into_iter().filter_map(lacking).collect()
    }
}

/// Keeps what this program mounts to itself and its nodes: the kernel unmounts it when the last of
/// them is gone, however it ended. Without root nothing can be mounted anyway. In a plain `chroot`,
/// whose `/` is no mount point, the kernel can't keep mounts apart: it says so, and what is mounted
/// stays mounted if this program is killed.
///
/// # Errors
/// The kernel refuses root for another reason.
pub fn own_mounts() -> Result<()> {
    // SAFETY: these calls change the calling thread and touch no memory but the literals.
    let refused = unsafe {
        if libc::geteuid() != 0 || libc::unshare(libc::CLONE_NEWNS) != 0 {
            return Ok(());
        }
        let (none, all) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
        if libc::mount(none, c"/".as_ptr(), none, all, none.cast()) == 0 {
            return Ok(());
        }
        std::io::Error::last_os_error()
    };
    if refused.raw_os_error() != Some(libc::EINVAL) {
        return Err(refused).context("mounts of its own");
    }
    eprintln!("NO MOUNTS OF ITS OWN HERE (/ is no mount point): what a killed run mounted stays");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::scenarios::Scenario;

    #[test]
    fn hosts_of_the_user_s_have_the_faults_that_signals_and_filters_make() {
        let refused = |kinds: &[Kind]| Backend::Ssh.refuses(&Schedule::default(), kinds);
        let can = [Kind::Partition, Kind::OneWay, Kind::ReplyLoss, Kind::Kill, Kind::Pause];
        assert_eq!(refused(&can), Vec::<String>::new());
        let said = refused(&[Kind::PowerAll, Kind::Kill, Kind::FastClock]).join("; ");
        assert!(said.contains("power-all (") && said.contains("fast-clock ("), "{said}");
        assert!(!said.contains("kill"), "{said}");
        let scenario = |name| Scenario::named(name).unwrap().schedule().unwrap();
        assert_eq!(Backend::Ssh.refuses(&scenario("aside"), &[]), Vec::<String>::new());
        // It pauses behind slow links, which is not in the name of its kind.
        assert!(Backend::Ssh.refuses(&scenario("stopped"), &[])[0].starts_with("delay"));
        for backend in [Backend::Process, Backend::Netns] {
            assert!(Kind::ALL.iter().all(|kind| backend.lacks(*kind).is_none()));
        }
    }

    #[test]
    fn hosts_and_their_backend_go_together() {
        let mut options = Options::default();
        assert_eq!(chosen(&options).unwrap(), None);
        options.backend = Some(Backend::Ssh);
        assert!(chosen(&options).is_err(), "without hosts");
        options.hosts.hosts = vec!["h1".parse().unwrap()];
        assert_eq!(chosen(&options).unwrap(), Some(Backend::Ssh));
        options.backend = None;
        assert_eq!(chosen(&options).unwrap(), Some(Backend::Ssh));
        options.backend = Some(Backend::Netns);
        assert!(chosen(&options).is_err(), "another backend");
    }
}
