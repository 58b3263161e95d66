//! The server side of SMTP: a session without I/O, and the driver that moves its bytes.
//!
//! The files have the names of their counterparts in [`crate::client`]:
//!
//! | file | what it has |
//! |---|---|
//! | `session`, `state` | the session's calls, its states, and the way from one to the next |
//! | `opening`, `xclient`, `auth`, `transaction`, `data` | the commands, in the order of a dialog |
//! | `replies` | what a session says, and what it tells its policy |
//! | `command`, `line`, `text` | the bytes of a client, parsed |
//! | `handler`, `event` | what a session asks the policy, as a trait, and what else happens in it |
//! | `driver`, `proof`, `client_auth` | the sockets, and TLS |

mod auth;
mod client_auth;
mod command;
mod config;
mod data;
mod driver;
mod event;
mod handler;
mod line;
mod opening;
mod proof;
mod replies;
mod session;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod transaction;
mod xclient;

pub use client_auth::AnyClientCertificate;
pub use command::{MailFrom, RcptTo};
pub use config::{SaslConfig, SessionConfig};
pub use driver::{ServeError, serve, serve_secured};
pub use event::{Event, Refused, RefusedLogin, Verb};
pub use handler::{Client, Handler, SessionId, SessionName, Transaction};
pub use opening::HOLD_MAX;
pub use proof::Shown;
pub use session::{Answer, Output, Question, Session};
