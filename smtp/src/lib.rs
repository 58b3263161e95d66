//! What goes over an SMTP wire and what it means.

mod reply;
mod status;

pub use reply::{EnhancedCode, InvalidCode, Reply, ReplyCode};
pub use status::{Cause, DeliveryStatus};
