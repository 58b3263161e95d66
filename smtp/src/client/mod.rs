//! The client side of SMTP and LMTP: a session without I/O, and the driver that moves its bytes.
//!
//! Neither looks up names, connects, chooses a host or tries again. That is up to the queue, which
//! gets a [`crate::DeliveryStatus`] for each recipient. The files have the names of their
//! counterparts in [`crate::server`]:
//!
//! | file | what it has |
//! |---|---|
//! | `session`, `state` | the session's calls, its states, and the steps of the dialog |
//! | `sending` | the steps on their way out |
//! | `opening`, `auth`, `transaction`, `data` | the replies, in the order of a dialog |
//! | `rate` | how fast the server takes a text |
//! | `command`, `text` | the bytes for a server, written |
//! | `parser`, `extensions` | the bytes of a server, parsed |
//! | `envelope`, `message`, `source` | a message, its results and its bytes |
//! | `driver`, `options`, `link`, `tls` | the sockets, and TLS |
//! | `fault` | what is wrong with the TLS of a server |
//! | `recorder`, `recording` | the dialog, kept for people to read, and what is kept of it |

mod auth;
mod command;
mod config;
mod data;
mod driver;
mod envelope;
mod extensions;
mod fault;
mod link;
mod message;
mod opening;
mod options;
mod parser;
mod rate;
mod recorder;
mod recording;
mod sending;
mod session;
mod source;
mod state;
mod text;
mod tls;
mod transaction;

pub use config::{Security, SessionConfig, Timeouts};
pub use driver::Connection;
pub use envelope::{Envelope, Recipient};
pub use extensions::Extensions;
pub use fault::{TlsFault, TlsFaultKind, Unopened};
pub use link::Link;
pub use message::{Again, OutgoingResult, RecipientResult};
pub use options::{Credentials, Options, Remote, Tls, TlsMode};
pub use parser::{ReplyError, ReplyParser};
pub use recorder::{Direction, Heard, Line, Listener, Recorder, Recording};
pub use session::{MayBegin, Output, PieceRequest, Session};
pub use source::{MessageSource, OutgoingMessage, Prefixed};
pub use tls::AnyCertificate;
