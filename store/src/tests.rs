//! Tests at the store's face, for both engines.

mod model;
mod opening;
mod samples;
mod verbs;
