//! SMTP: its words, its sessions, and the reports about mail.
//!
//! In reading order:
//!
//! | module | what it has |
//! |---|---|
//! | `address` | mailbox addresses, domains and paths |
//! | `code`, `reply` | reply codes, enhanced status codes, and replies |
//! | [`reason`] | the names of the reasons for which a session refuses |
//! | `stage` | the stages of a session |
//! | `status` | the result of a delivery |
//! | `tls`, `certificate` | the TLS of a connection, and the certificate of a server |
//! | `proxy` | the header that a proxy sends before the bytes of its client |
//! | [`params`] | the values of the parameters of MAIL and RCPT |
//! | [`sasl`] | the server's side of authentication mechanisms |
//! | [`server`], [`client`] | each side of a session: a state machine without I/O, and its driver |
//! | [`dsn`] | our delivery reports |
//! | [`bounce`] | the delivery reports and complaints of other systems |
//! | [`mime`] | a parser for the messages of strangers, within limits |
//! | [`field`] | the values of the header fields of such messages |
//! | [`convert`] | messages in a form for servers that lack an extension |
//! | [`canonical`] | the forms of header fields and bodies that signatures cover |
//! | `lists` | lists in lines of the log |
//!
//! Absent on purpose: policy (a [`server::Handler`] has it), DNS, and the storage of messages.

mod address;
pub mod bounce;
pub mod canonical;
mod certificate;
pub mod client;
mod code;
pub mod convert;
pub mod dsn;
pub mod field;
mod handshake;
mod lists;
pub mod mime;
pub mod params;
mod proxy;
pub mod reason;
mod reply;
pub mod sasl;
pub mod server;
mod stage;
mod status;
mod tls;

pub use address::{
    Address, AddressError, Domain, ForwardPath, Host, LOCAL_PART_MAX, LocalPart, ReversePath,
};
pub use certificate::Certificate;
pub use code::{EnhancedCode, InvalidCode, ReplyCode};
pub use handshake::{verify_tls12_by_key, verify_tls13_by_key};
pub use lists::{FirstOf, ShownIds};
pub use params::{BodyType, ByMode, DeliverBy, DeliveryOptions, Hold, Notify, Priority, Ret};
pub use proxy::{PROXY_HEADER_MAX, ProxiedClient, ProxyError, ProxyHeader};
pub use reply::Reply;
pub use stage::Stage;
pub use status::{Cause, DeliveryStatus};
pub use tls::{HandshakeFailure, TlsInfo};
