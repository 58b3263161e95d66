//! What the filters above lists have in common.

use postrider_store::Time;

pub(super) use super::super::{command::path as call, past::filter::past as time};
use super::super::{list::Listing, shown::When};
use crate::op::Reached;

/// Where a search ended before the page was full.
pub(super) struct Reach {
    pub(super) back_to: When,
    /// The query of the part behind it.
    pub(super) query: String,
}

impl Reach {
    pub(super) fn new(listing: &Listing, reached: Option<&Reached>, now: Time) -> Option<Self> {
        let reached = reached?;
        Some(Self {
            back_to: When::new(&reached.time, now),
            query: listing.going_on(&reached.id.to_string()),
        })
    }
}
