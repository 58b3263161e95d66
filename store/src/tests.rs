//! Tests at the store's face, for both engines.

mod model;
mod samples;
mod verbs;
