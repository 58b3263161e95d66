//! The pages for administrators.

pub(super) mod destinations;
pub(super) mod hold_rules;
pub(super) mod message;
pub(super) mod overview;
pub(super) mod queue;
