//! The checks of a message, one file each. A check reads facts and adds facts. It decides nothing.

mod header;

pub(crate) use header::{author, has_loop};
