//! The essence of a read header as gRPC metadata, for proxies and for people.

use quorate_proto::v1::ReadHeader;
use tonic::metadata::MetadataMap;

/// Upper bound on the age in milliseconds; absent: unknown.
pub(super) const AGE: &str = "x-data-lag-ms";

/// The position token in hexadecimal.
pub(super) const POSITION: &str = "x-position";

/// The term of the applied state.
pub(super) const TERM: &str = "x-term";

fn put(metadata: &mut MetadataMap, name: &'static str, value: String) {
    metadata.insert(name, value.parse().expect("digits are fine metadata"));
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// All of it.
pub(super) fn say(metadata: &mut MetadataMap, header: &ReadHeader) {
    say_age(metadata, header.age_ms);
    put(metadata, POSITION, hexadecimal(&header.position));
    put(metadata, TERM, header.term.to_string());
}

/// The age alone.
pub(super) fn say_age(metadata: &mut MetadataMap, age_ms: Option<u64>) {
    if let Some(age) = age_ms {
        put(metadata, AGE, age.to_string());
    }
}

/// Of an answer about several groups, there is only the age of the oldest, if all are known: points
/// of several groups don't fit into one line.
pub(super) fn of(headers: &[ReadHeader]) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    match headers {
        [header] => say(&mut metadata, header),
        headers => {
            let unknown = headers.iter().any(|header| header.age_ms.is_none());
            let oldest = headers.iter().filter_map(|header| header.age_ms).max();
            say_age(&mut metadata, oldest.filter(|_| !unknown));
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(age_ms: Option<u64>) -> ReadHeader {
        ReadHeader { age_ms, position: vec![1, 0xab].into(), term: 7, ..ReadHeader::default() }
    }

    fn said(headers: &[ReadHeader]) -> [Option<String>; 3] {
        let metadata = of(headers);
        [AGE, POSITION, TERM].map(|name| Some(metadata.get(name)?.to_str().unwrap().to_owned()))
    }

    #[test]
    fn what_is_said() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(said(&[header(Some(40))]), [some("40"), some("01ab"), some("7")]);
        assert_eq!(said(&[header(None)]), [None, some("01ab"), some("7")], "unknown is absent");
        let (young, old) = (header(Some(3)), header(Some(90)));
        assert_eq!(said(&[young.clone(), old.clone()]), [some("90"), None, None]);
        assert_eq!(said(&[young, header(None), old]), [None, None, None]);
    }
}
