//! Tests at the store's face, for both engines.

mod model;
mod opening;
pub(crate) mod samples;
pub(crate) mod verbs;
