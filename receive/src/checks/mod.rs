//! The checks of a message, one file each. A check reads facts and adds facts. It decides nothing.

pub mod arc;
mod author;
pub mod dkim;
mod header;
#[cfg(test)]
mod opinions;
pub mod questions;

pub(crate) use author::author;
pub use author::{Author, AuthorFault};
pub(crate) use header::has_loop;
