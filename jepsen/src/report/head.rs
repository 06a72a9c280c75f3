//! The top of a page: what ran, the verdict, with what to compare it, how to run it again, and what each
//! anomaly that was found means.

use std::{collections::BTreeMap, fmt::Write as _};

use quorate_jepsen_core::check::{Kind, claim};

use super::plot::escape;
use crate::suite::{counterpart::Counterpart, mutants};

/// What a page says of its run beside what happened in it.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The fault that was planted in the server.
    pub planted: Option<String>,
    /// The same run without it; or with it, for one without.
    pub counterpart: Option<Counterpart>,
    /// The command that does it again.
    pub again: String,
}

/// What was planted, with what to compare the run, and how to do it again.
#[must_use]
pub fn about(about: &About) -> String {
    let mut out = String::new();
    let mut add = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes everything");
    };
    if let Some(name) = &about.planted {
        let what = match mutants::known(name) {
            Ok(mutant) => format!("{}. It breaks {}", mutant.what, in_words(mutant.breaks)),
            Err(_) => "one that this suite does not know".to_owned(),
        };
        add(format_args!(
            "<p class=\"planted\">This is not the server as it is shipped: a fault was planted in it, \
             to see it found. {}: {}.</p>\n",
            escape(name),
            escape(&what)
        ));
    }
    match (&about.counterpart, &about.planted) {
        (Some(other), planted) => add(format_args!(
            "<p class=\"counterpart\">The same run, with the same seed and the same faults done to the \
             cluster, but {}: <a href=\"../../{}/index.html\">{}</a>.</p>\n",
            match planted {
                Some(_) => "by the server as it is shipped",
                None => "by a server with a fault planted in it",
            },
            escape(&other.run),
            escape(&other.verdict),
        )),
        (None, Some(_)) => add(format_args!(
            "<p class=\"counterpart\">It was not compared with a run of the server as it is shipped.</p>\n"
        )),
        (None, None) => {}
    }
    if !about.again.is_empty() {
        add(format_args!(
            "<p>To do it again: <code>{}</code>. The seed draws the same clients and the same faults; \
             threads and the kernel are not in it, so that a rare anomaly may take several runs.</p>\n",
            escape(&about.again)
        ));
    }
    out
}

/// The properties of a list like `P3, P6`, with what they say.
fn in_words(properties: &str) -> String {
    let with_words = |number: &str| match claim(number) {
        Some(claim) => format!("{number} ({claim})"),
        None => number.to_owned(),
    };
    properties.split(", ").map(with_words).collect::<Vec<_>>().join(" and ")
}

/// What was found, how often, what it means, and which property it breaks, in words.
#[must_use]
pub fn kinds(found: &[(Kind, usize)]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut out = "<table class=\"kinds\"><tr><th>found</th><th>times</th><th>which means</th>\
                   <th>and breaks the property</th></tr>\n"
        .to_owned();
    for (kind, count) in found {
        let property = kind.property();
        writeln!(
            out,
            "<tr><td><a href=\"#{kind}\">{kind}</a></td><td>{count}</td><td>{}</td>\
             <td>{property}: {}</td></tr>",
            escape(kind.what()),
            escape(claim(property).unwrap_or_default())
        )
        .expect("a String takes everything");
    }
    out + "</table>\n"
}

/// What clients can see first; then what follows from the answers' stamps, which says the same in
/// other words.
#[must_use]
pub fn ordered(kinds: &BTreeMap<Kind, usize>) -> Vec<(Kind, usize)> {
    let mut kinds: Vec<_> = kinds.iter().map(|(kind, count)| (*kind, *count)).collect();
    let of_stamps = |kind: Kind| matches!(kind, Kind::PositionBackwards | Kind::TermRewritten);
    kinds.sort_by_key(|(kind, _)| of_stamps(*kind));
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_said_in_words() {
        let text = kinds(&[(Kind::DuplicateRecord, 62)]);
        assert!(text.contains("P4: A record is in the log only once"), "{text}");
        let text = in_words("P3, P6");
        assert!(text.starts_with("P3 (An acknowledged record is in the log"), "{text}");
        assert!(text.contains(") and P6 (Appends and linearizable reads"), "{text}");
    }

    #[test]
    fn a_mutants_page_says_what_the_server_without_the_fault_did() {
        let other = Counterpart { verdict: "valid".to_owned(), run: "a-absent/1".to_owned() };
        let mut of_mutant = About {
            planted: Some("no_dedupe".to_owned()),
            counterpart: Some(other),
            again: "jepsen/run.sh mutants --only no_dedupe --seed 7".to_owned(),
        };
        let text = about(&of_mutant);
        for part in [
            "a producer&apos;s retry is stored as a new batch. It breaks P4 (A record is in",
            "by the server as it is shipped: <a href=\"../../a-absent/1/index.html\">valid</a>",
            "<code>jepsen/run.sh mutants --only no_dedupe --seed 7</code>",
        ] {
            let part = part.replace("&apos;", "'");
            assert!(text.contains(&part), "{part:?} is not in {text}");
        }
        of_mutant.counterpart = None;
        assert!(
            about(&of_mutant).contains("It was not compared with a run of the server as it is")
        );
    }

    #[test]
    fn an_ordinary_run_says_only_how_to_do_it_again() {
        let again = "jepsen/run.sh test --seed 7".to_owned();
        let text = about(&About { again, ..About::default() });
        assert_eq!(text.matches("<p").count(), 1, "{text}");
    }
}
