//! Finds the records in a stream of bytes.

use std::io::{self, Read};

/// What separates records from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Framing {
    /// A line is a record, without its line feed; a carriage return stays.
    #[default]
    Lines,
    /// A record ends with a zero byte (`find -print0`).
    Null,
    /// Four bytes of length, big endian, then that many bytes of record.
    LenPrefixed,
    /// The whole input is one record.
    Whole,
}

/// Longest record the splitter holds in memory. The server's own limit is below it and is the one
/// that people meet; this one only keeps a file without line feeds from filling the memory.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// Bytes asked of the operating system at once: large enough that a system call costs nothing per
/// record, small enough to stay in the cache.
const READ_BYTES: usize = 256 << 10;

/// Why the input cannot be split.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// The operating system said no.
    #[error("reading the input failed: {0}")]
    Io(#[from] io::Error),
    /// A record over [`MAX_RECORD_BYTES`].
    #[error("record {number} of the input is longer than {MAX_RECORD_BYTES} bytes")]
    TooLong {
        /// Number of the record, from 1.
        number: u64,
    },
    /// The input ends inside a length-prefixed record.
    #[error("the input ends inside record {number}: {have} bytes of {want}")]
    Cut {
        /// Number of the record, from 1.
        number: u64,
        /// Bytes that are there, the prefix included.
        have: usize,
        /// Bytes the prefix promises, itself included.
        want: usize,
    },
}

/// Reads records one after the other, without copying them out of its buffer.
pub struct Splitter<R> {
    input: R,
    framing: Framing,
    /// `buffer[start..]` is read and not yet handed out. Grows to the longest record, no further.
    buffer: Vec<u8>,
    start: usize,
    /// Bytes behind `start` that are known to hold no delimiter: they are not searched twice.
    searched: usize,
    /// The record at `start`, if it was found already.
    peeked: Option<Found>,
    ended: bool,
    records: u64,
    consumed: u64,
}

impl<R: Read> Splitter<R> {
    /// A splitter at the start of `input`.
    pub fn new(input: R, framing: Framing) -> Self {
        Self {
            input,
            framing,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            peeked: None,
            ended: false,
            records: 0,
            consumed: 0,
        }
    }

    /// The next record, which stays the next one until [`Splitter::advance`]; `None` at the end of
    /// the input.
    ///
    /// # Errors
    /// [`SplitError`]; the input cannot be read further.
    pub fn peek(&mut self) -> Result<Option<&[u8]>, SplitError> {
        let found = loop {
            if let Some(found) = self.peeked.take().or_else(|| self.find()) {
                break found;
            }
            if self.ended {
                match self.rest()? {
                    Some(found) => break found,
                    None => return Ok(None),
                }
            }
            self.fill()?;
        };
        self.peeked = Some(found);
        let at = self.start + found.skip;
        Ok(Some(&self.buffer[at..at + found.len]))
    }

    /// Goes behind the record that [`Splitter::peek`] showed.
    pub fn advance(&mut self) {
        let found = self.peeked.take().expect("advance follows a peek that found a record");
        self.start += found.total;
        self.searched = 0;
        self.records += 1;
        self.consumed += found.total as u64;
    }

    /// Whether a record can be had without reading (reading may block).
    pub fn has_buffered(&mut self) -> bool {
        self.peeked = self.peeked.or_else(|| self.find());
        self.peeked.is_some()
    }

    /// Records gone behind so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of input gone behind so far, delimiters included.
    pub fn consumed_bytes(&self) -> u64 {
        self.consumed
    }

    /// A complete record at the start of the buffer.
    fn find(&mut self) -> Option<Found> {
        let waiting = &self.buffer[self.start..];
        let delimiter = match self.framing {
            Framing::Lines => b'\n',
            Framing::Null => 0,
            Framing::Whole => return None,
            Framing::LenPrefixed => {
                let len = prefix(waiting)?;
                return (waiting.len() - 4 >= len).then_some(Found {
                    skip: 4,
                    len,
                    total: 4 + len,
                });
            }
        };
        let found = memchr::memchr(delimiter, &waiting[self.searched..]);
        let Some(at) = found else {
            self.searched = waiting.len();
            return None;
        };
        let len = self.searched + at;
        Some(Found { skip: 0, len, total: len + 1 })
    }

    /// What is left when the input has ended without a final delimiter.
    fn rest(&self) -> Result<Option<Found>, SplitError> {
        let have = self.buffer.len() - self.start;
        if have == 0 {
            return Ok(None);
        }
        if self.framing == Framing::LenPrefixed {
            let want = 4 + prefix(&self.buffer[self.start..]).unwrap_or(0);
            return Err(SplitError::Cut { number: self.records + 1, have, want });
        }
        Ok(Some(Found { skip: 0, len: have, total: have }))
    }

    fn fill(&mut self) -> Result<(), SplitError> {
        let waiting = self.buffer.len() - self.start;
        let promised = match self.framing {
            Framing::LenPrefixed => prefix(&self.buffer[self.start..]).unwrap_or(0),
            _ => 0,
        };
        if waiting.max(promised) > MAX_RECORD_BYTES {
            return Err(SplitError::TooLong { number: self.records + 1 });
        }
        self.buffer.copy_within(self.start.., 0);
        self.start = 0;
        self.buffer.resize(waiting + READ_BYTES, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[waiting..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        // Also on an error nothing but what was read may stay behind.
        self.buffer.truncate(waiting + read.as_ref().copied().unwrap_or(0));
        self.ended = read? == 0;
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Found {
    /// Bytes before the record.
    skip: usize,
    /// Its length.
    len: usize,
    /// Length with what surrounds it.
    total: usize,
}

fn prefix(bytes: &[u8]) -> Option<usize> {
    let prefix: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    Some(u32::from_be_bytes(prefix) as usize)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hands out its bytes in pieces of the given lengths, over and over.
    pub(crate) struct Pieces<'a>(pub &'a [u8], pub Vec<usize>, pub usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let want = self.1.get(self.2 % self.1.len().max(1)).copied().unwrap_or(1).max(1);
            self.2 += 1;
            let n = want.min(out.len()).min(self.0.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn all(input: impl Read, framing: Framing) -> Result<Vec<Vec<u8>>, SplitError> {
        let mut splitter = Splitter::new(input, framing);
        let mut records = Vec::new();
        while let Some(record) = splitter.peek()? {
            records.push(record.to_vec());
            splitter.advance();
        }
        Ok(records)
    }

    #[test]
    fn lines() {
        let table: [(&[u8], &[&[u8]]); 6] = [
            (b"", &[]),
            (b"\n", &[b""]),
            (b"a\nb\n", &[b"a", b"b"]),
            (b"a\nb", &[b"a", b"b"]),
            (b"a\r\n\n\xff\0", &[b"a\r", b"", b"\xff\0"]),
            (b"\n\nx", &[b"", b"", b"x"]),
        ];
        for (input, want) in table {
            assert_eq!(all(input, Framing::Lines).unwrap(), want, "{input:?}");
        }
    }

    #[test]
    fn other_framings() {
        assert_eq!(
            all(&b"a\nb\0c\0"[..], Framing::Null).unwrap(),
            [b"a\nb".to_vec(), b"c".to_vec()]
        );
        assert_eq!(all(&b"a\nb\0c\n"[..], Framing::Whole).unwrap(), [b"a\nb\0c\n".to_vec()]);
        assert_eq!(all(&b""[..], Framing::Whole).unwrap(), Vec::<Vec<u8>>::new());
        let framed = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01\n";
        assert_eq!(
            all(&framed[..], Framing::LenPrefixed).unwrap(),
            [b"ab".to_vec(), vec![], b"\n".to_vec()]
        );
    }

    #[test]
    fn a_cut_length_prefixed_input_is_an_error() {
        for cut in 1..6 {
            let err = all(&b"\0\0\0\x02ab"[..cut], Framing::LenPrefixed).unwrap_err();
            assert!(matches!(err, SplitError::Cut { number: 1, have, .. } if have == cut), "{err}");
        }
    }

    #[test]
    fn a_record_without_end_does_not_fill_the_memory() {
        let endless = io::repeat(b'x');
        let err = all(endless, Framing::Lines).unwrap_err();
        assert!(matches!(err, SplitError::TooLong { number: 1 }), "{err}");
        // A prefix that promises too much is refused before anything is collected.
        let err = all(&b"\xff\xff\xff\xff...."[..], Framing::LenPrefixed).unwrap_err();
        assert!(matches!(err, SplitError::TooLong { number: 1 }), "{err}");
    }

    proptest! {
        /// However the operating system cuts the input, the records are those of the whole.
        #[test]
        fn cuts_do_not_matter(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(0u8), any::<u8>()], 0..400),
            cuts in proptest::collection::vec(1usize..20, 1..8),
        ) {
            for framing in [Framing::Lines, Framing::Null, Framing::Whole] {
                let whole = all(&input[..], framing).unwrap();
                let pieces = all(Pieces(&input, cuts.clone(), 0), framing).unwrap();
                prop_assert_eq!(&whole, &pieces);
            }
            // Joined with their delimiter, the lines are the input again.
            let mut joined = all(&input[..], Framing::Lines).unwrap().join(&b'\n');
            if input.last() == Some(&b'\n') {
                joined.push(b'\n');
            }
            prop_assert_eq!(joined, input);
        }

        #[test]
        fn has_buffered_never_lies(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(1usize..20, 1..8),
        ) {
            let mut splitter = Splitter::new(Pieces(&input, cuts, 0), Framing::Lines);
            loop {
                let ready = splitter.has_buffered();
                let reads_before = splitter.input.2;
                if splitter.peek().unwrap().is_none() {
                    break;
                }
                splitter.advance();
                prop_assert_eq!(ready, splitter.input.2 == reads_before);
            }
            prop_assert_eq!(splitter.consumed_bytes(), input.len() as u64);
        }
    }
}
