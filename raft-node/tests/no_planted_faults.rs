//! The server that is built for use has no planted faults, and no way to ask for one.
#![cfg(not(feature = "planted"))]

use std::path::Path;

/// Names that the program with planted faults holds as text: the variable that asks for one, and
/// some faults that are asked for in different crates.
const NAMES: &[&str] = &["QUORATE_PLANTED", "skip_log_fsync", "stale_leader_read", "ack_on_send"];

fn holds(program: &[u8], name: &str) -> bool {
    program.windows(name.len()).any(|bytes| bytes == name.as_bytes())
}

#[test]
fn the_server_cannot_be_told_to_fail() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_quorate-node")).unwrap();
    assert!(holds(&program, "QUORATE_CRASH_AT"), "names of variables can be found at all");
    for name in NAMES {
        assert!(!holds(&program, name), "{name} is in the server");
    }
    // If the other program was built, too, it shows that the names are to be found in it.
    let planted =
        Path::new(env!("CARGO_BIN_EXE_quorate-node")).with_file_name("quorate-node-planted");
    if let Ok(program) = std::fs::read(planted) {
        for name in NAMES {
            assert!(holds(&program, name), "{name} is not in the program with planted faults");
        }
    }
}
