//! Every limit, with its reason. Checked at the edge; a refusal names the limit.

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

/// Longest log name, bytes.
pub const MAX_LOG_NAME_BYTES: usize = 255;

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
