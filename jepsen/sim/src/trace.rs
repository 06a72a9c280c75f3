//! What happened, line by line, as a running hash; and as text when somebody wants to read it. Two
//! runs of one seed have the same lines.

use std::fmt;

/// Lines of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    lines: u64,
    print: bool,
}

impl Trace {
    /// Prints every line as well, if asked.
    #[must_use]
    pub fn new(print: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: 0, print }
    }

    /// Adds a line.
    pub fn line(&mut self, tick: u64, what: fmt::Arguments<'_>) {
        use fmt::Write as _;
        if self.print {
            println!("{tick:>8} {what}");
        }
        self.lines += 1;
        let mut hash = Fnv(self.hash);
        writeln!(hash, "{tick} {what}").expect("hashing does not fail");
        self.hash = hash.0;
    }

    /// Number of lines and their hash.
    #[must_use]
    pub fn digest(&self) -> (u64, u64) {
        (self.lines, self.hash)
    }
}

/// FNV-1a.
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}
