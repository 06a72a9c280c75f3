//! Reading and writing the small binary forms of entries and stored values. Reading never panics
//! and never allocates: what is missing or wrong is named in the error.

use crate::types::{Digest, ReadLevel};

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// What is left of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Malformed("too few bytes"))?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed("too few bytes"))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[b]| b)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u64_be(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, Malformed> {
        self.array().map(Digest)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed("a number beyond 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number beyond 64 bits"))
    }

    /// What [`put_option`] wrote.
    pub(crate) fn option(&mut self) -> Result<Option<u64>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.u64().map(Some),
            _ => Err(Malformed("neither present nor absent")),
        }
    }

    /// What [`put_read_level`] wrote.
    pub(crate) fn read_level(&mut self) -> Result<Option<ReadLevel>, Malformed> {
        Ok(match self.u8()? {
            0 => None,
            1 => Some(ReadLevel::Linearizable),
            2 => Some(ReadLevel::Bounded { max_staleness_ms: self.u64()? }),
            3 => Some(ReadLevel::Eventual),
            _ => return Err(Malformed("a read level this build does not know")),
        })
    }

    pub(crate) fn version(&mut self, known: u8) -> Result<(), Malformed> {
        match self.u8()? {
            v if v == known => Ok(()),
            _ => Err(Malformed("a format version this build does not know")),
        }
    }

    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes behind the end")) }
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A flag byte, then 8 bytes if there is a value: a length that is known without encoding.
pub(crate) fn put_option(out: &mut Vec<u8>, value: Option<u64>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Bytes that [`put_option`] writes.
pub(crate) fn option_len(value: Option<u64>) -> usize {
    if value.is_some() { 9 } else { 1 }
}

/// A number for the level, then the bound if it has one.
pub(crate) fn put_read_level(out: &mut Vec<u8>, level: Option<ReadLevel>) {
    match level {
        None => out.push(0),
        Some(ReadLevel::Linearizable) => out.push(1),
        Some(ReadLevel::Bounded { max_staleness_ms }) => {
            out.push(2);
            out.extend_from_slice(&max_staleness_ms.to_le_bytes());
        }
        Some(ReadLevel::Eventual) => out.push(3),
    }
}

/// Bytes that [`put_read_level`] writes.
pub(crate) fn read_level_len(level: Option<ReadLevel>) -> usize {
    if matches!(level, Some(ReadLevel::Bounded { .. })) { 9 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_at_their_edges() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX]
        {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut input = Input(&out);
            assert_eq!(input.varint(), Ok(value));
            assert_eq!(input.end(), Ok(()));
            assert!(Input(&out[..out.len() - 1]).varint().is_err());
        }
        let mut too_big = vec![0xff; 9];
        too_big.push(2);
        assert!(Input(&too_big).varint().is_err());
        assert!(Input(&[0xff; 11]).varint().is_err());
    }
}
