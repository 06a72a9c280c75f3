//! What may be wrong with a host, and what its owner can do about it.

use std::{fmt, net::Ipv4Addr};

use thiserror::Error;

/// A host that cannot be used: which, why, and what to do.
#[derive(Debug, Error)]
#[error("{host}: {why}")]
pub struct HostError {
    /// As given on the command line.
    pub host: String,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong with a host.
#[derive(Debug, Error)]
pub enum Why {
    /// There is no ssh client on this machine.
    #[error("ssh cannot be started here ({0}): install openssh-client")]
    NoClient(String),
    /// No connection.
    #[error("cannot be reached by ssh: {0}; is it up, and is the name, the port right?")]
    Unreachable(String),
    /// It did not let us in.
    #[error(
        "does not let us in without a question: {0}; give a key with --identity FILE, or load one \
         with ssh-add (a password cannot be typed here)"
    )]
    Refused(String),
    /// It is not known, or has changed its key.
    #[error(
        "its key is not the one known here: {0}; log in by hand once to accept it, or give \
         --ssh-option StrictHostKeyChecking=accept-new"
    )]
    UnknownKey(String),
    /// Its name means no IPv4 address.
    #[error("{0:?} has no IPv4 address that nodes could call; name one: {0}=ADDRESS")]
    NoAddress(String),
    /// The address is somebody else's.
    #[error(
        "{address} is none of its addresses ({own}); name the one that nodes call: HOST=ADDRESS"
    )]
    NotItsAddress {
        /// The one that was to be called.
        address: Ipv4Addr,
        /// Those that it has.
        own: String,
    },
    /// Two hosts are the same.
    #[error("has the address {0}, as another of the hosts has; each node needs a host of its own")]
    Twice(Ipv4Addr),
    /// The runner runs there.
    #[error(
        "is this machine; the runner needs to be outside, or faults would hit its own questions"
    )]
    Here,
    /// Neither root nor able to become it.
    #[error(
        "{0} is not root there and cannot become it without a password; log in as root@, or allow \
         {0} `sudo -n`"
    )]
    NotRoot(String),
    /// Another kind of machine.
    #[error(
        "is a {theirs} machine and the server here is built for {ours}; name one for it in \
         QUORATE_NODE_BIN"
    )]
    OtherMachine {
        /// What it says it is.
        theirs: String,
        /// What this one is.
        ours: String,
    },
    /// The binary does not start.
    #[error(
        "its C library is too old for the server that was built here: {0}; build on a system as old \
         as the oldest host, and name that binary in QUORATE_NODE_BIN"
    )]
    OldLibrary(String),
    /// The folder cannot be used.
    #[error("{dir} cannot be used: {said}; name another with --host-dir")]
    Folder {
        /// Which.
        dir: String,
        /// Why not.
        said: String,
    },
    /// No packet filter.
    #[error("has no `nft`, with which packets are dropped: install nftables")]
    NoFilter,
    /// A packet filter that does not know what we need.
    #[error("its packet filter does not take our rules: {0}; Linux 5.7 and nftables 0.9.5 do")]
    OldFilter(String),
    /// Another run is there.
    #[error("another run uses it: {0}; wait for its end")]
    Busy(String),
    /// Somebody listens on our ports.
    #[error("something listens on port {0} there; choose others with --host-port")]
    PortTaken(u16),
    /// One of our ports is ssh's.
    #[error("port {0} is its ssh's and would be cut; choose others with --host-port")]
    SshPort(u16),
    /// The ssh server forwards nothing.
    #[error(
        "its ssh server forwards no connections ({0}), and past faults the runner asks nodes through \
         those: set AllowTcpForwarding to yes there"
    )]
    NoForwarding(String),
    /// Packets to the node do not arrive.
    #[error("{from} cannot connect to {to}: {said}; is a firewall between them?")]
    Blocked {
        /// Who calls.
        from: String,
        /// Where.
        to: String,
        /// What happened.
        said: String,
    },
    /// It was there and is not any more.
    #[error("the ssh connection to it is lost, and with it its node and our rules there: {0}")]
    Lost(String),
    /// Something else that was asked of it failed.
    #[error("{what} failed: {said}")]
    Failed {
        /// What.
        what: &'static str,
        /// What it said.
        said: String,
    },
}

/// Several hosts, each with what is wrong.
#[derive(Debug, Error)]
pub struct HostErrors(pub Vec<HostError>);

impl fmt::Display for HostErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            f.write_str(if number == 0 { "" } else { "\n  " })?;
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl Why {
    /// What ssh's last words mean when it could not connect.
    #[must_use]
    pub fn of_ssh(said: &str) -> Self {
        let has = |word: &str| said.contains(word);
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
        let last = last.unwrap_or("it said nothing").to_owned();
        if has("Host key verification failed") || has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            Self::UnknownKey(last)
        } else if has("Permission denied") || has("Too many authentication failures") {
            Self::Refused(last)
        } else {
            Self::Unreachable(last)
        }
    }

    /// What it means that a binary did not say its version there.
    #[must_use]
    pub fn of_program(dir: &str, said: &str) -> Self {
        let last = said.lines().last().unwrap_or_default().trim().to_owned();
        if said.contains("GLIBC") || said.contains("not found") || said.contains("shared librar") {
            Self::OldLibrary(last)
        } else if said.contains("Permission denied") {
            let said = format!("programs in it cannot be run ({last}; mounted noexec?)");
            Self::Folder { dir: dir.to_owned(), said }
        } else {
            Self::Failed { what: "starting the server with --version", said: last }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_s_words_have_their_meaning() {
        let of = |said: &str| Why::of_ssh(said);
        let denied = "root@h1: Permission denied (publickey,password).\r\n";
        assert!(
            matches!(of(denied), Why::Refused(said) if said.ends_with("(publickey,password)."))
        );
        let key = "No ED25519 host key is known for h1 and you have requested strict checking.\n\
                   Host key verification failed.\n";
        assert!(matches!(of(key), Why::UnknownKey(_)));
        for said in [
            "ssh: connect to host h1 port 22: Connection refused",
            "ssh: connect to host h1 port 22: Connection timed out",
            "ssh: Could not resolve hostname h1: Name or service not known",
            "",
        ] {
            assert!(matches!(of(said), Why::Unreachable(_)), "{said}");
        }
    }

    #[test]
    fn a_server_that_does_not_start_says_why() {
        let of = |said: &str| Why::of_program("/var/tmp/x", said);
        let old = "quorate-node: /lib/libc.so.6: version `GLIBC_2.34' not found (required by it)";
        assert!(matches!(of(old), Why::OldLibrary(said) if said.contains("GLIBC_2.34")));
        assert!(matches!(of("sh: 1: x: Permission denied"), Why::Folder { .. }));
        assert!(matches!(of("Killed"), Why::Failed { .. }));
    }

    #[test]
    fn an_error_names_its_host_and_what_to_do() {
        let one = |why| HostError { host: "root@h2".to_owned(), why };
        let all = HostErrors(vec![one(Why::NoFilter), one(Why::PortTaken(7101))]).to_string();
        assert!(all.starts_with("root@h2: has no `nft`") && all.contains("install nftables\n"));
        assert!(all.contains("\n  root@h2: something listens on port 7101 there; choose others"));
    }
}
