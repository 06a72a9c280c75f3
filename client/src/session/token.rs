//! A session as text, small enough for a cookie.
//!
//! Layout: version, number of entries, then per entry the group (times two, plus one where only the
//! group's point counts and its log was forgotten), log index, incarnation, log name, and the
//! position token as what it shares with the one before and the rest; CRC32C of all that. In
//! URL-safe base64. The checksum finds damage on the way; whether the positions are genuine, nodes check.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use super::frontier::{Frontier, Seen};
use crate::position::Position;

const VERSION: u8 = 2;

/// Browsers take 4096 bytes of name, value and attributes; base64 adds a third.
const MAX_BYTES: usize = 2900;

/// A text that is no token of a session, or a damaged one, or one of a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSession {
    /// Not the text of a session, or changed on its way.
    #[error("the session token is malformed or damaged")]
    Malformed,
    /// Written by a newer version of this library.
    #[error("the session token has version {0}, which this client does not know")]
    Version(u8),
}

/// Writes as much as fits: the newest point of every group always, then logs, newest first. What is
/// left out weakens nothing but the check that a log was not deleted and created again.
pub(super) fn encode(frontier: &Frontier) -> String {
    let mut entries = Vec::new();
    let (mut written, mut last) = (0_u64, Bytes::new());
    for (log, seen) in frontier.by_weight() {
        let token = seen.position.as_bytes();
        let shared = last.iter().zip(token).take_while(|(a, b)| a == b).count();
        let mut entry = Vec::with_capacity(64 + log.len());
        let forgotten = frontier.is_forgotten(log, seen);
        encode_varint(u64::from(seen.group) << 1 | u64::from(forgotten), &mut entry);
        encode_varint(seen.log_index, &mut entry);
        encode_varint(seen.incarnation, &mut entry);
        put(&mut entry, log.as_bytes());
        encode_varint(shared as u64, &mut entry);
        put(&mut entry, &token[shared..]);
        if written >= frontier.groups() as u64 && entries.len() + entry.len() > MAX_BYTES {
            break;
        }
        entries.extend_from_slice(&entry);
        (written, last) = (written + 1, token.clone());
    }
    let mut out = vec![VERSION];
    encode_varint(written, &mut out);
    out.extend_from_slice(&entries);
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    URL_SAFE_NO_PAD.encode(out)
}

pub(super) fn decode(text: &str) -> Result<Frontier, BadSession> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| BadSession::Malformed)?;
    match bytes.first() {
        None => return Err(BadSession::Malformed),
        Some(&VERSION) => {}
        Some(&other) => return Err(BadSession::Version(other)),
    }
    let at = bytes.len().checked_sub(4).filter(|at| *at > 0).ok_or(BadSession::Malformed)?;
    let (body, mut crc) = bytes.split_at(at);
    if crc.get_u32() != crc32c::crc32c(body) {
        return Err(BadSession::Malformed);
    }
    let mut rest = &body[1..];
    let mut frontier = Frontier::default();
    let mut last = Vec::new();
    for _ in 0..number(&mut rest)? {
        let head = number(&mut rest)?;
        let group = (head >> 1).try_into().map_err(|_| BadSession::Malformed)?;
        let log_index = number(&mut rest)?;
        let incarnation = number(&mut rest)?;
        let log = std::str::from_utf8(take(&mut rest)?).map_err(|_| BadSession::Malformed)?;
        let shared = usize::try_from(number(&mut rest)?).map_err(|_| BadSession::Malformed)?;
        let mut token = last.get(..shared).ok_or(BadSession::Malformed)?.to_vec();
        token.extend_from_slice(take(&mut rest)?);
        let position = Position::from_bytes(token.clone().into());
        let seen = Seen { group, log_index, incarnation, position };
        match head & 1 {
            0 => frontier.observe(log, seen),
            _ => frontier.reached(log, seen),
        }
        last = token;
    }
    if rest.is_empty() { Ok(frontier) } else { Err(BadSession::Malformed) }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn number(rest: &mut &[u8]) -> Result<u64, BadSession> {
    decode_varint(rest).map_err(|_| BadSession::Malformed)
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadSession> {
    let length = usize::try_from(number(rest)?).map_err(|_| BadSession::Malformed)?;
    let (taken, behind) = rest.split_at_checked(length).ok_or(BadSession::Malformed)?;
    *rest = behind;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::frontier::tests::seen, *};

    #[test]
    fn a_token_fits_into_a_cookie_and_keeps_every_group() {
        let mut frontier = Frontier::default();
        for n in 0..1000 {
            let log = format!("tenant-{n}/a-log-with-a-rather-long-name");
            frontier.observe(&log, seen(n % 16, 1_000_000_000 + u64::from(n)));
        }
        let text = encode(&frontier);
        assert!(text.len() <= 4000, "{} characters", text.len());
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        let back = decode(&text).unwrap();
        assert_eq!(back.needs("unseen"), frontier.needs("unseen"));
    }

    #[test]
    fn every_group_is_kept_even_when_it_does_not_fit() {
        let mut frontier = Frontier::default();
        for group in 0..20 {
            frontier.observe(&format!("{group}{}", "x".repeat(250)), seen(group, 9));
            frontier.observe(&format!("small-{group}"), seen(group, 8));
        }
        let back = decode(&encode(&frontier)).unwrap();
        assert_eq!(back.needs("unseen"), frontier.needs("unseen"));
        assert_eq!(back.by_weight().len(), 20, "and nothing else");
    }

    #[test]
    fn damage_and_newer_versions_are_told_apart() {
        let mut frontier = Frontier::default();
        frontier.observe("a", seen(0, 5));
        frontier.observe("b", seen(0, 300));
        let good = encode(&frontier);
        assert_eq!(decode(&good), Ok(frontier));
        let bytes = URL_SAFE_NO_PAD.decode(&good).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                let error = decode(&URL_SAFE_NO_PAD.encode(&bad)).unwrap_err();
                let expected =
                    if at == 0 { BadSession::Version(bad[0]) } else { BadSession::Malformed };
                assert_eq!(error, expected, "byte {at}");
            }
        }
        for cut in 0..bytes.len() {
            assert!(decode(&URL_SAFE_NO_PAD.encode(&bytes[..cut])).is_err());
        }
        assert_eq!(decode("not base64 !"), Err(BadSession::Malformed));
    }

    proptest! {
        #[test]
        fn nonsense_is_refused(mut body in prop::collection::vec(any::<u8>(), 0..200)) {
            // With a right checksum, so that the rest is looked at.
            body.insert(0, VERSION);
            let crc = crc32c::crc32c(&body);
            body.put_u32(crc);
            let _ = decode(&URL_SAFE_NO_PAD.encode(&body));
        }

        #[test]
        fn sessions_come_back(
            logs in prop::collection::btree_map("[a-z]{1,9}", (0..4_u32, any::<u64>(), any::<bool>()), 0..20)
        ) {
            let mut frontier = Frontier::default();
            for (log, (group, index, forget)) in logs {
                frontier.observe(&log, seen(group, index));
                if forget {
                    frontier.forget(&log);
                }
            }
            prop_assert_eq!(decode(&encode(&frontier)), Ok(frontier));
        }
    }
}
