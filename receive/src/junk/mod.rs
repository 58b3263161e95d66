//! The junk filter: what an account's earlier mail says about a mail.
//!
//! | module | what it does |
//! |---|---|
//! | [`senders`] | the senders of a mail, as the history knows them |
//! | [`history`] | what earlier mail of these senders says |
//! | [`tokens`] | the words of a mail, as hashes; `words` and `html` find them |
//! | [`content`] | the probability that a mail is junk, by its words |
//! | [`verdict`] | facts in, verdict out |
//! | [`filter`] | the facts about a mail, from the store |
//! | `incoming` | the facts about a message that comes in, for each account |
//! | [`learn`] | what a user says about a mail, and what is learnt from it |
//! | [`examine`] | the judgement of any message, with its reasons, for tools |
//!
//! The filter learns from users only, never from its own verdicts.

pub mod content;
pub mod examine;
pub mod filter;
#[cfg(test)]
mod generated;
pub mod history;
mod html;
mod incoming;
pub mod learn;
pub mod senders;
pub mod tokens;
pub mod verdict;
mod words;

pub(crate) use self::incoming::IncomingMail;
pub use self::{
    filter::{Filter, Letter},
    verdict::{Acceptance, Doubts, JunkFacts, JunkReason, JunkVerdict, Listed},
};
