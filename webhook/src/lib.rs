//! What applications are told of their messages, and the calling of them.
//!
//! A call comes into being in [`outgoing`] or [`incoming`], as part of the change that it tells of, and is kept by the store.

mod event;

pub use event::{incoming, outgoing};
