//! The checks of a message, one file or folder each. A check reads facts and adds facts. It decides
//! nothing.

mod author;
pub mod dmarc;
mod early;
mod header;
pub mod iprev;
mod name;
pub mod questions;
pub mod results;
pub mod spf;

pub(crate) use author::author;
pub use author::{Author, AuthorFault};
pub(crate) use early::EarlyChecks;
pub(crate) use header::has_loop;
