//! What goes over an SMTP wire and what it means.

pub mod params;
mod reply;
mod status;

pub use params::{BodyType, Notify, Ret};
pub use reply::{EnhancedCode, InvalidCode, Reply, ReplyCode};
pub use status::{Cause, DeliveryStatus};
