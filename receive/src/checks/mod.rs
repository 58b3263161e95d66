//! The checks of a message, one file or folder each. A check reads facts and adds facts. It decides
//! nothing.

pub mod arc;
mod author;
mod background;
pub mod dkim;
pub mod dmarc;
pub mod dnsbl;
mod early;
pub mod examine;
mod from;
pub mod greylist;
mod header;
pub mod iprev;
mod message;
mod name;
#[cfg(test)]
mod opinions;
pub mod questions;
pub mod results;
pub mod sender;
pub mod spf;

pub(crate) use author::author;
pub use author::{Author, AuthorFault};
pub(crate) use early::ClientCheck;
pub(crate) use header::{has_loop, has_loop_when_queued, plain_fields};
pub(crate) use message::{Checked, ForwardChain, MessageChecks};
