//! A lane without a node.

use super::*;

fn driver() -> (Queue, Driver) {
    let (queue, taken) = mpsc::unbounded_channel();
    (queue, Driver::new(Endpoint::new("127.0.0.1:1").unwrap(), taken))
}

fn ask(queue: &Queue, read: wire::ReadRequest) -> oneshot::Receiver<Result<Outcome>> {
    let (reply, answer) = oneshot::channel();
    let until = runtime::now() + Duration::from_secs(3);
    assert!(queue.send(Asked { read, until, reply }).is_ok());
    answer
}

/// A lane that closes for want of reads must not fail one that comes at that moment.
#[tokio::test]
async fn what_comes_while_a_lane_closes_is_answered() {
    let (queue, mut driver) = driver();
    let answer = ask(&queue, read(Some(From::Last(1)), None));
    let (requests, mut sent) = mpsc::unbounded_channel();
    let (node, answers) = mpsc::unbounded_channel();
    let mut answers: Answers<wire::ReadManyResponse> =
        Box::pin(tokio_stream::wrappers::UnboundedReceiverStream::new(answers));
    let node = async move {
        let request: wire::ReadManyRequest = sent.recv().await.expect("it is sent");
        let result = Some(Answered::Ok(wire::ReadResponse::default()));
        let answers = vec![wire::ReadAnswer { tag: request.reads[0].tag, result }];
        assert!(node.send(Ok(wire::ReadManyResponse { answers })).is_ok());
        assert!(sent.recv().await.is_none(), "no more come");
    };
    let (end, ()) = tokio::join!(driver.finish(requests, &mut answers), node);
    assert!(matches!(end, End::Idle));
    // With it goes every read that was left without an answer.
    drop(driver);
    assert!(answer.await.expect("an answer").expect("no error").is_some());
    let (reply, _gone) = oneshot::channel();
    let late = Asked { read: read(None, None), until: runtime::now(), reply };
    assert!(queue.send(late).is_err(), "the next one opens another lane");
}

#[tokio::test]
async fn a_request_stays_small_whatever_the_reads_carry() {
    let (queue, mut driver) = driver();
    let at_least = vec![vec![7; 49].into(); 256];
    let consistency = Some(wire::Consistency { at_least, ..Default::default() });
    let large = wire::ReadRequest { consistency, ..read(Some(From::Last(1)), None) };
    let _waiting: Vec<_> = (0..100).map(|_| ask(&queue, large.clone())).collect();
    driver.take_all();
    let (mut reads, mut requests) = (0, 0);
    while !driver.packed.is_empty() {
        let request = driver.pack();
        assert!(request.encoded_len() < PACK_BYTES + PACK_BYTES / 8);
        (reads, requests) = (reads + request.reads.len(), requests + 1);
    }
    assert!(reads == 100 && requests > 1, "{reads} in {requests}");
    // One that is larger by itself goes alone.
    let huge = wire::ReadRequest { log: "x".repeat(PACK_BYTES), ..Default::default() };
    let _waiting = [ask(&queue, huge.clone()), ask(&queue, huge)];
    driver.take_all();
    assert_eq!((driver.pack().reads.len(), driver.packed.len()), (1, 1));
}

fn read(from: Option<From>, to_offset: Option<u64>) -> wire::ReadRequest {
    let from = from.map(|from| wire::ReadFrom { from: Some(from) });
    wire::ReadRequest { from, to_offset, ..Default::default() }
}

#[test]
fn what_is_known_to_be_small() {
    let point = read(Some(From::Offset(7)), Some(8));
    assert!(is_small(&point));
    assert!(is_small(&read(Some(From::Offset(7)), Some(3))), "refused, which is small");
    assert!(is_small(&read(Some(From::Last(64)), None)));
    assert!(!is_small(&read(Some(From::Last(65)), None)));
    assert!(!is_small(&read(Some(From::Offset(7)), Some(7 + 65))));
    assert!(!is_small(&read(Some(From::Offset(7)), None)));
    assert!(!is_small(&read(None, Some(3))), "where the log begins is not known");
    assert!(!is_small(&read(Some(From::TimestampMs(7)), Some(8))));
    let all = read(None, None);
    assert!(is_small(&wire::ReadRequest { max_records: 64, ..all.clone() }));
    assert!(!is_small(&wire::ReadRequest { max_records: 65, ..all.clone() }));
    assert!(is_small(&wire::ReadRequest { max_bytes: 64 * 1024, ..all.clone() }));
    assert!(!is_small(&wire::ReadRequest { max_bytes: 64 * 1024 + 1, ..all.clone() }));
    assert!(!is_small(&all));
    let forward = wire::Consistency {
        on_unmet: wire::OnUnmet::Forward.into(),
        ..wire::Consistency::default()
    };
    assert!(!is_small(&wire::ReadRequest { consistency: Some(forward), ..point }));
}
