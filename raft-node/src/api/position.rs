//! Position tokens: opaque to clients, checked when they come back.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_state_machine::types::{GroupId, Incarnation, LogIndex, LogPoint, Term};

const VERSION: u8 = 1;
/// version, cluster id, group, term, index, incarnation, CRC32C.
const LEN: usize = 1 + 16 + 4 + 8 + 8 + 8 + 4;

/// A point of a group's history, as handed out with every append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The cluster.
    pub cluster: [u8; 16],
    /// The group.
    pub group: GroupId,
    /// Term and index.
    pub at: LogPoint,
    /// The log's incarnation (0: not about one log).
    pub incarnation: Incarnation,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPosition {
    /// Not one of our tokens, or damaged on its way.
    #[error("the position token is malformed or damaged")]
    Malformed,
    /// Made by a newer version.
    #[error("the position token has version {0}, which this node does not know")]
    Version(u8),
    /// Made by another cluster.
    #[error("the position token belongs to another cluster")]
    OtherCluster,
}

impl Position {
    /// The token.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(LEN);
        out.put_u8(VERSION);
        out.put_slice(&self.cluster);
        out.put_u32(self.group.0);
        out.put_u64(self.at.term.0);
        out.put_u64(self.at.index.0);
        out.put_u64(self.incarnation.0);
        out.put_u32(crc32c::crc32c(&out));
        out.freeze()
    }

    /// Checks a token that came from outside.
    ///
    /// # Errors
    /// [`BadPosition`].
    pub fn decode(token: &[u8], cluster: [u8; 16]) -> Result<Self, BadPosition> {
        let (&version, _) = token.split_first().ok_or(BadPosition::Malformed)?;
        if version != VERSION {
            return Err(BadPosition::Version(version));
        }
        let body: &[u8; LEN] = token.try_into().map_err(|_| BadPosition::Malformed)?;
        let u64_at = |at: usize| u64::from_be_bytes(body[at..at + 8].try_into().expect("8 bytes"));
        let u32_at = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().expect("4 bytes"));
        if u32_at(LEN - 4) != crc32c::crc32c(&body[..LEN - 4]) {
            return Err(BadPosition::Malformed);
        }
        if body[1..17] != cluster {
            return Err(BadPosition::OtherCluster);
        }
        Ok(Self {
            cluster,
            group: GroupId(u32_at(17)),
            at: LogPoint { term: Term(u64_at(21)), index: LogIndex(u64_at(29)) },
            incarnation: Incarnation(u64_at(37)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position {
            cluster: [7; 16],
            group: GroupId(3),
            at: LogPoint { term: Term(4), index: LogIndex(5) },
            incarnation: Incarnation(6),
        }
    }

    #[test]
    fn round_trip_and_every_damage() {
        let token = position().encode();
        assert_eq!(Position::decode(&token, [7; 16]), Ok(position()));
        assert_eq!(Position::decode(&token, [8; 16]), Err(BadPosition::OtherCluster));
        assert_eq!(Position::decode(&[], [7; 16]), Err(BadPosition::Malformed));
        assert_eq!(Position::decode(&[9, 1], [7; 16]), Err(BadPosition::Version(9)));
        for cut in 1..token.len() {
            assert_eq!(Position::decode(&token[..cut], [7; 16]), Err(BadPosition::Malformed));
        }
        for byte in 1..token.len() {
            for bit in 0..8 {
                let mut bad = token.to_vec();
                bad[byte] ^= 1 << bit;
                assert_eq!(Position::decode(&bad, [7; 16]), Err(BadPosition::Malformed));
            }
        }
    }
}
