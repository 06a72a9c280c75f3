use prost::Message;
use tonic::{Code, Status};

use super::{from_wire::DETAIL_TYPE, *};

fn packed(detail: &wire::ErrorDetail, type_url: &str) -> Status {
    let status = tonic_types::pb::Status {
        code: Code::Unavailable as i32,
        message: "for people".to_owned(),
        details: vec![prost_types::Any {
            type_url: type_url.to_owned(),
            value: detail.encode_to_vec(),
        }],
    };
    Status::with_details(Code::Unavailable, "for people", status.encode_to_vec().into())
}

#[test]
fn a_detail_says_everything() {
    let detail = wire::ErrorDetail {
        kind: wire::ErrorKind::NotLeader.into(),
        retryable: true,
        effect: wire::Effect::None.into(),
        message: "ask node 2".to_owned(),
        leader: Some(wire::LeaderHint {
            node_id: 2,
            address: "http://127.0.0.1:7102".to_owned(),
            term: 9,
        }),
        retry_after_ms: 50,
        limit: "MAX".to_owned(),
        limit_value: 7,
        start_offset: Some(1),
        next_offset: Some(2),
        writer_epoch: Some(3),
        next_sequence: Some(4),
        age_ms: Some(5),
        stamp: Some(Stamp { log_index: 6, ..Stamp::default() }),
        header: Some(wire::ReadHeader { served_by: 8, age_ms: Some(9), ..Default::default() }),
    };
    let error = Error::from_status(&packed(&detail, DETAIL_TYPE), true).at("http://a");
    assert_eq!(error.kind(), ErrorKind::NotLeader);
    assert!(error.is_retryable());
    assert_eq!(error.effect(), Effect::None);
    assert_eq!(error.message(), "ask node 2");
    let leader = error.leader().unwrap();
    assert_eq!(
        (leader.node_id, leader.address.as_str(), leader.term),
        (2, "http://127.0.0.1:7102", 9)
    );
    assert_eq!(error.retry_after(), Duration::from_millis(50));
    assert_eq!(error.limit(), Some(("MAX", 7)));
    assert_eq!((error.start_offset(), error.next_offset()), (Some(1), Some(2)));
    assert_eq!((error.writer_epoch(), error.next_sequence()), (Some(3), Some(4)));
    assert_eq!(error.age(), Some(Duration::from_millis(5)));
    assert_eq!(error.stamp().unwrap().log_index, 6);
    assert_eq!(error.read_header().unwrap().served_by, 8);
    assert_eq!(error.to_string(), "ask node 2 (from http://a)");
}

#[test]
fn every_kind_keeps_its_name() {
    for number in 1..=25 {
        let wire_kind = wire::ErrorKind::try_from(number).unwrap();
        let detail = wire::ErrorDetail { kind: number, ..Default::default() };
        let error = Error::from_detail(detail);
        assert_eq!(format!("ERROR_KIND_{}", error.kind().name()), wire_kind.as_str_name());
    }
    assert!(wire::ErrorKind::try_from(26).is_err(), "a new kind: add it here");
}

#[test]
fn what_is_not_said_is_not_assumed() {
    let error = Error::from_detail(wire::ErrorDetail { kind: 1000, ..Default::default() });
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(error.effect(), Effect::Unknown);
    assert!(!error.is_retryable());
    // An empty address can't be followed.
    let hint = wire::LeaderHint { node_id: 1, address: String::new(), term: 3 };
    let error = Error::from_detail(wire::ErrorDetail { leader: Some(hint), ..Default::default() });
    assert_eq!(error.leader(), None);
}

#[test]
fn without_a_detail_the_code_decides() {
    use ErrorKind::{Deadline, Invalid, Unavailable, Unsupported};
    let table = [
        (Code::Unavailable, Unavailable, true, Effect::Unknown),
        (Code::Unknown, Unavailable, true, Effect::Unknown),
        (Code::Internal, Unavailable, true, Effect::Unknown),
        (Code::ResourceExhausted, Unavailable, true, Effect::Unknown),
        (Code::Cancelled, Deadline, true, Effect::Unknown),
        (Code::DeadlineExceeded, Deadline, true, Effect::Unknown),
        (Code::Unimplemented, Unsupported, false, Effect::None),
        (Code::PermissionDenied, Invalid, false, Effect::None),
        (Code::OutOfRange, Invalid, false, Effect::Unknown),
    ];
    for (code, kind, retryable, effect) in table {
        let status = Status::new(code, "x");
        let write = Error::from_status(&status, true);
        assert_eq!((write.kind(), write.is_retryable(), write.effect()), (kind, retryable, effect));
        let read = Error::from_status(&status, false);
        assert_eq!((read.kind(), read.effect()), (kind, Effect::None), "{code:?}");
    }
    // A detail of somebody else's is no detail.
    let foreign = packed(&wire::ErrorDetail::default(), "type.googleapis.com/google.rpc.Help");
    assert_eq!(Error::from_status(&foreign, true).effect(), Effect::Unknown);
    assert_eq!(Error::from_status(&foreign, true).kind(), Unavailable);
}

#[test]
fn a_connection_never_made_carried_nothing() {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let status = Status::from_error(Box::new(tonic::ConnectError(Box::new(refused))));
    let error = Error::from_status(&status, true);
    assert_eq!(error.effect(), Effect::None);
    assert!(error.message().contains("refused"), "{error}");
    let cut = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    assert_eq!(
        Error::from_status(&Status::from_error(Box::new(cut)), true).effect(),
        Effect::Unknown
    );
}

#[test]
fn doubt_about_an_earlier_attempt_stays() {
    let refusal = |kind: wire::ErrorKind, effect: wire::Effect, stamped: bool| {
        Error::from_detail(wire::ErrorDetail {
            kind: kind.into(),
            effect: effect.into(),
            stamp: stamped.then(Stamp::default),
            ..Default::default()
        })
    };
    use wire::{Effect as E, ErrorKind as K};
    // kind, its effect, stamped, earlier unknown, with producer => effect of the call
    let table = [
        (K::LogNotFound, E::None, true, false, false, Effect::None),
        (K::LogNotFound, E::None, true, true, true, Effect::Unknown),
        (K::OffsetMismatch, E::None, true, true, true, Effect::Unknown),
        (K::Fenced, E::None, true, true, true, Effect::None),
        (K::Fenced, E::None, true, true, false, Effect::Unknown),
        (K::Fenced, E::None, false, true, true, Effect::Unknown),
        (K::SequenceStale, E::Applied, true, true, true, Effect::Applied),
        (K::Unavailable, E::Unknown, false, false, false, Effect::Unknown),
    ];
    for (kind, effect, stamped, earlier, producer, expected) in table {
        let error = refusal(kind, effect, stamped).after_unknown(earlier, producer);
        assert_eq!(error.effect(), expected, "{kind:?} {earlier} {producer}");
    }
}
