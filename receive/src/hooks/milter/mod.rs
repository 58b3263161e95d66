//! Milters: mail filters that speak the protocol of Sendmail and Postfix.
//!
//! There is one connection to a filter for each SMTP connection. Both sides negotiate once; then
//! the filter is told of the client and of any number of messages, and replies to each command.
//!
//! | module | what is in it |
//! |---|---|
//! | `packet` | the framing of the protocol |
//! | `reply` | the replies of a filter |
//! | `options`, `negotiation` | what a filter may change and wants to be told |
//! | `macros` | the values that a filter reads by names |
//! | `command` | the data of the commands |
//! | `code`, `changes` | a reply to the client, and the changes of a message, by a filter |
//! | `session` | the conversation about one client, without I/O |
//! | `connection` | the same over a socket, with time limits |
//! | `client` | the connection of an SMTP session, made when it is needed |
//!
//! Not here: TLS to the filter, which no filter has; commands that the server does not know (`U`);
//! connections that serve one client after the other (`K`).

mod changes;
mod client;
mod code;
mod command;
mod connection;
mod macros;
mod negotiation;
mod options;
mod packet;
#[cfg(test)]
mod programs;
mod reply;
mod session;
#[cfg(test)]
mod support;

pub use client::MilterClient;
pub use connection::MilterConnection;
pub use negotiation::Negotiation;
pub use options::Agreed;
pub use session::{MilterSession, Output, Question, Wait};
