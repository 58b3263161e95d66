//! The pages for administrators.

pub(super) mod account;
pub(super) mod accounts;
pub(super) mod destinations;
pub(super) mod domain;
pub(super) mod domains;
pub(super) mod hold_rules;
pub(super) mod keys;
pub(super) mod message;
pub(super) mod overview;
pub(super) mod queue;
