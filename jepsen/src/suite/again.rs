//! The command that does a run again.

use anyhow::Result;
use serde_json::Value;

use super::{mutants, options::Options};

/// What of the options is not the run's own: where it is stored, how many there are, and what is said
/// otherwise here.
const NOT_SAID: [&str; 4] = ["store", "test_count", "seed", "keep_data"];

/// As it is typed.
///
/// # Errors
/// The options are none that can be written down.
pub fn command(options: &Options, seed: u64) -> Result<String> {
    if let Some(mutant) = mutants::hunted(options)? {
        return Ok(format!("jepsen/run.sh mutants --only {} --seed {seed}", mutant.name));
    }
    let mut words = vec!["jepsen/run.sh".to_owned(), "test".to_owned()];
    let said = serde_json::to_value(options)?;
    let default = serde_json::to_value(Options::default())?;
    words.extend(flags(&said, &default));
    words.extend(["--seed".to_owned(), seed.to_string()]);
    Ok(words.join(" "))
}

/// The flags for what is not as it is by default.
fn flags(said: &Value, default: &Value) -> Vec<String> {
    let all = said.as_object().into_iter().flatten();
    let own = all.filter(|(key, _)| !NOT_SAID.contains(&key.as_str()));
    own.filter(|(key, value)| default[key.as_str()] != **value)
        .flat_map(|(key, value)| match value {
            // Those of the hosts are in a section.
            Value::Object(_) => flags(value, &default[key.as_str()]),
            _ => flag(&format!("--{}", key.replace('_', "-")), value),
        })
        .collect()
}

/// One flag with its value; for a list, again for each of it.
fn flag(name: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(all) => all.iter().flat_map(|one| flag(name, one)).collect(),
        Value::String(text) => vec![name.to_owned(), quoted(text)],
        other => vec![name.to_owned(), quoted(&other.to_string())],
    }
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_+.,:/=@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::suite::mutant_table;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        options: Options,
    }

    fn typed(words: &[&str]) -> Options {
        Typed::parse_from(std::iter::once(&"test").chain(words)).options
    }

    #[test]
    fn what_it_says_are_the_same_options() {
        for words in [
            &["--nemesis", "none"][..],
            &["--workload", "fencing", "--nemesis", "kill,pause", "--nemesis-interval", "2.5"],
            &["--nodes", "5", "--rate", "200", "--time-limit", "50", "--backend", "process"],
            &["--scenario", "aside", "--mutant", "no_dedupe", "--name", "mine"],
            &["--schedule", "some where/it's.json", "--concurrency", "24", "--recovery-limit", "9"],
            &["--hosts", "root@h1,h2:22=10.0.0.2,h3", "--ssh-option", "A=b", "--ssh-option", "C=d"],
        ] {
            let options = typed(words);
            let text = command(&options, 7).unwrap();
            let rest = text.strip_prefix("jepsen/run.sh test ").unwrap();
            let rest = rest.strip_suffix("--seed 7").unwrap();
            // What is quoted here has no blank but the one inside it.
            let rest = rest.replace(r"'some where/it'\''s.json'", "some_where/it's.json");
            let again: Vec<_> =
                rest.split_whitespace().map(|w| w.replace("some_", "some ")).collect();
            let again = typed(&again.iter().map(String::as_str).collect::<Vec<_>>());
            let json = |options: &Options| serde_json::to_value(options).unwrap();
            assert_eq!(json(&again), json(&options), "{text}");
        }
    }

    #[test]
    fn a_hunt_is_done_again_as_a_hunt() {
        let mutant = &mutant_table::ALL[0];
        for planted in [true, false] {
            let options = mutant.options(&Options::default(), planted);
            let hunt = format!("jepsen/run.sh mutants --only {} --seed 3", mutant.name);
            assert_eq!(command(&options, 3).unwrap(), hunt);
        }
        // The same fault with faults and clients of one's own choice is none.
        let options = Options { mutant: Some(mutant.name.to_owned()), ..Options::default() };
        let text = command(&options, 3).unwrap();
        assert_eq!(text, format!("jepsen/run.sh test --mutant {} --seed 3", mutant.name));
    }
}
