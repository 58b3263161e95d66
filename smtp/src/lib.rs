//! What goes over an SMTP wire and what it means.
//!
//! In reading order:
//! - `address`, `reply`, `status`, [`params`]: the words: addresses and paths, replies with both kinds of code, what became of a
//!   delivery, parameters of MAIL and RCPT.
//! - [`server`] and [`client`]: each side of a session as a state machine that takes bytes and gives bytes, and the driver that
//!   moves them over a socket, with TLS.
//! - [`dsn`]: delivery reports, composed. [`bounce`]: those of others, read, and complaints. [`mime`]: how a message that strangers wrote is parsed.
//!
//! Not here: policy (a [`server::Handler`] answers for that), DNS, and where messages are kept.

mod address;
pub mod bounce;
pub mod client;
mod code;
pub mod dsn;
pub mod mime;
pub mod params;
mod reply;
pub mod server;
mod status;

pub use address::{
    Address, AddressError, Domain, ForwardPath, Host, LOCAL_PART_MAX, LocalPart, ReversePath,
};
pub use code::{EnhancedCode, InvalidCode, ReplyCode};
pub use params::{BodyType, Notify, Ret};
pub use reply::Reply;
pub use status::{Cause, DeliveryStatus};
