//! Webhooks: events of messages, as calls of an application's URL.
//!
//! - [`outgoing`] and [`incoming`] (`event`) make a call as part of the change that it reports. The
//!   store keeps it.
//! - `payload` makes the body of a call when the call is made. [`message`] describes a received
//!   message for it.
//! - [`Runner`] makes the calls that are due: `receivers` limits how many at once, `target` which
//!   addresses, `call` makes one call, `outcome` decides what becomes of it. `observed` tells what
//!   became of it.
//! - [`Operator`] has the operations of administrators.
//! - [`Places`] and [`MemoryBudget`] (`share`) divide limits fairly among accounts. The webapi uses
//!   them as well.
//!
//! The store keeps order and durability.

mod call;
mod event;
mod json;
pub mod message;
mod observed;
mod operate;
mod outcome;
mod payload;
mod receivers;
mod runner;
mod share;
mod target;

pub use event::{incoming, outgoing};
pub use operate::{CancelCount, Described, Operator, ReplayCount, TestError, WebhookKind};
pub use payload::{codes, incoming_payload, outgoing_payload, outgoing_payload_v1};
pub use runner::{Runner, SetupError, WebhookParts};
pub use share::{MemoryBudget, Places, Share};
