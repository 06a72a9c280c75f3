//! What belongs to a whole process: its log lines, how it ends when something panics, how it ends
//! when it is told twice to stop, its allocator. Each test but the last starts this binary again as
//! a child with itself selected; there the environment variable says what to do.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use quorate_raft_node::{
    observe::{
        logging::{self, Format},
        panic,
    },
    runtime,
    shutdown::{Phases, Signals},
};

const PART: &str = "QUORATE_TEST_PART";

/// What this child is to do; `None` in the parent.
fn part() -> Option<String> {
    std::env::var(PART).ok()
}

fn child(test: &str, part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(PART, part)
        .env_remove(logging::ENVIRONMENT)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn finish(mut child: Child) -> (ExitStatus, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap(), said)
}

fn event_loop() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A task that panics; the event loop would go on without it.
fn panic_in_a_task() {
    panic::abort_on_panic();
    event_loop().block_on(async {
        let task = runtime::spawn(async { panic!("index {} is gone", 7) });
        drop(task.await);
        std::process::exit(0);
    });
}

#[test]
fn a_panic_in_a_task_is_logged_and_aborts_the_process() {
    if let Some(how) = part() {
        match how.as_str() {
            "text" => logging::start(Format::Text, "info").unwrap(),
            "json" => logging::start(Format::Json, "info").unwrap(),
            "off" => logging::start(Format::Text, "off").unwrap(),
            _ => {}
        }
        return panic_in_a_task();
    }
    let this = "a_panic_in_a_task_is_logged_and_aborts_the_process";
    for how in ["text", "json", "off", "not started"] {
        let (status, said) = finish(child(this, how).spawn().unwrap());
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{how}: {status} {said}");
        for part in ["aborting: index 7 is gone", "tests/process.rs:", "tokio-rt-worker"] {
            assert!(said.contains(part), "{how}: no '{part}' in {said}");
        }
        if how == "json" {
            let line: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
            assert_eq!(line["level"], "ERROR");
            assert_eq!(line["message"], "panic, aborting: index 7 is gone");
        }
    }
}

#[test]
fn the_environment_says_what_is_logged_over_the_setting() {
    let this = "the_environment_says_what_is_logged_over_the_setting";
    if let Some(setting) = part() {
        if let Err(error) = logging::start(Format::Text, &setting) {
            eprintln!("{error}");
            std::process::exit(78);
        }
        tracing::debug!("ours, debug");
        tracing::info!("ours, info");
        tracing::debug!(target: "openraft::engine", "theirs, debug");
        tracing::info!(target: "openraft::engine", "theirs, info");
        tracing::warn!(target: "openraft::engine", "theirs, warn");
        std::process::exit(0);
    }
    let cases: [(&str, Option<&str>, &[&str]); 5] = [
        ("info", None, &["ours, info", "theirs, warn"]),
        ("info", Some(""), &["ours, info", "theirs, warn"]),
        ("info", Some("debug"), &["ours, debug", "ours, info", "theirs, warn"]),
        ("debug", Some("warn,openraft=info"), &["theirs, info", "theirs, warn"]),
        ("info", Some("verbose"), &["QUORATE_LOG: 'verbose' is not a level"]),
    ];
    for (setting, environment, wanted) in cases {
        let mut command = child(this, setting);
        environment.map(|value| command.env(logging::ENVIRONMENT, value));
        let (_, said) = finish(command.spawn().unwrap());
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), wanted.len(), "{setting} {environment:?}: {said}");
        for (line, wanted) in lines.iter().zip(wanted) {
            assert!(line.contains(wanted), "{setting} {environment:?}: {said}");
        }
    }
}

#[test]
fn a_closed_stderr_does_not_take_the_node_down() {
    let this = "a_closed_stderr_does_not_take_the_node_down";
    if part().is_some() {
        logging::start(Format::Text, "info").unwrap();
        panic::abort_on_panic();
        // The parent closes stderr, then stdin.
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        for _ in 0..10 {
            tracing::info!("nobody hears this");
        }
        std::process::exit(33);
    }
    let mut child = child(this, "log").stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(33));
}

/// Says that it is ready, waits for a signal, then hangs in a way that no event loop gets out of.
fn hang_in_shutdown() {
    event_loop().block_on(async {
        let mut signals = Signals::listen().unwrap();
        eprintln!("ready");
        let name = signals.first().await.unwrap();
        eprintln!("{name}");
        Phases::new()
            .then("hang", Duration::from_millis(1), || async {
                // Far longer than the parent needs; not for ever, so that a failing test ends.
                thread::sleep(Duration::from_secs(20));
            })
            .run()
            .await;
    });
}

#[test]
fn a_second_signal_ends_a_shutdown_that_hangs() {
    if part().is_some() {
        return hang_in_shutdown();
    }
    let this = "a_second_signal_ends_a_shutdown_that_hangs";
    for (first, second, name) in [
        (libc::SIGTERM, libc::SIGTERM, "SIGTERM"),
        (libc::SIGINT, libc::SIGTERM, "SIGINT"),
        (libc::SIGTERM, libc::SIGINT, "SIGTERM"),
    ] {
        let mut child = child(this, "hang").spawn().unwrap();
        let pid = libc::pid_t::try_from(child.id()).unwrap();
        let send = |signal| {
            // SAFETY: signals a child that was not waited for yet, so the number is still its own.
            assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        };
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut wait_for = |wanted: &str| {
            let mut line = String::new();
            while line.trim() != wanted {
                line.clear();
                assert_ne!(said.read_line(&mut line).unwrap(), 0, "ended before '{wanted}'");
            }
        };
        wait_for("ready");
        send(first);
        wait_for(name);
        send(second);
        wait_for("a second signal: stopped at once; nothing acknowledged is lost");
        assert_eq!(child.wait().unwrap().code(), Some(70));
    }
}

/// Of all the lines of a process that ends with an error, the last one says why.
#[test]
fn the_last_word_is_the_last_line() {
    let this = "the_last_word_is_the_last_line";
    const REST: usize = 1_000;
    if part().is_some() {
        logging::start(Format::Text, "info").unwrap();
        let (begun, others) = std::sync::mpsc::channel();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let begun = begun.clone();
                thread::spawn(move || {
                    for line in 0..REST {
                        tracing::warn!("the end as others see it");
                        if line == REST / 10 {
                            begun.send(()).unwrap();
                        }
                    }
                })
            })
            .collect();
        others.iter().take(threads.len()).for_each(drop);
        logging::last_word();
        tracing::error!("why it ended");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        std::process::exit(74);
    }
    let (status, said) = finish(child(this, "end").spawn().unwrap());
    assert_eq!(status.code(), Some(74), "{said}");
    assert!(said.lines().count() > REST / 10, "the others were heard before");
    assert!(said.lines().last().unwrap().contains("why it ended"), "{said}");
}

/// The allocator's own account at the end of the program: it is there, and set as the checkout's
/// `.cargo/config.toml` says.
#[test]
fn the_node_allocates_as_it_was_measured() {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate-node"))
        .arg("--version")
        .env("MALLOC_CONF", "stats_print:true")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    for setting in ["opt.oversize_threshold: 0\n", "opt.dirty_decay_ms: 30000 "] {
        assert!(said.contains(setting), "no {setting:?} in:\n{said}");
    }
}
