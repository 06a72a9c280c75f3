//! Hosts of the user's, reached by ssh: a node each, and a packet filter each that cuts its links.
//!
//! Read in this order: [`place`], how a host is named; [`ssh`], how it is reached; [`survey`], whether
//! it will do; [`keeper`], the script that does things there and undoes all of them when the runner is
//! gone; [`rules`], which packets it drops; here, all of them together.
//!
//! What is on a host: one folder, with the server (which stays, so that it need not come again) and a
//! run's data (which goes); one table of the packet filter; the processes. The keeper owns the latter
//! three and lives no longer than its connection.
//!
//! Faults cut the nodes' own ports only. The runner's clients call these and meet faults; its own
//! questions go through ssh, come from the host itself, and never do.

pub mod error;
pub mod keeper;
pub mod place;
pub mod rules;
pub mod ssh;
pub mod survey;

mod fleet;
mod reach;

use std::{
    net::{Ipv4Addr, ToSocketAddrs as _, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{
    error::{HostError, HostErrors, Why},
    keeper::Keeper,
    place::Place,
    ssh::{Dialled, Master, Ssh},
    survey::{INSTALL, PREPARE, SURVEY, Survey},
};
pub use fleet::Fleet;
use reach::LOCAL_ANSWER;

/// The hosts and how to reach them.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which, in the order of the nodes' ids.
    pub places: Vec<Place>,
    /// For every ssh: `-i`, `-o`.
    pub ssh: Vec<String>,
    /// The first of three ports of each node.
    pub port: u16,
    /// Our folder there, if not `/var/tmp/quorate-jepsen-USER`.
    pub dir: Option<String>,
}

/// A host that will do, with our keeper on it.
#[derive(Debug)]
pub(super) struct Host {
    name: String,
    ssh: Ssh,
    /// Where its node is called.
    address: Ipv4Addr,
    /// The port of this machine that leads to its node past all faults.
    observed: u16,
    /// Our folder.
    base: String,
    survey: Survey,
    keeper: Arc<Keeper>,
    /// Closed behind the keeper.
    _master: Master,
}

/// A host on its way to that.
struct Candidate {
    place: Place,
    ssh: Ssh,
    ssh_port: u16,
    address: Ipv4Addr,
    master: Master,
}

/// Does it for all of them, so that all that is wrong is said at once.
fn each<T, U>(
    all: Vec<T>,
    name: impl Fn(&T) -> String,
    mut step: impl FnMut(T) -> Result<U, Why>,
) -> Result<Vec<U>, HostErrors> {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for one in all {
        let host = name(&one);
        match step(one) {
            Ok(next) => done.push(next),
            Err(why) => errors.push(HostError { host, why }),
        }
    }
    if errors.is_empty() { Ok(done) } else { Err(HostErrors(errors)) }
}

/// Connects to all hosts and leaves a keeper on each.
fn hosts(request: &Request, sockets: &Path) -> Result<Vec<Host>, HostErrors> {
    let numbered = request.places.iter().cloned().enumerate().collect();
    let mut taken = Vec::new();
    let name = |(_, place): &(usize, Place)| place.to_string();
    let candidates = each(numbered, name, |(number, place)| {
        let ssh = Ssh::new(&place, sockets.join(number.to_string()), &request.ssh);
        let (host, ssh_port) = ssh.resolved()?;
        let address = match place.address {
            Some(address) => address,
            None => address_of(&host)?,
        };
        if address.is_loopback() || own_address(address) == Some(address) {
            return Err(Why::Here);
        }
        if taken.contains(&address) {
            return Err(Why::Twice(address));
        }
        taken.push(address);
        // All at once: who cannot be reached takes its time.
        let master = ssh.connect()?;
        Ok(Candidate { place, ssh, ssh_port, address, master })
    })?;
    let name = |candidate: &Candidate| candidate.place.to_string();
    each(candidates, name, |candidate| host(request, candidate))
}

/// Makes sure that a host will do, and leaves a keeper on it.
fn host(request: &Request, candidate: Candidate) -> Result<Host, Why> {
    let Candidate { place, mut ssh, ssh_port, address, mut master } = candidate;
    ssh.connected(&mut master)?;
    let mut survey = Survey::read(&ssh.run("looking around", SURVEY, &[], &mut "".as_bytes())?);
    ssh.root = survey.root()?;
    survey.has(address)?;
    let ports = request.port..request.port + 3;
    if let Some(port) = [ssh_port, 22].into_iter().find(|port| ports.contains(port)) {
        return Err(Why::SshPort(port));
    }
    let base = match &request.dir {
        Some(dir) => dir.clone(),
        None => format!("/var/tmp/quorate-jepsen-{}", survey.get("user")),
    };
    survey.add(prepared(&ssh, &base, "none")?);
    let keeper = Arc::new(Keeper::start(&ssh, &base)?);
    // Behind the keeper, which ends what a crash has left of another run.
    for port in ports {
        match ssh.dial(address, port, LOCAL_ANSWER)? {
            Dialled::Failed(said) if said.contains("prohibited") => {
                return Err(Why::NoForwarding(said));
            }
            Dialled::Failed(_) => {}
            Dialled::Answered | Dialled::Silent => return Err(Why::PortTaken(port)),
        }
    }
    let observed = ssh.forward(address, request.port)?;
    let name = place.to_string();
    Ok(Host { name, ssh, address, observed, base, survey, keeper, _master: master })
}

/// Our folder on a host, as it is; made if it is not there.
fn prepared(ssh: &Ssh, base: &str, hash: &str) -> Result<Survey, Why> {
    let said = ssh.run("preparing a folder", PREPARE, &[base, hash], &mut "".as_bytes())?;
    let survey = Survey::read(&said);
    survey.prepared(base)?;
    Ok(survey)
}

impl Host {
    /// Sees to it that this program is there and runs; what it says of its version.
    fn install(&self, program: &Path, hash: &str) -> Result<String, Why> {
        let here = |error: std::io::Error| Why::Failed {
            what: "reading the server's program",
            said: error.to_string(),
        };
        if prepared(&self.ssh, &self.base, hash)?.get("program") != "there" {
            let mut file = std::fs::File::open(program).map_err(here)?;
            let megabytes = file.metadata().map_err(here)?.len() >> 20;
            eprintln!("copying the server ({megabytes} MiB) to {}", self.name);
            self.ssh.run("storing the server", INSTALL, &[&self.base, hash], &mut file)?;
        }
        let path = format!("{}/bin/{hash}", self.base);
        let version =
            self.ssh.run("starting it", "exec \"$1\" --version", &[&path], &mut "".as_bytes());
        version.map_err(|why| match why {
            Why::Failed { said, .. } => Why::of_program(&self.base, &said),
            why => why,
        })
    }
}

/// The IPv4 address behind a name.
fn address_of(host: &str) -> Result<Ipv4Addr, Why> {
    let all = (host, 0).to_socket_addrs();
    let all = all.map_err(|error| Why::Unreachable(format!("{host}: {error}")))?;
    let address = all.into_iter().find_map(|address| match address.ip() {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(_) => None,
    });
    address.ok_or_else(|| Why::NoAddress(host.to_owned()))
}

/// Where calls from here to there come from, as this machine sees it. Sends nothing.
fn own_address(to: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(_) => None,
    }
}

/// A program's SHA-256, by the system's own tool, as it is checked on the hosts.
fn hash(program: &Path) -> anyhow::Result<String> {
    use anyhow::Context as _;
    let output = std::process::Command::new("sha256sum").arg(program).output();
    let output = output.context("starting sha256sum")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let hash = said.split_whitespace().next().filter(|_| output.status.success());
    hash.map(str::to_owned).with_context(|| format!("hashing {}", program.display()))
}

/// A folder for sockets, nobody else's, with a short name: a socket's may have a hundred letters.
#[derive(Debug)]
struct Sockets(PathBuf);

impl Sockets {
    fn make() -> std::io::Result<Self> {
        use std::os::unix::ffi::OsStringExt as _;
        let mut template = b"/tmp/quorate-ssh-XXXXXX\0".to_vec();
        // SAFETY: mkdtemp changes the letters of the template in place, which is ours and ends with 0.
        if unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) }.is_null() {
            return Err(std::io::Error::last_os_error());
        }
        template.pop();
        Ok(Self(std::ffi::OsString::from_vec(template).into()))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // Empty but for sockets; what cannot be removed is in nobody's way.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests;
