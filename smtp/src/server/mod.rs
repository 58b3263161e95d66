//! The server's side of SMTP: a session without I/O, and the driver that moves its bytes.
//!
//! - [`session`]: commands in, replies and questions out. `command`, `data` and `auth` are its parts.
//! - [`handler`]: the questions, as a trait that policy implements.
//! - [`driver`]: the only part with sockets.

mod auth;
mod command;
pub mod data;
mod driver;
mod handler;
mod session;
#[cfg(test)]
mod tests;

pub use command::{MailFrom, RcptTo};
pub use driver::serve;
pub use handler::{Client, Handler, Login, TlsInfo, Transaction};
pub use session::{Question, Session, SessionConfig, Step};
