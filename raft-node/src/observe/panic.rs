//! A panic ends the process (docs/adr/0002).
//!
//! tokio catches the panic of a task and goes on. A node whose apply task is dead would still hold
//! its leadership, its connections and its clients; one that is gone is replaced within an election.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::Write as _,
    panic::{self, PanicHookInfo},
    process, thread,
};

/// From here on a panic anywhere in the process is logged and aborts it. Called once, by `main`,
/// after logging has started.
pub fn abort_on_panic() {
    panic::set_hook(Box::new(|info| {
        report(info);
        // Not exit: no destructor, no other thread, nothing that could touch the data runs on.
        process::abort();
    }));
}

fn report(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a payload that is not text");
    let current = thread::current();
    let thread = current.name().unwrap_or("unnamed");
    let location = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    // Taken when RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    if tracing::enabled!(tracing::Level::ERROR) {
        let backtrace = backtrace.as_ref().map(tracing::field::display);
        tracing::error!(thread, %location, backtrace, "panic, aborting: {message}");
    } else {
        // Logging is off, or it is what panicked: say it all the same. A failure to write to
        // stderr can't be told to anybody.
        let _ = writeln!(
            std::io::stderr(),
            "panic in thread {thread} at {location}, aborting: {message}"
        );
        if let Some(backtrace) = backtrace {
            let _ = writeln!(std::io::stderr(), "{backtrace}");
        }
    }
}
