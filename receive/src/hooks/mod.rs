//! Hooks: outside programs that have a say in what is accepted.
//!
//! Three kinds of programs are asked: milters, rspamd over HTTP, and stage hooks over HTTP. Each
//! gives an [`Answer`]: a [`Vote`] and changes of the message. What becomes of the mail is decided in
//! [`decide`](crate::decide), as for any other fact.
//!
//! | module | what is in it |
//! |---|---|
//! | `answer` | the answer of a program, of whatever kind |
//! | `asked` | what the programs are told of a session |
//! | `draft` | a message as the programs see and change it |
//! | `edit` | changes of its header section |
//! | `envelope` | changes of its envelope, in the words of programs over HTTP |
//! | `limits` | limits of an answer in JSON |
//! | `raw` | the bytes of a message, piece by piece |
//! | `stage` | the wire format of stage hooks |
//! | `rspamd` | the wire format of rspamd |
//! | [`milter`] | filters that speak the protocol of Sendmail and Postfix |

pub mod answer;
pub mod asked;
pub mod draft;
pub mod edit;
mod envelope;
mod limits;
pub mod raw;
pub mod rspamd;
pub mod stage;
#[cfg(test)]
mod testing;
pub mod milter;
