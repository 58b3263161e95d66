//! Tests at the store's face, for both engines.

mod backup;
mod faults;
mod model;
mod opening;
pub(crate) mod samples;
mod scale;
mod unreadable;
mod upkeep;
pub(crate) mod verbs;
