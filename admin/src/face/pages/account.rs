//! The pages for the holder of an account that the administrator has in another form.

pub(super) mod overview;
