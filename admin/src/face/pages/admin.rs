//! The pages for administrators.

pub(super) mod overview;
