//! Rows as faults leave them: a disk that returns other bits, and faults planted on purpose.

use crate::{
    keys::{self, Key},
    memory::Memory,
    values::LogMeta,
    view::{Write, Writes},
};

/// Every batch with its last bit flipped.
pub(super) fn flip_batches(rows: &Memory) -> Memory {
    let mut flipped = rows.clone();
    let batches = rows.rows().filter(|(key, _)| key.first() == Some(&keys::BATCH));
    let writes = batches.map(|(key, value)| {
        let mut value = value.to_vec();
        if let Some(last) = value.last_mut() {
            *last ^= 1;
        }
        Write::Put(Key::from_slice(key), value.into())
    });
    flipped.write(Writes(writes.collect()));
    flipped
}

/// A planted fault: all but what deduplication needs.
pub(super) fn forget_producers(rows: &Memory) -> Memory {
    let tables = [keys::PRODUCER, keys::CHUNK, keys::EXPIRY];
    let forgotten = rows.rows().filter(|(key, _)| key.first().is_some_and(|t| tables.contains(t)));
    let writes = forgotten.map(|(key, _)| Write::Delete(Key::from_slice(key))).collect();
    let mut rest = rows.clone();
    rest.write(Writes(writes));
    rest
}

/// A planted fault: logs as if they had never been fenced.
pub(super) fn forget_epochs(rows: &Memory) -> Memory {
    let logs = rows.rows().filter(|(key, _)| key.first() == Some(&keys::LOG));
    let writes = logs.filter_map(|(key, value)| {
        let log = LogMeta { writer_epoch: None, ..LogMeta::decode(value).ok()? };
        let mut value = Vec::new();
        log.encode_to(&mut value);
        Some(Write::Put(Key::from_slice(key), value.into()))
    });
    let writes = writes.collect();
    let mut rest = rows.clone();
    rest.write(Writes(writes));
    rest
}
