//! The properties that are checked, in words: a report that only numbers them sends its reader away to
//! look them up.

/// Every property, and what it says; `jepsen/README.md` has the same words.
pub const PROPERTIES: &[(&str, &str)] = &[
    (
        "P1",
        "All replicas serve the same bytes and have the same digest, and a read shows what they serve",
    ),
    ("P2", "Offsets have no gaps, in the log or in a read"),
    (
        "P3",
        "An acknowledged record is in the log, at the offset that was acknowledged; a batch is there \
         whole, in one piece and in order",
    ),
    (
        "P4",
        "A record is in the log only once; a producer's batches are stored exactly once, however often \
         they were sent",
    ),
    ("P5", "Nothing is in the log that nobody appended, and nothing that was refused"),
    (
        "P6",
        "Appends and linearizable reads respect real time; positions never go back, timestamps of a log \
         neither",
    ),
    (
        "P7",
        "An append with an expected offset lands there or not at all, and is refused only if it was wrong",
    ),
    ("P8", "After a fence nothing of a lower epoch is stored; epochs are granted once and rise"),
    ("P9", "A producer's batches are in the order in which they were sent"),
    (
        "P10",
        "A read with a bound, or that states its age, lacks nothing acknowledged longer before",
    ),
    ("P11", "A read after a position shows what was there, whoever answers"),
    ("P12", "One leader a term: terms never go back, an index has one term"),
    (
        "P13",
        "A log begins where trims put it, and what was trimmed is not shown again; a log that was \
         deleted is gone, and one created under its name is another: empty, with an identity of its own",
    ),
    ("P14", "Damaged bytes are never served"),
    (
        "P15",
        "Service resumes when a fault is healed (`--recovery-limit`), no node ends by itself, all catch \
         up",
    ),
    ("P16", "The run saw enough to say so"),
];

/// What a property says, by its number as in [`super::Kind::property`]; nothing, if there is none.
#[must_use]
pub fn claim(number: &str) -> Option<&'static str> {
    PROPERTIES.iter().find(|(known, _)| *known == number).map(|(_, claim)| *claim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Kind;

    #[test]
    fn every_anomaly_breaks_a_property_that_has_words() {
        for kind in Kind::ALL {
            assert!(claim(kind.property()).is_some(), "{kind} breaks {}", kind.property());
        }
        assert_eq!(claim("P99"), None);
    }

    #[test]
    fn the_readme_has_the_same_words() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        for (number, claim) in PROPERTIES {
            let row = format!("| {number} | {claim} |");
            assert!(readme.contains(&row), "the README has no row that begins {row:?}");
        }
    }
}
