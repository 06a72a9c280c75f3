//! Record bytes that say who they are.
//!
//! `<16 hex digits of the id> <filler>`: the filler is a function of the id and the length, so that a
//! reader can tell an intact record from a damaged, cut or foreign one without remembering it.

use crate::{ids::RecordId, seed::Seed};

const HEAD: usize = 17;

/// Enough filler that a damaged id does not fit it by chance.
const MIN_FILLER: usize = 8;

/// The payload of a record, `length` bytes long but at least 25.
#[must_use]
pub fn encode(id: RecordId, length: usize) -> Vec<u8> {
    let mut bytes = format!("{:016x} ", id.0).into_bytes();
    let filler_len = length.saturating_sub(HEAD).max(MIN_FILLER);
    bytes.reserve_exact(filler_len);
    let mut seed = Seed::new(id.0 ^ ((filler_len as u64) << 48));
    while bytes.len() < HEAD + filler_len {
        for byte in seed.next_u64().to_le_bytes() {
            if bytes.len() < HEAD + filler_len {
                bytes.push(b'a' + byte % 26);
            }
        }
    }
    bytes
}

/// Who a payload says it is; `None` when it is not exactly what [`encode`] makes.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<RecordId> {
    let head = bytes.get(..HEAD)?;
    let digits = std::str::from_utf8(&head[..16]).ok()?;
    let id = RecordId(u64::from_str_radix(digits, 16).ok()?);
    (encode(id, bytes.len()) == bytes).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_its_record_and_any_damage_unnames_it() {
        for length in [0, 25, 26, 40, 100, 1000] {
            let bytes = encode(RecordId(0xabcd), length);
            assert_eq!(bytes.len(), length.max(25));
            assert_eq!(decode(&bytes), Some(RecordId(0xabcd)));
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1;
                assert_eq!(decode(&damaged), None, "byte {at} of {length}");
            }
            assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        }
    }
}
