//! The pages for administrators.

pub(super) mod hold_rules;
pub(super) mod overview;
