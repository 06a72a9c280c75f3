//! Where all randomness comes from: libraries roll their dice through `getrandom`, and this program
//! brings its own. In a thread that was given a seed it yields a stream of that seed; in any other,
//! what the kernel yields.
//!
//! A run has a thread of its own, so that everything that is seeded once per thread (the keys of
//! hash maps, the generators of `rand`) begins anew with it.

use std::cell::RefCell;

use quorate_jepsen_core::seed::Seed;

thread_local! {
    static STREAM: RefCell<Option<Seed>> = const { RefCell::new(None) };
}

/// From here on this thread's dice are `seed`'s.
pub fn seed_thread(seed: &Seed) {
    STREAM.set(Some(seed.fork("dice")));
}

/// What libraries call for randomness; see `getrandom(2)`.
///
/// # Safety
/// `buffer` must be writable for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    let seeded = STREAM.try_with(|stream| {
        let mut stream = stream.try_borrow_mut().ok()?;
        let stream = stream.as_mut()?;
        // SAFETY: the caller says that the buffer is writable for that many bytes.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&stream.next_u64().to_le_bytes()[..chunk.len()]);
        }
        Some(())
    });
    if matches!(seeded, Ok(Some(()))) {
        return isize::try_from(length).expect("a slice is at most isize::MAX bytes");
    }
    // SAFETY: the same arguments, to the system call that this function stands for.
    let done = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
    done as isize
}
