//! Sieve: the scripts and rules of users that say what becomes of their mail (RFC 5228).
//!
//! Scripts and facts come in, actions go out: the interpreter reads no clock, no file and not the
//! store. Only [`kept`] and [`ready`] use the store.
//! [`Script::compile`] checks a script when it is written, and [`run`] runs the scripts of an
//! account for a message.
//!
//! | file | what it does |
//! |---|---|
//! | `error` | faults with line and column |
//! | `lexer`, `parse` | the tokens and the grammar of scripts |
//! | `extension` | the extensions that scripts may use |
//! | `compile` | from the grammar to a `program`, with all arguments checked |
//! | `program` | a script that is ready to run |
//! | `text` | encoded characters and variables in texts |
//! | `matching` | comparators, wildcards, relations and regular expressions |
//! | `flags`, `mailbox`, `date`, `body` | the values that tests and actions are about |
//! | `facts`, `limits` | what a run gets |
//! | `run` | the run |
//! | `outcome` | what becomes of a message |
//! | [`vacation`] | automatic answers: the decision and the answer |
//! | [`rules`] | the rules of the mailbox API, which become scripts |
//! | [`auto_responder`] | the auto-responder of the mailbox API, which becomes a script |
//! | `fields`, `quote` | reading JSON, and writing texts into scripts |
//! | [`kept`] | what accounts have in the store, checked before it is kept |
//! | [`ready`] | the scripts of accounts, compiled |
//!
//! Not here: the run at delivery, which is in `scripted`.

pub mod auto_responder;
mod body;
mod compile;
mod date;
mod error;
mod extension;
mod facts;
mod fields;
mod flags;
pub mod kept;
mod lexer;
mod limits;
mod mailbox;
mod matching;
mod outcome;
mod parse;
mod program;
mod quote;
pub mod ready;
pub mod rules;
mod run;
#[cfg(test)]
mod tests;
mod text;
pub mod vacation;

pub use self::{
    error::{Position, SieveError},
    facts::{Facts, MessageText, READ_MAX},
    fields::FieldError,
    limits::{LEVELS_MAX, Limits, SCRIPT_MAX, TEXT_MAX, VALUE_MAX, VARIABLES_MAX},
    mailbox::KnownMailbox,
    outcome::{Acted, Failure, Filed, Outcome, Rejection},
    program::Script,
    run::{NamedScript, Rank, run},
};
