//! What applications are told of their messages, and the calling of them.
//!
//! - A call comes into being in [`outgoing`] or [`incoming`], as part of the change that it tells of, and is kept by the store.
//! - `payload` makes its body from what is stored when it is called, and [`message`] shows what is in a received message.
//! - [`Runner`] makes the calls that are due, by `call`; `target` says whom it may call.
//! - [`Operator`] is what administrators do to them.
//!
//! Not here: order and durability, which are the store's.

mod call;
mod event;
mod json;
pub mod message;
mod operate;
mod payload;
mod runner;
mod share;
mod target;

pub use event::{incoming, outgoing};
pub use operate::{CancelCount, Operator, ReplayCount, TestError, Which};
pub use payload::{codes, incoming_payload, outgoing_payload};
pub use runner::{Runner, SetupError, WebhookParts};
pub use share::{MemoryBudget, Places, Share};
