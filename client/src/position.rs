//! Tokens and ids that callers keep and hand back.

use std::{fmt, str::FromStr};

use bytes::Bytes;

/// Where an answer stands in its group's history. Opaque; comes with every append and every read,
/// and makes a later read, on any replica, reflect at least that much. Its text form (hex) may be
/// stored and passed on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Position(Bytes);

impl Position {
    /// From the bytes that [`Position::as_bytes`] gave. Nodes check them when they come back.
    #[must_use]
    pub fn from_bytes(token: Bytes) -> Self {
        Self(token)
    }

    /// The token's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

impl FromStr for Position {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        Ok(Self(from_hex(text)?.into()))
    }
}

/// Who writes: 16 bytes, unique to one writer of one log. A log recognises repeated appends by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerId(pub [u8; 16]);

impl ProducerId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(*uuid::Uuid::new_v4().as_bytes())
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProducerId({self})")
    }
}

impl FromStr for ProducerId {
    type Err = NotHex;

    /// 32 hex digits; hyphens, as UUIDs have them, may stand between.
    fn from_str(text: &str) -> Result<Self, NotHex> {
        let bytes = from_hex(&text.replace('-', ""))?;
        bytes.try_into().map(Self).map_err(|_| NotHex)
    }
}

/// The text is not the hex form of what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the hex form of a token or an id")]
pub struct NotHex;

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn from_hex(text: &str) -> Result<Vec<u8>, NotHex> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(NotHex) };
    let digit = |c: u8| char::from(c).to_digit(16).ok_or(NotHex);
    let byte = |[high, low]: &[u8; 2]| Ok((digit(*high)? * 16 + digit(*low)?) as u8);
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_come_back() {
        let position = Position::from_bytes(Bytes::from_static(&[0, 1, 0xab, 0xff]));
        assert_eq!(position.to_string(), "0001abff");
        assert_eq!("0001abff".parse(), Ok(position.clone()));
        assert_eq!("0001ABFF".parse(), Ok(position));
        let id = ProducerId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let id: ProducerId = uuid.parse().unwrap();
        assert_eq!(id.to_string(), uuid.replace('-', ""));
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["0", "0g", "é0", "+1"] {
            assert_eq!(bad.parse::<Position>(), Err(NotHex), "{bad}");
        }
        for bad in ["", "00", "zz", &"0".repeat(31), &"0".repeat(34)] {
            assert_eq!(bad.parse::<ProducerId>(), Err(NotHex), "{bad}");
        }
    }
}
