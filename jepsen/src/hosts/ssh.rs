//! The system's ssh client: its command lines, and one-off commands on a host.
//!
//! One connection a host carries everything. Its master is a child of the runner that the kernel
//! ends with it, in the foreground: nothing lingers, whatever the user's configuration says.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{error::Why, place::Place};

/// What ssh does to whoever it cannot reach; a lost connection is noticed within 15 s.
const MANNERS: &[&str] = &[
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ControlPersist=no",
    "ExitOnForwardFailure=yes",
    "RemoteCommand=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "LogLevel=ERROR",
];

/// ssh's own exit code, when it failed and not the command.
pub const SSH_FAILED: i32 = 255;

/// How a client of HTTP/2 begins; the server answers with its settings.
pub(super) const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Beyond `ConnectTimeout`, because names are resolved before it counts, and keys exchanged behind.
const CONNECT_WITHIN: Duration = Duration::from_secs(60);

/// A host as ssh sees it.
#[derive(Clone, Debug)]
pub struct Ssh {
    place: Place,
    /// Where the master listens.
    socket: PathBuf,
    /// The user's: `-i`, `-o`.
    options: Vec<String>,
    /// What goes before commands, to become root.
    pub root: &'static str,
}

impl Ssh {
    /// How a host is reached; connects to nothing yet.
    #[must_use]
    pub fn new(place: &Place, socket: PathBuf, options: &[String]) -> Self {
        Self { place: place.clone(), socket, options: options.to_vec(), root: "" }
    }

    /// ssh with what it is always told. The first word on a matter counts: that nobody is there to
    /// answer questions, then what the user says, then what we would like.
    fn client(&self, more: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        // Its words are read by this program.
        command.env("LC_ALL", "C").args(["-T", "-o", "BatchMode=yes"]).args(&self.options);
        for option in MANNERS {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("ControlPath={}", self.socket.display()));
        if let Some(port) = self.place.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(more).args(["--", &self.destination()]);
        // SAFETY: prctl with these arguments is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        command
    }

    fn destination(&self) -> String {
        let user = self.place.user.as_ref().map(|user| format!("{user}@"));
        user.unwrap_or_default() + &self.place.host
    }

    /// Connects, in the background. The thread that does it must outlive the connection.
    ///
    /// # Errors
    /// There is no ssh client.
    pub fn connect(&self) -> Result<Master, Why> {
        let mut command = self.client(&["-N", "-o", "ControlMaster=yes"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().map(Master).map_err(|error| Why::NoClient(error.to_string()))
    }

    /// Waits until the connection stands.
    ///
    /// # Errors
    /// It does not come; with what ssh said.
    pub fn connected(&self, Master(master): &mut Master) -> Result<(), Why> {
        let start = Instant::now();
        loop {
            if self.socket.exists() {
                return Ok(());
            }
            if let Ok(Some(_)) | Err(_) = master.try_wait() {
                let mut said = String::new();
                if let Some(mut stderr) = master.stderr.take() {
                    // What cannot be read is missing in the message, no more.
                    let _ = stderr.read_to_string(&mut said);
                }
                return Err(Why::of_ssh(&said));
            }
            if start.elapsed() > CONNECT_WITHIN {
                return Err(Why::Unreachable(format!("no answer within {CONNECT_WITHIN:?}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A command over the connection, as root if [`Ssh::root`] says how.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let words: Vec<_> = self.root.split_whitespace().chain(words.iter().copied()).collect();
        let mut command = self.client(&["-o", "ControlMaster=no"]);
        command.arg(quoted(&words));
        command
    }

    /// Runs a shell script on the host, with arguments, and this on its standard input.
    ///
    /// # Errors
    /// It fails, with what it said; or the connection does.
    pub fn run(
        &self,
        what: &'static str,
        script: &str,
        arguments: &[&str],
        input: &mut dyn std::io::Read,
    ) -> Result<String, Why> {
        let words = [&["sh", "-c", script, "quorate-jepsen"], arguments].concat();
        let mut command = self.command(&words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Why::NoClient(error.to_string()))?;
        let mut stdin = child.stdin.take();
        // A command that ends without reading says why below.
        let written = stdin.as_mut().map_or(Ok(0), |stdin| std::io::copy(input, stdin));
        let flushed = stdin.as_mut().map_or(Ok(()), |stdin| stdin.flush());
        drop(stdin);
        let failed = |error: std::io::Error| Why::Failed { what, said: error.to_string() };
        let output = child.wait_with_output().map_err(failed)?;
        let said = said(&output);
        match output.status.code() {
            Some(0) => {
                written.and(flushed).map_err(failed)?;
                Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
            }
            Some(SSH_FAILED) => Err(Why::Lost(said)),
            _ => Err(Why::Failed { what, said }),
        }
    }

    /// What ssh will really call: the name or address behind an alias, and the port.
    ///
    /// # Errors
    /// There is no ssh client, or it does not know its own configuration.
    pub fn resolved(&self) -> Result<(String, u16), Why> {
        let output = self.client(&["-G"]).output();
        let output = output.map_err(|error| Why::NoClient(error.to_string()))?;
        if !output.status.success() {
            return Err(Why::Failed { what: "ssh -G", said: said(&output) });
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let name = value("hostname").unwrap_or(&self.place.host).to_owned();
        let port = value("port").and_then(|port| port.parse().ok()).unwrap_or(22);
        Ok((name, port))
    }

    /// Lets the host itself call an address, in the way that a node would.
    ///
    /// # Errors
    /// There is no ssh client.
    pub fn dial(&self, address: Ipv4Addr, port: u16, within: Duration) -> Result<Dialled, Why> {
        let to = format!("{address}:{port}");
        let mut command = self.client(&["-o", "ControlMaster=no", "-W", &to]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Why::NoClient(error.to_string()))?;
        // Whoever does not read it is not there.
        let stdin = child.stdin.take().map(|mut stdin| stdin.write_all(GREETING).map(|()| stdin));
        let (heard, hear) = mpsc::channel();
        let mut stdout = child.stdout.take();
        thread::spawn(move || {
            let mut byte = [0];
            let count = stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(&mut byte));
            // It may be that nobody waits for it any more.
            let _ = heard.send(count.is_ok_and(|count| count > 0));
        });
        let outcome = hear.recv_timeout(within);
        drop(stdin);
        if outcome.is_err() || outcome == Ok(true) {
            // It fails only when it has ended.
            drop(child.kill());
        }
        let output = child.wait_with_output();
        Ok(match outcome {
            Ok(true) => Dialled::Answered,
            Ok(false) => Dialled::Failed(output.map(|output| said(&output)).unwrap_or_default()),
            Err(_) => Dialled::Silent,
        })
    }

    /// Opens a port of this machine's loopback that leads to one of the host's, and says which.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn forward(&self, address: Ipv4Addr, port: u16) -> Result<u16, Why> {
        let mut last = String::new();
        // Somebody else may take the port between the look and the opening.
        for _ in 0..5 {
            let failed = |error: std::io::Error| Why::Failed {
                what: "finding a free port here",
                said: error.to_string(),
            };
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
            let here = free.local_addr().map_err(failed)?.port();
            drop(free);
            let way = format!("127.0.0.1:{here}:{address}:{port}");
            let output = self.client(&["-O", "forward", "-L", &way]).output().map_err(failed)?;
            if output.status.success() {
                return Ok(here);
            }
            last = said(&output);
        }
        Err(Why::Failed { what: "forwarding a port", said: last })
    }
}

/// The connection that carries all others; it ends when this is dropped.
#[derive(Debug)]
pub struct Master(Child);

impl Drop for Master {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialled {
    /// It was answered.
    Answered,
    /// Nothing was heard within the time.
    Silent,
    /// It was refused, or closed.
    Failed(String),
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// Words as one line of any shell: each stays one word, whatever is in it.
#[must_use]
pub fn quoted(words: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    let quote = |word: &&str| match word.is_empty() || !word.chars().all(plain) {
        true => format!("'{}'", word.replace('\'', r"'\''")),
        false => (*word).to_owned(),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    fn ssh(place: &str, options: &[&str]) -> Ssh {
        let options: Vec<_> = options.iter().map(|word| (*word).to_owned()).collect();
        Ssh::new(&place.parse().unwrap(), "/tmp/x/1".into(), &options)
    }

    #[test]
    fn every_word_stays_one_word_in_a_shell() {
        let odd =
            ["", "a b", "it's", "$HOME", "`id`", "a\nb", "*", "\\", "!x", "~", "\"", ";", "-n"];
        let script = format!("printf '%s\\0' {}", quoted(&odd));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.split_terminator('\0').collect::<Vec<_>>(), odd);
        assert_eq!(quoted(&["nft", "-f", "a=b:1/2"]), "nft -f a=b:1/2");
    }

    #[test]
    fn nobody_is_asked_and_the_user_s_word_comes_before_ours() {
        let ssh = ssh("root@h1:2222", &["-i", "my key", "-o", "ConnectTimeout=1"]);
        let all = words(&ssh.client(&["-N"]));
        let at = |word: &str| all.iter().position(|other| other == word).unwrap();
        assert!(at("BatchMode=yes") < at("ConnectTimeout=1"), "{all:?}");
        assert!(at("ConnectTimeout=1") < at("ConnectTimeout=10"), "{all:?}");
        assert!(at("ControlPath=/tmp/x/1") > 0 && at("my key") == at("-i") + 1, "{all:?}");
        assert_eq!(all[all.len() - 5..], ["-p", "2222", "-N", "--", "root@h1"]);
    }

    #[test]
    fn commands_go_over_as_one_word_behind_what_makes_them_root_s() {
        let mut ssh = ssh("h1", &[]);
        assert_eq!(
            words(&ssh.command(&["sh", "-c", "echo $1", "x y"])).pop().unwrap(),
            "sh -c 'echo $1' 'x y'"
        );
        ssh.root = "sudo -n";
        let all = words(&ssh.command(&["id"]));
        assert_eq!(all[all.len() - 3..], ["--", "h1", "sudo -n id"]);
    }
}
