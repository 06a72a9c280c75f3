//! Every limit, with its reason. A refusal names the limit.
//!
//! Two kinds. *Edge* limits are checked where a request enters (and by nothing behind it), so they
//! may differ between versions. *Replicated* limits decide outcomes inside apply: two versions that
//! disagree about one would make replicas differ, so changing one needs a new entry format version
//! ([`crate::entry::FORMAT_VERSION`]).

/// A limit that was exceeded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is over the limit {limit} = {value}")]
pub struct LimitExceeded {
    /// What was wrong, for people.
    pub what: String,
    /// Name of the limit.
    pub limit: &'static str,
    /// Its value.
    pub value: u64,
}

/// Longest log name, bytes. Replicated. Its length must fit one byte of an entry, and 255 is what
/// file systems taught people to expect of names.
pub const MAX_LOG_NAME_BYTES: usize = 255;

/// Largest record: value, key and headers together, bytes. Edge. Larger things belong in an object
/// store, with a reference here.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// Largest serialized batch, bytes. Edge. A batch is atomic, stored as one value and held in memory
/// whole at every step, so its size bounds the memory of one request.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Most records in one batch. Edge. Bounds the work of a reader who wants one record of a batch.
pub const MAX_BATCH_RECORDS: usize = 65_536;

/// Longest record key, bytes. Edge. Keys are for identity; later they index a keyed view.
pub const MAX_KEY_BYTES: usize = 64 * 1024;

/// Most headers on one record. Edge. As many as HTTP servers commonly take.
pub const MAX_HEADERS: usize = 64;

/// Keys and values of all headers of one record, bytes. Edge. Headers are for routing and tracing,
/// not for payload.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// The proposer stops adding commands to an entry here, bytes. Edge. Per-entry costs vanish behind
/// a MiB, and several entries still fit into one AppendEntries in flight.
pub const TARGET_ENTRY_BYTES: usize = 1024 * 1024;

/// Hard bound of an entry, bytes. Edge. Peers size their receive buffers by it.
pub const MAX_ENTRY_BYTES: usize = 8 * 1024 * 1024;

/// Most parts of one multi-append. Edge. All parts are judged in one apply step.
pub const MAX_MULTI_PARTS: usize = 64;

/// Bytes of all batches of one multi-append together. Edge. What fits into one entry beside the
/// largest possible part headers.
pub const MAX_MULTI_BYTES: usize = MAX_ENTRY_BYTES - 64 * 1024;

/// Most commands in one entry. Replicated: a position in an entry is 16 bits of an incarnation.
pub const MAX_ENTRY_COMMANDS: usize = u16::MAX as usize;

/// Most logs in one group. Replicated. Listing and digest marks scan them.
pub const MAX_LOGS_PER_GROUP: u64 = 1_000_000;

/// Producers one log remembers. Replicated. At about 1 KiB each this bounds a log's memory of its
/// writers to 16 MiB.
pub const MAX_PRODUCERS_PER_LOG: u64 = 16_384;

/// Appends remembered of each producer. Replicated. A client may have this many appends in flight
/// and still learn the offsets of all of them by retrying.
pub const PRODUCER_WINDOW: u64 = 64;

/// A producer that appended nothing for this long (in the group's log time, rounded up to the next
/// whole hour) is forgotten, milliseconds. Replicated. A day outlives any retry loop and most
/// outages of a client.
pub const PRODUCER_TTL_MS: u64 = 24 * 60 * 60 * 1000;

/// Width of a producer expiry bucket, milliseconds. Replicated. A busy producer moves its expiry
/// entry this seldom.
pub const PRODUCER_BUCKET_MS: u64 = 60 * 60 * 1000;

/// Expired producers removed by one append of a new producer. Replicated. More than one, so that
/// the backlog shrinks; few, so that apply stays short.
pub const PRODUCER_SWEEP: usize = 16;

/// Highest epoch a caller may ask for in `Fence`. Replicated. Above it there is room for 2^62 more
/// fences, so no single call can use up a log's epochs.
pub const MAX_MIN_EPOCH: u64 = 1 << 62;

/// Digest marks kept per group. Replicated. `quorate verify` compares right after marking.
pub const DIGEST_MARKS: usize = 8;

/// Logs whose digests one mark lists. Replicated. The mark is one value; beyond this many logs the
/// group's digest still covers all of them.
pub const MAX_MARKED_LOGS: usize = 10_000;

/// Logs on one page of a listing: the default and the maximum. Edge.
pub const MAX_PAGE: usize = 1000;

// Relations that other code relies on.
const _: () = {
    assert!(MAX_LOG_NAME_BYTES <= u8::MAX as usize, "a name's length is one byte of an entry");
    assert!(MAX_KEY_BYTES + MAX_HEADER_BYTES < MAX_RECORD_BYTES, "a record can carry a value too");
    assert!(MAX_RECORD_BYTES < MAX_BATCH_BYTES, "the largest record fits into a batch");
    assert!(MAX_BATCH_BYTES < MAX_MULTI_BYTES, "the largest batch fits into an entry");
    assert!(TARGET_ENTRY_BYTES + MAX_BATCH_BYTES <= MAX_ENTRY_BYTES, "one batch over the target");
    assert!(
        MAX_MULTI_PARTS * crate::entry::MAX_PART_OVERHEAD + crate::entry::ENTRY_OVERHEAD
            <= MAX_ENTRY_BYTES - MAX_MULTI_BYTES,
        "the part headers of the largest multi-append fit beside its batches"
    );
    assert!(MAX_MULTI_PARTS <= u8::MAX as usize, "the number of parts is one byte of an entry");
    assert!(MAX_ENTRY_BYTES < u32::MAX as usize, "lengths in an entry are 32 bits");
    assert!(MAX_BATCH_RECORDS < u32::MAX as usize, "a batch's count is 32 bits");
    assert!(PRODUCER_TTL_MS.is_multiple_of(PRODUCER_BUCKET_MS), "the TTL is whole buckets");
    assert!(PRODUCER_WINDOW.is_multiple_of(crate::dedupe::CHUNK), "the window is whole chunks");
};

fn check(
    what: &str,
    unit: &str,
    actual: usize,
    limit: &'static str,
    max: usize,
) -> Result<(), LimitExceeded> {
    if actual <= max {
        return Ok(());
    }
    Err(LimitExceeded { what: format!("{what} of {actual} {unit}"), limit, value: max as u64 })
}

/// Checks a log name: 1 to [`MAX_LOG_NAME_BYTES`] bytes of `A-Z a-z 0-9 . _ - / : @ { }`.
///
/// # Errors
/// [`LimitExceeded`] naming the rule.
pub fn check_log_name(name: &str) -> Result<(), LimitExceeded> {
    let err = |what: String| {
        Err(LimitExceeded { what, limit: "log_name", value: MAX_LOG_NAME_BYTES as u64 })
    };
    if name.is_empty() {
        return err("an empty log name".into());
    }
    if name.len() > MAX_LOG_NAME_BYTES {
        return err(format!("a log name of {} bytes", name.len()));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-/:@{}".contains(*c))) {
        Some(c) => err(format!("a log name with the character {c:?}")),
        None => Ok(()),
    }
}

/// Checks the size of a serialized batch.
///
/// # Errors
/// [`LimitExceeded`] naming [`MAX_BATCH_BYTES`].
pub fn check_batch_bytes(bytes: usize) -> Result<(), LimitExceeded> {
    check("a batch", "bytes", bytes, "batch_bytes", MAX_BATCH_BYTES)
}

/// Checks the number of records in a batch.
///
/// # Errors
/// [`LimitExceeded`] naming [`MAX_BATCH_RECORDS`].
pub fn check_batch_records(records: usize) -> Result<(), LimitExceeded> {
    check("a batch", "records", records, "batch_records", MAX_BATCH_RECORDS)
}

/// Checks the sizes of one record.
///
/// # Errors
/// [`LimitExceeded`] naming the first of [`MAX_KEY_BYTES`], [`MAX_HEADERS`], [`MAX_HEADER_BYTES`]
/// and [`MAX_RECORD_BYTES`] that is exceeded.
pub fn check_record(
    value: usize,
    key: usize,
    headers: usize,
    header_bytes: usize,
) -> Result<(), LimitExceeded> {
    check("a record key", "bytes", key, "key_bytes", MAX_KEY_BYTES)?;
    check("a record", "headers", headers, "headers", MAX_HEADERS)?;
    check("record headers", "bytes", header_bytes, "header_bytes", MAX_HEADER_BYTES)?;
    check("a record", "bytes", value + key + header_bytes, "record_bytes", MAX_RECORD_BYTES)
}

/// Checks the number of parts of a multi-append.
///
/// # Errors
/// [`LimitExceeded`] naming [`MAX_MULTI_PARTS`].
pub fn check_multi_parts(parts: usize) -> Result<(), LimitExceeded> {
    check("a multi-append", "parts", parts, "multi_parts", MAX_MULTI_PARTS)
}

/// Checks the bytes of all batches of one append together: they share one entry.
///
/// # Errors
/// [`LimitExceeded`] naming [`MAX_MULTI_BYTES`].
pub fn check_entry_bytes(bytes: usize) -> Result<(), LimitExceeded> {
    check("a multi-append", "bytes", bytes, "multi_bytes", MAX_MULTI_BYTES)
}

/// The page size to use for an asked one; 0 asks for the default.
///
/// # Errors
/// [`LimitExceeded`] naming [`MAX_PAGE`].
pub fn check_page_size(asked: usize) -> Result<usize, LimitExceeded> {
    check("a page", "logs", asked, "page", MAX_PAGE)?;
    Ok(if asked == 0 { MAX_PAGE } else { asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_limit_is_fine_and_one_more_names_it() {
        assert!(check_log_name(&"a".repeat(255)).is_ok());
        assert_eq!(check_log_name(&"a".repeat(256)).unwrap_err().limit, "log_name");
        assert!(check_log_name("A-z_0.9/x:y@{t}").is_ok());
        for bad in ["", "a b", "ä", "a\n", "a\0"] {
            assert!(check_log_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_record(MAX_RECORD_BYTES - 2, 1, 1, 1).is_ok());
        assert_eq!(check_record(MAX_RECORD_BYTES, 1, 0, 0).unwrap_err().limit, "record_bytes");
        assert_eq!(check_record(0, MAX_KEY_BYTES + 1, 0, 0).unwrap_err().limit, "key_bytes");
        assert_eq!(check_record(0, 0, 65, 0).unwrap_err().limit, "headers");
        assert_eq!(check_record(0, 0, 1, 65_537).unwrap_err().limit, "header_bytes");
        assert_eq!(check_multi_parts(65).unwrap_err().limit, "multi_parts");
        assert_eq!(check_entry_bytes(MAX_MULTI_BYTES + 1).unwrap_err().value as usize, {
            MAX_MULTI_BYTES
        });
        assert_eq!(check_page_size(0), Ok(1000));
        assert_eq!(check_page_size(7), Ok(7));
        assert!(check_page_size(1001).is_err());
    }
}
