//! The client SDK as the commands use it: made from the global options, with its errors turned into
//! sentences for people.

use quorate_client::{Client, Effect, Endpoint, Error, ErrorKind};

use crate::{
    args::Global,
    exit::{Exit, Failure},
    output::units,
};

/// A client of the cluster that the global options name. Connects to nothing yet.
///
/// # Errors
/// An address that is none.
pub fn client(global: &Global) -> Result<Client, Failure> {
    Ok(Client::builder()
        .endpoints(global.endpoints.0.iter().cloned())
        .request_timeout(global.timeout())
        .connect_timeout(global.timeout().min(std::time::Duration::from_secs(2)))
        .build()?)
}

/// A node's address as given with `--node`.
///
/// # Errors
/// It is no address.
pub fn endpoint(address: &str) -> Result<Endpoint, Failure> {
    Endpoint::new(address).map_err(|e| Failure::usage(format!("--node: {}", e.message())))
}

/// An address as people write it.
#[must_use]
pub fn short(address: &str) -> &str {
    address.trim_start_matches("http://")
}

/// A message without what only programmers want to know: which layer said it, and its number.
#[must_use]
pub fn plain(message: &str) -> String {
    let message = message.trim_start_matches("tcp connect error: ");
    match message.rsplit_once(" (os error ") {
        Some((text, number)) if number.trim_end_matches(')').parse::<u32>().is_ok() => text,
        _ => message,
    }
    .to_owned()
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut what = plain(error.message());
        // Whose words these are matters when a node or the way to it is the trouble, and only then.
        if let (true, Some(endpoint)) = (is_about_nodes(error.kind()), error.endpoint()) {
            what = format!("{}: {what}", short(endpoint));
        }
        let exit = match error.effect() {
            Effect::None => Exit::Refused,
            Effect::Applied | Effect::Unknown => Exit::Unknown,
        };
        let advice = match error.effect() {
            Effect::Unknown => Some(
                "it may have taken effect, or may still: look before doing it again \
                 (quorate log describe, quorate read --last)"
                    .to_owned(),
            ),
            Effect::None | Effect::Applied => advice(&error),
        };
        Self { what, advice, exit }
    }
}

fn is_about_nodes(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::Deadline
            | ErrorKind::NotLeader
            | ErrorKind::ShuttingDown
            | ErrorKind::ResourceExhausted
            | ErrorKind::Corrupt
            | ErrorKind::Internal
            | ErrorKind::Unsupported
            | ErrorKind::TooStale
    )
}

/// What to do about it; `None` where the message says it all.
fn advice(error: &Error) -> Option<String> {
    Some(match error.kind() {
        ErrorKind::LogNotFound => "quorate log list shows the logs there are".into(),
        ErrorKind::LogExists => "choose another name, or be content with it: --if-absent".into(),
        ErrorKind::Fenced => {
            "another writer took over; to take over in turn: quorate fence LOG, then \
             --writer-epoch with the epoch it prints"
                .into()
        }
        ErrorKind::EpochNotGranted => "epochs are granted by quorate fence LOG".into(),
        ErrorKind::OffsetMismatch | ErrorKind::OutOfRange => {
            format!("the log's next offset is {}", error.next_offset()?)
        }
        ErrorKind::Trimmed => format!("the first readable offset is {}", error.start_offset()?),
        ErrorKind::LogRecreated => {
            "the name belongs to a new log now; start over with it, without the old one's offsets, \
             epochs and producers"
                .into()
        }
        ErrorKind::Unavailable
        | ErrorKind::Deadline
        | ErrorKind::NotLeader
        | ErrorKind::ShuttingDown => {
            "quorate status shows which nodes answer; more --endpoints or a longer --timeout may help"
                .into()
        }
        ErrorKind::ResourceExhausted => "the node is busy: again later, or slower (--rate)".into(),
        ErrorKind::TooStale => match error.age() {
            Some(age) => format!("it could offer {}; ask for that, or ask another node", units::duration(age)),
            None => "ask another node".into(),
        },
        ErrorKind::Corrupt => "quorate verify --deep names the replica; the others have the data".into(),
        ErrorKind::BadPosition => "leave the position out to read what is there".into(),
        ErrorKind::Invalid => {
            let (name, value) = error.limit()?;
            format!("the limit {name} is {value}")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use quorate_proto::v1 as wire;

    use super::*;

    fn failure(detail: wire::ErrorDetail) -> Failure {
        Error::from_detail(detail).into()
    }

    fn detail(kind: wire::ErrorKind, effect: wire::Effect) -> wire::ErrorDetail {
        wire::ErrorDetail {
            kind: kind.into(),
            effect: effect.into(),
            message: "so it is".into(),
            next_offset: Some(7),
            ..Default::default()
        }
    }

    #[test]
    fn exit_codes_tell_the_effect() {
        use wire::{Effect as E, ErrorKind as K};
        let table = [
            (K::LogNotFound, E::None, Exit::Refused),
            (K::Unavailable, E::None, Exit::Refused),
            (K::Unavailable, E::Unknown, Exit::Unknown),
            (K::SequenceStale, E::Applied, Exit::Unknown),
            (K::Internal, E::Unspecified, Exit::Unknown),
        ];
        for (kind, effect, exit) in table {
            assert_eq!(failure(detail(kind, effect)).exit, exit, "{kind:?} {effect:?}");
        }
    }

    #[test]
    fn plain_words() {
        let table = [
            ("tcp connect error: Connection refused (os error 111)", "Connection refused"),
            ("no quorum (os error x)", "no quorum (os error x)"),
            ("so it is", "so it is"),
        ];
        for (message, want) in table {
            assert_eq!(plain(message), want);
        }
    }

    #[test]
    fn the_advice_has_the_numbers() {
        let f = failure(detail(wire::ErrorKind::OffsetMismatch, wire::Effect::None));
        assert_eq!(f.what, "so it is");
        assert_eq!(f.advice.as_deref(), Some("the log's next offset is 7"));
    }
}
