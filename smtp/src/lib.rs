//! What goes over an SMTP wire and what it means.

mod address;
pub mod client;
pub mod dsn;
pub mod params;
mod reply;
pub mod server;
mod status;

pub use address::{
    Address, AddressError, Domain, ForwardPath, Host, LOCAL_PART_MAX, LocalPart, ReversePath,
};
pub use params::{BodyType, Notify, Ret};
pub use reply::{EnhancedCode, InvalidCode, Reply, ReplyCode};
pub use status::{Cause, DeliveryStatus};
