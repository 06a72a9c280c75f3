//! What the kernel says about this process (`/proc/self`).

use std::fs;

/// One look. A value that could not be had is left out of the scrape: no number is better than
/// a wrong one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessSample {
    /// User and system time.
    pub cpu_seconds: Option<f64>,
    /// Resident set.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors, the one used to count them not included.
    pub open_fds: Option<u64>,
}

impl ProcessSample {
    /// Of this process, now.
    #[must_use]
    pub fn take() -> Self {
        let read = |path| fs::read_to_string(path).ok();
        Self {
            cpu_seconds: read("/proc/self/stat")
                .and_then(|stat| cpu_ticks(&stat))
                .zip(sysconf(libc::_SC_CLK_TCK))
                .map(|(ticks, per_second)| ticks as f64 / per_second as f64),
            resident_bytes: read("/proc/self/statm")
                .and_then(|statm| resident_pages(&statm))
                .zip(sysconf(libc::_SC_PAGESIZE))
                .and_then(|(pages, size)| pages.checked_mul(size)),
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
        }
    }
}

fn sysconf(name: libc::c_int) -> Option<u64> {
    // SAFETY: takes a number, returns a number.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|v| *v > 0)
}

/// utime + stime (proc_pid_stat(5), fields 14 and 15). The second field, the command, may hold
/// spaces and brackets: what follows is counted from its last closing one.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    // The first field here is the 3rd of the file.
    let mut fields = after_command.split_ascii_whitespace().skip(14 - 3);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// Second field of statm (proc_pid_statm(5)).
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_may_hold_anything() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 20 0 1";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (short) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
        assert_eq!(resident_pages("100 42 3"), Some(42));
        assert_eq!(resident_pages("100"), None);
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let sample = ProcessSample::take();
        assert!(sample.resident_bytes.is_some_and(|b| b > 100_000), "{sample:?}");
        assert!(sample.open_fds.is_some_and(|n| (3..10_000).contains(&n)), "{sample:?}");
        assert!(sample.cpu_seconds.is_some(), "{sample:?}");
    }
}
