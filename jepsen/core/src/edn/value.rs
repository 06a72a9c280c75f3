//! The little of EDN that histories take.

use std::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edn {
    /// `nil`.
    Nil,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number. Those beyond 64 bits with sign are written as big ones.
    Number(i128),
    /// `"text"`.
    Text(String),
    /// `:keyword`.
    Keyword(&'static str),
    /// `[a b]`.
    Vector(Vec<Edn>),
    /// `{k v, k v}`, in this order.
    Map(Vec<(Edn, Edn)>),
}

impl Edn {
    /// A number.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Self::Number(i128::from(number))
    }

    /// A map with keywords as keys; entries without a value are left out.
    #[must_use]
    pub fn map(entries: impl IntoIterator<Item = (&'static str, Option<Self>)>) -> Self {
        let entries = entries.into_iter();
        Self::Map(entries.filter_map(|(key, value)| Some((Self::Keyword(key), value?))).collect())
    }
}

impl From<&str> for Edn {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for Edn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => {
                value.fmt(f)?;
                // Without the mark a reader of 64-bit numbers would refuse it.
                if i64::try_from(*value).is_err() { f.write_str("N") } else { Ok(()) }
            }
            Self::Text(text) => {
                f.write_str("\"")?;
                for c in text.chars() {
                    match c {
                        '"' => f.write_str("\\\"")?,
                        '\\' => f.write_str("\\\\")?,
                        '\n' => f.write_str("\\n")?,
                        '\r' => f.write_str("\\r")?,
                        '\t' => f.write_str("\\t")?,
                        c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                        c => write!(f, "{c}")?,
                    }
                }
                f.write_str("\"")
            }
            Self::Keyword(name) => write!(f, ":{name}"),
            Self::Vector(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    f.write_str(if at > 0 { " " } else { "" })?;
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("{")?;
                for (at, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key} {value}", if at > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_readers_expect_them() {
        let value = Edn::Map(vec![
            (Edn::Keyword("a"), Edn::Vector(vec![Edn::number(1), Edn::Nil, Edn::Bool(true)])),
            (Edn::from("b \"c\"\n\\"), Edn::Number(-2)),
            (Edn::Keyword("big"), Edn::number(u64::MAX)),
            (Edn::Keyword("bell"), Edn::from("\u{7}")),
        ]);
        let text =
            r#"{:a [1 nil true], "b \"c\"\n\\" -2, :big 18446744073709551615N, :bell "\u0007"}"#;
        assert_eq!(value.to_string(), text);
    }
}
