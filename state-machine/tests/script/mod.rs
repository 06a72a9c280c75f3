//! The language of the golden scripts. A script is a list of lines; what a line did is printed below
//! it, each printed line beginning with `> `.
//!
//! ```text
//! # a comment
//! time 1000 | time +24h | time -5      the leader's clock for the entries that follow, milliseconds
//! term 2                               their term
//! COMMAND [; COMMAND]...               one entry
//! blank | membership WORD | raw HEX    other entries
//! for A..B: COMMAND                    an entry for each number, which replaces every $
//! logs | log NAME | read NAME A..B | find NAME MS | group | digest | marks | rows | term-of INDEX
//! set NAME FIELD=N... | set group FIELD=N... | set NAME producer=P next=N     rewrites stored rows
//! ```
//!
//! Commands:
//!
//! ```text
//! create NAME [absent] [level=LEVEL]
//! delete NAME [inc=I]
//! trim NAME OFFSET [inc=I]
//! level NAME LEVEL [inc=I]    LEVEL is none, linearizable, eventual, or a bound in milliseconds
//! fence NAME [min=N] [inc=I]
//! mark
//! append NAME RECORD... [offset=N] [epoch=N] [from=PRODUCER:N] [inc=I] [count=N] [+ NAME ...]
//! damaged COMMAND | future COMMAND     the same with a broken last byte, or of an unknown kind
//! ```
//!
//! An incarnation is written as the index of its entry, a dot, and the position in it.

mod parse;
mod run;
mod show;

pub use self::run::Runner;
