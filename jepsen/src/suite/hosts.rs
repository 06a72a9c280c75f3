//! The hosts of the ssh backend, from the command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::hosts::{
    Request,
    place::{self, Place},
};

/// As many nodes as a run begins with.
const NODES: std::ops::RangeInclusive<usize> = 3..=9;

/// Where the ssh backend's nodes are, and how they are reached.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[command(next_help_heading = "The ssh backend")]
pub struct HostOptions {
    /// Hosts of your own, one a node: `[USER@]HOST[:PORT][=ADDRESS]`, separated by commas. ADDRESS is
    /// where nodes and clients call it, if that is not what ssh calls.
    #[arg(long, value_delimiter = ',', value_name = "HOST")]
    pub hosts: Vec<Place>,
    /// The same from a file, one a line.
    #[arg(long, alias = "nodes-file", value_name = "FILE", conflicts_with = "hosts")]
    pub hosts_file: Option<PathBuf>,
    /// The private key for all of them; otherwise what ssh finds by itself.
    #[arg(long, alias = "ssh-private-key", value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// An option for ssh, as behind its -o; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    pub ssh_option: Vec<String>,
    /// The first of three ports in a row that a node takes there.
    #[arg(long, value_name = "PORT", default_value_t = 7101, value_parser = clap::value_parser!(u16).range(1024..=65_000))]
    pub host_port: u16,
    /// The folder there that is ours, on a real disk; /var/tmp/quorate-jepsen-USER if absent.
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub host_dir: Option<String>,
}

/// What can be removed with all that is below it.
fn folder(dir: &str) -> Result<String, String> {
    let dir = dir.trim_end_matches('/');
    let parts: Vec<_> = dir.split('/').collect();
    let plain = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
    if parts.len() < 3 || !parts[0].is_empty() || !parts[1..].iter().all(plain) {
        return Err("is an absolute path, two folders deep at least, without '..'".to_owned());
    }
    Ok(dir.to_owned())
}

impl HostOptions {
    /// Whether hosts are named at all.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.hosts.is_empty() || self.hosts_file.is_some()
    }

    /// What to connect to.
    ///
    /// # Errors
    /// The file cannot be read, or there are too few hosts or too many.
    pub fn request(&self) -> Result<Request> {
        let places = match &self.hosts_file {
            None => self.hosts.clone(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("reading {}", path.display()))?;
                place::in_file(&text).map_err(anyhow::Error::msg)?
            }
        };
        ensure!(
            NODES.contains(&places.len()),
            "--backend ssh takes {} to {} hosts (--hosts root@h1,root@h2,root@h3 or --hosts-file \
             FILE), not {}",
            NODES.start(),
            NODES.end(),
            places.len()
        );
        let mut ssh = Vec::new();
        if let Some(identity) = &self.identity {
            ssh.extend(["-i".to_owned(), identity.display().to_string()]);
        }
        for option in &self.ssh_option {
            ssh.extend(["-o".to_owned(), option.clone()]);
        }
        Ok(Request { places, ssh, port: self.host_port, dir: self.host_dir.clone() })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        hosts: HostOptions,
    }

    fn line(words: &[&str]) -> Result<Request> {
        Line::try_parse_from([&["jepsen"], words].concat())?.hosts.request()
    }

    #[test]
    fn a_command_line_becomes_hosts_and_words_for_ssh() {
        let words = ["--hosts", "root@h1,h2:2222,h3", "--identity", "my key"];
        let more = ["--ssh-option", "ProxyJump=gate", "--ssh-option", "User=joe"];
        let request = line(&[&words[..], &more[..]].concat()).unwrap();
        let names: Vec<_> = request.places.iter().map(Place::to_string).collect();
        assert_eq!(names, ["root@h1", "h2:2222", "h3"]);
        assert_eq!(request.ssh, ["-i", "my key", "-o", "ProxyJump=gate", "-o", "User=joe"]);
        assert_eq!((request.port, request.dir), (7101, None));
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_called() {
        assert!(line(&[]).is_err(), "nobody");
        assert!(line(&["--hosts", "h1,h2"]).is_err(), "too few");
        assert!(line(&["--hosts", "h1,h2,-oProxyCommand=x"]).is_err(), "an option");
        assert!(line(&["--hosts", "h1,h2,h3", "--hosts-file", "x"]).is_err(), "both");
        assert!(line(&["--hosts-file", "/nowhere/hosts"]).is_err(), "no file");
        for dir in ["", "/", "/tmp", "data/x", "/var/../x", "/var//x"] {
            assert!(folder(dir).is_err(), "{dir:?} was taken");
        }
        assert_eq!(folder("/data/jepsen/").unwrap(), "/data/jepsen");
    }
}
