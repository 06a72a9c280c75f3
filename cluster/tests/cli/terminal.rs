//! What is different when a person looks: colour, questions, a progress bar.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{FromRawFd as _, OwnedFd},
    process::Stdio,
};

use crate::cluster::{Cluster, Guard};

/// A terminal: the end a person sits at, and the end a program has.
fn terminal() -> (File, OwnedFd) {
    let (mut person, mut program) = (0, 0);
    let size = libc::winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let (null, no_termios) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: writes the two descriptors; name and termios may be null.
    let made = unsafe { libc::openpty(&mut person, &mut program, null, no_termios, &size) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both are open and nobody else's.
    unsafe { (File::from_raw_fd(person), OwnedFd::from_raw_fd(program)) }
}

/// Runs `quorate` on a terminal where `typed` is typed; its exit code and all that was shown.
fn on_a_terminal(cluster: &Cluster, args: &[&str], typed: &str) -> (Option<i32>, String) {
    let (mut person, program) = terminal();
    let end = || Stdio::from(program.try_clone().expect("a descriptor"));
    let mut command = cluster.command(args);
    command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm").env_remove("NO_COLOR");
    let mut child = Guard(command.spawn().expect("quorate runs"));
    drop((command, program));
    person.write_all(typed.as_bytes()).expect("typing");
    let mut shown = Vec::new();
    // Linux ends a terminal that nobody has open any more with an error.
    let _ = person.read_to_end(&mut shown);
    let status = child.0.wait().expect("it ends");
    (status.code(), String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn a_person_sees_more() {
    let cluster = Cluster::start();
    let file = cluster.path("input");
    std::fs::write(&file, "a line of some length\n".repeat(20_000)).unwrap();
    let append = ["append", "l", file.to_str().unwrap(), "--create", "--rate", "20000"];
    let (code, shown) = on_a_terminal(&cluster, &append, "");
    assert_eq!(code, Some(0), "{shown}");
    for part in ["KiB of 429.69 KiB", "records", "KiB/s", " left", "if this is cut off"] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    let last = shown.trim_end().lines().last().unwrap_or_default();
    assert!(last.contains("appended 20,000 records"), "the bar is gone at the end: {shown}");

    let (code, shown) = on_a_terminal(&cluster, &["status"], "");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("\x1b[32mleader\x1b[0m"), "{shown}");
    let (_, shown) = on_a_terminal(&cluster, &["status", "--color", "never"], "");
    assert!(!shown.contains('\x1b') && shown.contains("leader"), "{shown}");
    assert!(cluster.ok(&["status", "--color", "always"]).contains("\x1b[32mleader\x1b[0m"));

    // The same words into a pipe: no bar, no colour.
    let output = cluster.quorate(&append);
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && !said.contains(&0x1b), "{}", String::from_utf8_lossy(&said));

    let (code, shown) = on_a_terminal(&cluster, &["log", "delete", "l"], "n\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("Delete l with 40,000 records"), "{shown}");
    let (code, shown) = on_a_terminal(&cluster, &["log", "delete", "l"], "y\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(cluster.json(&["log", "list"])["logs"].as_array().unwrap().is_empty());
}
