//! Tests at the store's face, for both engines.

mod samples;
mod verbs;
