//! The part of the NATS client protocol that publishing to JetStream needs: text lines, with
//! payloads behind some of them. Pure.

use bytes::{Buf, Bytes, BytesMut};

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Its greeting, a JSON document.
    Info(Bytes),
    /// It wants to know whether we are there.
    Ping,
    /// We wanted to.
    Pong,
    /// Fine.
    Ok,
    /// Not fine; it ends the connection after most of these.
    Err(String),
    /// A message for us.
    Message {
        /// What it was sent to.
        subject: Bytes,
        /// What it says; empty when all it has is a status in its headers.
        payload: Bytes,
        /// That status line, for instance that nobody listens to what we published to.
        status: Option<String>,
    },
}

/// A line that is none of NATS.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the NATS protocol: {0:?}")]
pub struct Malformed(pub String);

/// Takes the next thing said out of what was received; `None` when it is not complete yet.
///
/// # Errors
/// [`Malformed`].
pub fn take(received: &mut BytesMut) -> Result<Option<Said>, Malformed> {
    let Some(end) = memchr::memchr(b'\n', received) else { return Ok(None) };
    let line = received[..end].strip_suffix(b"\r").unwrap_or(&received[..end]);
    let malformed = || Malformed(String::from_utf8_lossy(line).into_owned());
    let (verb, rest) = match memchr::memchr2(b' ', b'\t', line) {
        Some(at) => (&line[..at], line[at + 1..].trim_ascii()),
        None => (line, &b""[..]),
    };
    let said = match verb {
        b"MSG" | b"HMSG" => return message(received, end + 1, verb == b"HMSG"),
        b"INFO" => Said::Info(Bytes::copy_from_slice(rest)),
        b"PING" => Said::Ping,
        b"PONG" => Said::Pong,
        b"+OK" => Said::Ok,
        b"-ERR" => Said::Err(String::from_utf8_lossy(rest).trim_matches('\'').to_owned()),
        _ => return Err(malformed()),
    };
    received.advance(end + 1);
    Ok(Some(said))
}

/// `MSG subject sid [reply] bytes` and `HMSG subject sid [reply] header-bytes bytes`.
fn message(
    received: &mut BytesMut,
    header_at: usize,
    with_headers: bool,
) -> Result<Option<Said>, Malformed> {
    let line = received[..header_at].trim_ascii_end();
    let malformed = || Malformed(String::from_utf8_lossy(line).into_owned());
    let words: Vec<&[u8]> =
        line.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty()).collect();
    let number = |from_end: usize| -> Option<usize> {
        let word = words.get(words.len().checked_sub(from_end)?)?;
        std::str::from_utf8(word).ok()?.parse().ok()
    };
    let numbers = 1 + usize::from(with_headers);
    if words.len() < 3 + numbers {
        return Err(malformed());
    }
    let total = number(1).ok_or_else(malformed)?;
    let headers = if with_headers { number(2).ok_or_else(malformed)? } else { 0 };
    if headers > total {
        return Err(malformed());
    }
    let subject = Bytes::copy_from_slice(words[1]);
    if received.len() < header_at + total + 2 {
        return Ok(None);
    }
    received.advance(header_at);
    let head = received.split_to(headers);
    let payload = received.split_to(total - headers).freeze();
    received.advance(2);
    // `NATS/1.0 503 No Responders`: only a first line with more than the version is a status.
    let first = head[..].split(|b: &u8| *b == b'\r').next().unwrap_or_default();
    let status = std::str::from_utf8(first).ok().and_then(|l| l.strip_prefix("NATS/1.0"));
    let status = status.map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned);
    Ok(Some(Said::Message { subject, payload, status }))
}

/// Adds a publication to what will be sent.
pub fn publish(subject: &str, reply_to: &str, payload: &[u8], out: &mut BytesMut) {
    let head = format!("PUB {subject} {reply_to} {}\r\n", payload.len());
    out.reserve(head.len() + payload.len() + 2);
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_pieces_the_same_is_said() {
        let stream = b"INFO {\"server_name\":\"n1\"} \r\nPING\r\n+OK\r\n-ERR 'Slow Consumer'\r\n\
            MSG _INBOX.1.7 1 12\r\n{\"seq\":1}\r\n\n\r\nMSG a.b 1 reply.to 0\r\n\r\n\
            HMSG _INBOX.1.8 1 28 28\r\nNATS/1.0 503 No Responders\r\n\r\nHMSG s 1 12 15\r\nNATS/1.0\r\n\r\nabc\r\nPONG\r\n";
        let message =
            |subject: &'static str, payload: &'static [u8], status: Option<&str>| Said::Message {
                subject: subject.into(),
                payload: payload.into(),
                status: status.map(str::to_owned),
            };
        let want = [
            Said::Info("{\"server_name\":\"n1\"}".into()),
            Said::Ping,
            Said::Ok,
            Said::Err("Slow Consumer".into()),
            message("_INBOX.1.7", b"{\"seq\":1}\r\n\n", None),
            message("a.b", b"", None),
            message("_INBOX.1.8", b"", Some("503 No Responders")),
            message("s", b"abc", None),
            Said::Pong,
        ];
        for piece in [1, 2, 7, 1000] {
            let (mut received, mut said) = (BytesMut::new(), Vec::new());
            for part in stream.chunks(piece) {
                received.extend_from_slice(part);
                while let Some(next) = take(&mut received).expect("well formed") {
                    said.push(next);
                }
            }
            assert!(received.is_empty(), "pieces of {piece}");
            assert_eq!(said, want, "pieces of {piece}");
        }
    }

    #[test]
    fn nonsense() {
        for text in ["HELLO\r\n", "MSG\r\n", "MSG a 1 x\r\n", "HMSG a 1 9 3\r\n", "\r\n"] {
            take(&mut BytesMut::from(text)).expect_err(text);
        }
        assert_eq!(take(&mut BytesMut::from("MSG a 1 3\r\nab")), Ok(None));
    }

    #[test]
    fn a_publication() {
        let mut out = BytesMut::new();
        publish("bench.x", "_INBOX.1.2", b"hello", &mut out);
        assert_eq!(&out[..], b"PUB bench.x _INBOX.1.2 5\r\nhello\r\n");
    }
}
