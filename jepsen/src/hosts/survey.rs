//! What a host says about itself, and whether it will do.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::error::Why;

/// Run as whoever logs in.
pub const SURVEY: &str = include_str!("survey.sh");
/// Run as root: a folder, and a program's hash.
pub const PREPARE: &str = include_str!("prepare.sh");
/// Run as root: the same, and the program on standard input.
pub const INSTALL: &str = include_str!("install.sh");

/// Lines of KEY=VALUE.
#[derive(Debug, Default)]
pub struct Survey(BTreeMap<String, String>);

impl Survey {
    /// What a script printed. Lines of another form are somebody else's: a login script's, mostly.
    #[must_use]
    pub fn read(said: &str) -> Self {
        let pairs = said.lines().filter_map(|line| line.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    /// What another script printed, too.
    pub fn add(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// A value, or nothing.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// What goes before commands to make them root's.
    ///
    /// # Errors
    /// It is a machine of another kind, or nobody can be root there.
    pub fn root(&self) -> Result<&'static str, Why> {
        let ours = format!("Linux {}", std::env::consts::ARCH);
        let theirs = self.get("machine");
        if theirs != ours {
            return Err(Why::OtherMachine { theirs: theirs.to_owned(), ours });
        }
        match self.get("root") {
            "yes" => Ok(""),
            "sudo" => Ok("sudo -n"),
            _ => Err(Why::NotRoot(self.get("user").to_owned())),
        }
    }

    /// Where calls from here seem to come from, as the host sees it.
    #[must_use]
    pub fn from(&self) -> Option<Ipv4Addr> {
        self.get("from").parse().ok()
    }

    /// Whether the host has this address, if it says which it has.
    ///
    /// # Errors
    /// It has others.
    pub fn has(&self, address: Ipv4Addr) -> Result<(), Why> {
        let own = self.get("own");
        if own.is_empty() || own.split_whitespace().any(|one| one.parse() == Ok(address)) {
            return Ok(());
        }
        Err(Why::NotItsAddress { address, own: own.to_owned() })
    }

    /// Whether the folder and the tools will do.
    ///
    /// # Errors
    /// They won't.
    pub fn prepared(&self, dir: &str) -> Result<(), Why> {
        let folder = |said: &str| Err(Why::Folder { dir: dir.to_owned(), said: said.to_owned() });
        match (self.get("folder"), self.get("on")) {
            ("ok", "tmpfs" | "ramfs") => folder("it is in memory, where an fsync proves nothing"),
            ("ok", _) if self.get("nft").is_empty() => Err(Why::NoFilter),
            ("ok", _) => Ok(()),
            ("", _) => folder("nothing was heard of it"),
            (said, _) => folder(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(lines: &[(&str, &str)]) -> Survey {
        let mut said = "Welcome to h1!\n".to_owned();
        for (key, value) in lines {
            said += &format!("{key}={value}\n");
        }
        Survey::read(&said)
    }

    #[test]
    fn machines_and_users_that_will_not_do_are_named() {
        let machine = format!("Linux {}", std::env::consts::ARCH);
        let root = survey(&[("machine", &machine), ("root", "yes")]);
        assert_eq!(root.root().unwrap(), "");
        let sudo = survey(&[("machine", &machine), ("root", "sudo")]);
        assert_eq!(sudo.root().unwrap(), "sudo -n");
        let user = survey(&[("machine", &machine), ("root", "no"), ("user", "joe")]);
        assert!(matches!(user.root(), Err(Why::NotRoot(user)) if user == "joe"));
        let other = survey(&[("machine", "Linux vax"), ("root", "yes")]);
        assert!(
            matches!(other.root(), Err(Why::OtherMachine { theirs, .. }) if theirs == "Linux vax")
        );
        assert!(matches!(survey(&[]).root(), Err(Why::OtherMachine { .. })));
    }

    #[test]
    fn an_address_must_be_the_host_s() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        assert!(survey(&[("own", "10.0.0.1 fe80::1 172.17.0.1 ")]).has(address).is_ok());
        assert!(survey(&[("own", "10.0.0.11 ")]).has(address).is_err());
        assert!(survey(&[]).has(address).is_ok(), "it does not say");
        assert_eq!(survey(&[("from", "10.0.0.9")]).from(), Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(survey(&[("from", "fe80::1")]).from(), None);
    }

    #[test]
    fn a_folder_must_be_ours_and_on_a_disk() {
        let good = [("folder", "ok"), ("on", "ext2/ext3"), ("nft", "nftables v1.0.6")];
        assert!(survey(&good).prepared("/x").is_ok());
        assert!(matches!(survey(&good[..2]).prepared("/x"), Err(Why::NoFilter)));
        let memory = survey(&[("folder", "ok"), ("on", "tmpfs"), ("nft", "v1")]);
        assert!(matches!(memory.prepared("/x"), Err(Why::Folder { dir, .. }) if dir == "/x"));
        assert!(matches!(survey(&[]).prepared("/x"), Err(Why::Folder { .. })));
        assert!(survey(&[("folder", "it is not ours")]).prepared("/x").is_err());
    }
}
