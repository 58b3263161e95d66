//! The common parts of listings: pages, orders, and tests of fields.

use serde::{Deserialize, Serialize};

use crate::Time;

/// The order of a listing. Records are ordered by number, which is the order in which they came
/// into being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

impl Order {
    /// Whether one number comes behind the other in this order.
    pub(crate) fn follows<T: Ord>(self, one: T, other: T) -> bool {
        match self {
            Self::Ascending => one > other,
            Self::Descending => one < other,
        }
    }
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// In the listing's order.
    pub items: Vec<T>,
    /// Where the next page begins; None at the end.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// The end of a listing.
    pub(crate) const fn empty() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }
}

/// The first `limit` items as a page.
pub(crate) fn page<T, C>(
    mut items: impl Iterator<Item = T>,
    limit: usize,
    cursor: impl Fn(&T) -> C,
) -> Page<T, C> {
    let page: Vec<T> = items.by_ref().take(limit).collect();
    let next = items.next().and_then(|_| page.last().map(cursor));
    Page { items: page, next }
}

/// Whether an id is wanted. Without any wanted id, all are.
pub(crate) fn is_among<I: PartialEq>(ids: &[I], id: I) -> bool {
    ids.is_empty() || ids.contains(&id)
}

pub(crate) fn is<T>(wanted: Option<&T>, test: impl FnOnce(&T) -> bool) -> bool {
    wanted.is_none_or(test)
}

pub(crate) fn is_between(time: Time, after: Option<Time>, before: Option<Time>) -> bool {
    after.is_none_or(|after| time > after) && before.is_none_or(|before| time < before)
}

/// Copies of the items, in this order.
#[cfg(any(test, feature = "memory"))]
pub(crate) fn ordered<'a, T: Clone + 'a>(
    items: impl DoubleEndedIterator<Item = &'a T> + 'a,
    order: Order,
) -> Box<dyn Iterator<Item = T> + 'a> {
    match order {
        Order::Ascending => Box::new(items.cloned()),
        Order::Descending => Box::new(items.rev().cloned()),
    }
}
