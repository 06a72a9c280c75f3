//! What the program says with its exit code.

use quorate_jepsen_core::check::Verdict;

use super::results;

/// What was asked cannot be done: no such fault, or not on this machine.
pub const BAD_ARGUMENTS: u8 = 254;

/// The suite itself broke.
pub const BROKEN: u8 = 255;

/// Of a verdict.
#[must_use]
pub fn code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Valid => 0,
        Verdict::Invalid => 1,
        Verdict::Unknown => 2,
    }
}

/// Of a verdict that was stored by its name; a run without one broke.
#[must_use]
pub fn code_of(name: &str) -> u8 {
    let all = [Verdict::Valid, Verdict::Invalid, Verdict::Unknown];
    all.into_iter().find(|verdict| results::name(*verdict) == name).map_or(BROKEN, code)
}

/// The worse of two: broken, then invalid, then unknown, then valid.
#[must_use]
pub fn worse(a: u8, b: u8) -> u8 {
    let rank = |code: u8| [0, 2, 1].iter().position(|known| *known == code).unwrap_or(3);
    if rank(a) >= rank(b) { a } else { b }
}
