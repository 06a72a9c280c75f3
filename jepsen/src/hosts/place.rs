//! How a host is named on the command line: `[USER@]HOST[:PORT][=ADDRESS]`.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where ssh is to go, and where the node there is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    /// Whoever ssh takes by itself, if absent.
    pub user: Option<String>,
    /// A name that ssh knows, also an alias of its configuration, or an address.
    pub host: String,
    /// ssh's own, if absent.
    pub port: Option<u16>,
    /// Where nodes and clients call the node, if that is not what ssh calls.
    pub address: Option<Ipv4Addr>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{text:?} is no host: {what}"));
        let (rest, address) = match text.split_once('=') {
            None => (text, None),
            Some((rest, address)) => match address.parse() {
                Ok(address) => (rest, Some(address)),
                Err(_) => return wrong("behind '=' stands an IPv4 address"),
            },
        };
        let (user, rest) = match rest.split_once('@') {
            None => (None, rest),
            Some((user, rest)) => (Some(user.to_owned()), rest),
        };
        let (host, port) = match rest.split_once(':') {
            None => (rest, None),
            Some((host, port)) => match port.parse() {
                Ok(port @ 1..) => (host, Some(port)),
                _ => return wrong("behind ':' stands a port (and IPv6 is not supported)"),
            },
        };
        // What begins with a dash would be an option of ssh's, what holds a blank two words.
        let plain = |word: &str| {
            let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !word.is_empty() && !word.starts_with('-') && word.chars().all(letter)
        };
        if !plain(host) || !user.as_deref().is_none_or(plain) {
            return wrong("it is written [USER@]HOST[:PORT][=ADDRESS]");
        }
        Ok(Self { user, host: host.to_owned(), port, address })
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        let address = place.address.map(|address| format!("={address}"));
        format!("{place}{}", address.unwrap_or_default())
    }
}

/// As one gives it to ssh, for people.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The hosts of a file: one a line; what follows a '#' is a comment.
///
/// # Errors
/// A line is no host.
pub fn in_file(text: &str) -> Result<Vec<Place>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Place {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_are_named_as_ssh_users_name_them() {
        let bare = Place { user: None, host: "db1".to_owned(), port: None, address: None };
        assert_eq!(parsed("db1"), bare);
        let all = Place {
            user: Some("root".to_owned()),
            host: "db1.example.org".to_owned(),
            port: Some(2222),
            address: Some(Ipv4Addr::new(10, 0, 0, 1)),
        };
        assert_eq!(parsed("root@db1.example.org:2222=10.0.0.1"), all);
        assert_eq!(all.to_string(), "root@db1.example.org:2222");
        assert_eq!(parsed(&String::from(all.clone())), all);
        assert_eq!(parsed("10.0.0.1").host, "10.0.0.1");
    }

    #[test]
    fn what_is_no_host_is_said_to_be_none() {
        for text in [
            "",
            "@db1",
            "root@",
            "db1:",
            "db1:0",
            "db1:70000",
            "db1:ssh",
            "-oProxyCommand=x",
            "a b",
            "root@-v",
            "-l@db1",
            "db1;reboot",
            "db1=",
            "db1=db2",
            "fe80::1",
            "[::1]:22",
            "a@b@c",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_file_has_a_host_a_line() {
        let text = "# three\nroot@h1\n\n  h2:2222  # in the cellar\nh3=10.0.0.3\n";
        let hosts: Vec<_> = in_file(text).unwrap().iter().map(Place::to_string).collect();
        assert_eq!(hosts, ["root@h1", "h2:2222", "h3"]);
        assert!(in_file("h1 h2\n").is_err());
        assert_eq!(in_file("# nobody\n").unwrap(), []);
    }
}
