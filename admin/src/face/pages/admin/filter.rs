//! What the filters above lists have in common.

pub(super) use super::super::{command::path as call, past::filter::past as time};
