//! A planted fault: a batch that is sent again is stored as two. In no build but the one for planted
//! faults.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use quorate_state_machine::{
    batch::{self, RecordRef},
    command::{AppendPart, Command},
    outcome::{Accepted, Outcome},
    types::{Batch, GroupId, ProducerId, Sequence},
};

use super::{
    context::{Context, Deadline},
    errors::ApiError,
};

/// What was asked of this process before, whether it could do it or not.
static SEEN: Mutex<BTreeSet<([u8; 16], u64)>> = Mutex::new(BTreeSet::new());

fn seen_before((ProducerId(id), Sequence(sequence)): (ProducerId, Sequence)) -> bool {
    !SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert((id, sequence))
}

/// The answer to both halves of a batch that was sent before; `None` for any other.
///
/// # Errors
/// As for any append.
pub(super) async fn append(
    context: &Context,
    group: GroupId,
    part: &AppendPart,
    deadline: Deadline,
) -> Result<Option<(Outcome, Accepted)>, ApiError> {
    let again = part.producer.is_some_and(seen_before);
    if !again || part.batch.count < 2 {
        return Ok(None);
    }
    let (first, second) = halves(&part.batch)?;
    let first = AppendPart { batch: first, ..part.clone() };
    let done = context.execute(group, Command::Append(vec![first]), deadline).await?;
    let Accepted::Appended(mut parts) = done.1 else {
        unreachable!("an append command is answered with Appended");
    };
    if !parts[0].deduplicated {
        let second =
            AppendPart { batch: second, producer: None, expected_offset: None, ..part.clone() };
        let (_, rest) = context.execute(group, Command::Append(vec![second]), deadline).await?;
        if let Accepted::Appended(rest) = rest {
            parts[0].next_offset = rest[0].next_offset;
        }
    }
    Ok(Some((done.0, Accepted::Appended(parts))))
}

fn halves(whole: &Batch) -> Result<(Batch, Batch), ApiError> {
    let records = batch::records(&whole.bytes).collect::<Result<Vec<_>, _>>()?;
    let half = |records: &[batch::RecordView<'_>]| {
        let plain =
            records.iter().map(|r| RecordRef { value: r.value, key: r.key, headers: vec![] });
        Batch::validate(batch::encode(plain), None)
    };
    let (first, second) = records.split_at(records.len() / 2);
    Ok((half(first)?, half(second)?))
}
