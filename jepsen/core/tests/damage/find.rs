//! Where in a history a damage can be done.

use super::*;

pub fn everywhere(history: &mut History, mut change: impl FnMut(&mut ReplicaLog)) {
    history.replicas.iter_mut().for_each(&mut change);
}

/// Gives the batches dense offsets again.
pub fn renumber(replica: &mut ReplicaLog) {
    let mut next = replica.start_offset;
    for batch in &mut replica.batches {
        batch.first_offset = next;
        next = batch.next_offset();
    }
    replica.next_offset = next;
}

pub fn batch(records: &[RecordId], like: &Batch) -> Batch {
    let records = records.iter().copied().map(Some).collect();
    Batch { records, producer: None, ..like.clone() }
}

pub fn append(op: &Op) -> Option<&Append> {
    match &op.call {
        Call::Append(append) => Some(append),
        _ => None,
    }
}

/// A random operation with this property.
pub fn some_op(history: &History, seed: &mut Seed, want: impl Fn(&Op) -> bool) -> usize {
    let fit: Vec<_> = (0..history.ops.len()).filter(|at| want(&history.ops[*at])).collect();
    *seed.pick(&fit)
}

pub fn acknowledged(op: &Op) -> bool {
    matches!(op.answer, Answer::Appended { .. })
}

pub fn stored_at(history: &History, op: &Op) -> usize {
    let record = append(op).expect("an append").records[0];
    history.replicas[0]
        .batches
        .iter()
        .position(|batch| batch.records.contains(&Some(record)))
        .expect("it is stored")
}

/// A read of which something was claimed.
pub fn claimed(history: &History, seed: &mut Seed) -> usize {
    some_op(history, seed, |op| {
        matches!(&op.answer, Answer::Read { batches, .. } if batches.len() > 2)
            && history.claims.iter().any(|claim| claim.op == op.id)
    })
}

pub fn long_read(history: &History, seed: &mut Seed) -> usize {
    some_op(
        history,
        seed,
        |op| matches!(&op.answer, Answer::Read { batches, .. } if batches.len() > 2),
    )
}

pub fn first_append(history: &History) -> usize {
    let first = history.replicas[0].batches[0].records[0].unwrap();
    let is = |op: &Op| append(op).is_some_and(|append| append.records[0] == first);
    history.ops.iter().position(is).unwrap()
}

pub fn two_of_a_producer(history: &History) -> [usize; 2] {
    let of = |producer: &str| -> Vec<usize> {
        (0..history.ops.len())
            .filter(|at| {
                append(&history.ops[*at]).and_then(|a| a.producer.as_deref()) == Some(producer)
            })
            .collect()
    };
    let ops = of("p0");
    [ops[0], ops[1]]
}
