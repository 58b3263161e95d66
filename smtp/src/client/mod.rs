//! The client side of SMTP and LMTP.
//!
//! [`Session`] is the protocol without a socket: it takes bytes, time and answers, and says what to send. [`Connection`] is
//! the driver that moves its bytes over TCP and TLS. Neither looks up names, connects, chooses among hosts or tries again:
//! that is up to the queue, which gets a [`crate::DeliveryStatus`] for each recipient.

mod connection;
mod extensions;
mod message;
mod opening;
mod options;
mod parser;
mod session;
mod source;
mod stuffing;
mod tls;
mod transaction;

pub use connection::{Connection, OutgoingMessage};
pub use extensions::Extensions;
pub use message::{Again, Envelope, OutgoingResult, Recipient, RecipientResult};
pub use options::{Login, Options, Remote, Timeouts, Tls, TlsMode};
pub use parser::{ReplyError, ReplyParser};
pub use session::{Output, Security, Session, SessionConfig};
pub use source::{MessageSource, Prefixed};
pub use tls::{TlsSummary, opportunistic_config};
