//! Long lists, page by page. The URL has the filters, the number of rows, and a cursor: where the
//! page begins.

use std::{fmt::Display, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use postrider_store::{Order, Time};
use sha2::{Digest, Sha256};

use super::{form::Fields, shown::When};
use crate::op::Searched;

/// The numbers of rows that a page may have; the second one if none is asked for.
const ROWS: [usize; 4] = [25, 50, 100, 250];
/// The parameters of a page within a list. All others are filters.
const OWN: [&str; 2] = ["cursor", "rows"];
/// The parameters that no link repeats: of a notice, and of a stream.
const PASSING: [&str; 3] = ["told", "live", "part"];

/// The part of a list that a page shows.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// The most rows.
    pub(super) rows: usize,
    /// The page begins behind the item with this key; None: at the beginning.
    key: Option<String>,
    /// The page has the items before that key.
    back: bool,
    /// The cursor of the request was for other filters, so the list begins anew.
    pub(super) anew: bool,
    filter: String,
    query: Fields,
}

/// The links of a list, and what stands below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    /// The query of the page before; None: this is the first one.
    pub(super) before: Option<String>,
    /// The query of the next page; None: this is the last one.
    pub(super) next: Option<String>,
    /// The query of the first page; None: this is it.
    pub(super) first: Option<String>,
    /// The cursor of the request was for other filters.
    pub(super) anew: bool,
    /// The numbers of rows with their queries; the chosen one has none.
    pub(super) sizes: Vec<(usize, Option<String>)>,
}

/// Where a search ended before the page was full.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// How far it came.
    pub(super) to: When,
    /// The query of the part behind it.
    pub(super) query: String,
}

/// The part of a searched list that a page shows.
#[derive(Clone, Debug)]
pub(super) struct Found<R> {
    pub(super) rows: Vec<R>,
    pub(super) links: Links,
    /// None: the page is full, or the search came to its end.
    pub(super) reach: Option<Reach>,
}

/// Nothing was searched.
impl<R> Default for Found<R> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            links: Links::default(),
            reach: None,
        }
    }
}

impl Listing {
    /// Reads the query of a page.
    pub(super) fn new(query: &Fields) -> Self {
        let query = &query.without(&PASSING);
        let rows = query.text("rows").and_then(|rows| rows.parse().ok());
        let rows = rows.filter(|rows| ROWS.contains(rows)).unwrap_or(ROWS[1]);
        let filter = digest(&query.query(&OWN, &[]));
        let given = query.text("cursor");
        let cursor = given.and_then(|cursor| read(cursor, &filter));
        Self {
            rows,
            anew: given.is_some() && cursor.is_none(),
            back: cursor.as_ref().is_some_and(|(back, _)| *back),
            key: cursor.map(|(_, key)| key),
            filter,
            query: query.clone(),
        }
    }

    /// The query of the filters alone; empty: there are none.
    pub(super) fn filters(&self) -> String {
        self.query.query(&OWN, &[])
    }

    /// The key behind which an operation has to read.
    pub(super) fn after<K: FromStr>(&self) -> Option<K> {
        self.key.as_ref()?.parse().ok()
    }

    /// The order in which an operation has to read, for a list in this order.
    pub(super) const fn order(&self, shown: Order) -> Order {
        match (self.back, shown) {
            (false, shown) => shown,
            (true, Order::Ascending) => Order::Descending,
            (true, Order::Descending) => Order::Ascending,
        }
    }

    /// How many items an operation has to read: one more than are shown, to know if more follow.
    pub(super) const fn limit(&self) -> usize {
        self.rows + 1
    }

    /// The part of a list that is in memory as a whole, by the keys of its items, and the links.
    pub(super) fn part<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> (Vec<T>, Links) {
        items.sort_by_cached_key(&key);
        let from = self.after::<String>();
        let backwards = self.order(Order::Ascending) == Order::Descending;
        if backwards {
            items.reverse();
        }
        items.retain(|item| match &from {
            None => true,
            Some(from) if backwards => key(item) < *from,
            Some(from) => key(item) > *from,
        });
        items.truncate(self.limit());
        self.arrange(items, key)
    }

    /// The items in the order of the list, of those that an operation gave, and the links. `key`
    /// gives the key of an item.
    pub(super) fn arrange<T>(
        &self,
        mut items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> (Vec<T>, Links) {
        let more = items.len() > self.rows;
        items.truncate(self.rows);
        if self.back {
            items.reverse();
        }
        let has_before = if self.back { more } else { self.key.is_some() };
        let has_next = if self.back { true } else { more };
        let link = |back: bool, item: Option<&T>| {
            let cursor = write(back, &key(item?), &self.filter);
            Some(self.query.query(&["cursor"], &[("cursor", &cursor)]))
        };
        let links = Links {
            before: link(true, items.first()).filter(|_| has_before),
            next: link(false, items.last()).filter(|_| has_next),
            first: self
                .key
                .is_some()
                .then(|| self.query.query(&["cursor"], &[])),
            anew: self.anew,
            sizes: self.sizes(),
        };
        (items, links)
    }

    /// The same for what a search found, with how far it came. `id` gives the number of an item.
    /// `row` gives its row on the page.
    pub(super) fn found<T, R>(
        &self,
        found: Searched<T>,
        now: Time,
        id: impl Fn(&T) -> u64,
        row: impl FnMut(T) -> R,
    ) -> Found<R> {
        let reached = found.reached;
        let (items, links) = self.arrange(found.items, |item| id(item).to_string());
        Found {
            rows: items.into_iter().map(row).collect(),
            links,
            reach: reached.map(|reached| self.reach(&reached.time, &reached.id, now)),
        }
    }

    /// Where a search ended: the time (RFC 3339) and the key of the last item that it looked at.
    pub(super) fn reach(&self, time: &str, key: &impl Display, now: Time) -> Reach {
        Reach {
            to: When::new(time, now),
            query: self.going_on(&key.to_string()),
        }
    }

    /// The query of the part that begins behind the item with this key, for a search that ended
    /// there before the page was full.
    pub(super) fn going_on(&self, key: &str) -> String {
        let cursor = write(self.back, key, &self.filter);
        self.query.query(&["cursor"], &[("cursor", &cursor)])
    }

    fn sizes(&self) -> Vec<(usize, Option<String>)> {
        let size = |rows: usize| {
            let query = self.query.query(&OWN, &[("rows", &rows.to_string())]);
            (rows, (rows != self.rows).then_some(query))
        };
        ROWS.into_iter().map(size).collect()
    }
}

fn digest(text: &str) -> String {
    let hash = Sha256::digest(text);
    URL_SAFE_NO_PAD.encode(hash.get(..6).unwrap_or_default())
}

fn write(back: bool, key: &str, filter: &str) -> String {
    let direction = if back { 'b' } else { 'f' };
    URL_SAFE_NO_PAD.encode(format!("{direction}{filter}{key}"))
}

/// Whether a cursor leads back, and its key. None: it is not for this filter.
fn read(cursor: &str, filter: &str) -> Option<(bool, String)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (back, rest) = match text.strip_prefix('b') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('f')?),
    };
    Some((back, rest.strip_prefix(filter)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an operation gives of the numbers 1 to 120.
    fn page(query: &str) -> (Vec<u64>, Links) {
        let listing = Listing::new(&Fields::parse(query.as_bytes()));
        let after: Option<u64> = listing.after();
        let all = 1..=120_u64;
        let read: Vec<u64> = match listing.order(Order::Ascending) {
            Order::Ascending => all.filter(|it| after.is_none_or(|key| *it > key)).collect(),
            Order::Descending => all
                .rev()
                .filter(|it| after.is_none_or(|key| *it < key))
                .collect(),
        };
        let read = read.into_iter().take(listing.limit()).collect();
        listing.arrange(read, u64::to_string)
    }

    #[test]
    fn a_list_is_read_forth_and_back() {
        let (items, links) = page("to=a");
        assert_eq!((items[0], items.len()), (1, 50));
        assert!(links.before.is_none() && links.first.is_none());
        let (items, links) = page(&links.next.unwrap());
        assert_eq!((items[0], items.len()), (51, 50));
        let (last, ends) = page(&links.next.unwrap());
        assert_eq!((last[0], last.len(), ends.next), (101, 20, None));
        let (items, links) = page(&ends.before.unwrap());
        assert_eq!((items[0], items.len()), (51, 50));
        let (items, links) = page(&links.before.unwrap());
        assert_eq!((items[0], links.before), (1, None));
        assert_eq!(items.len(), 50);
    }

    #[test]
    fn a_cursor_of_other_filters_begins_anew() {
        let (_, links) = page("to=a");
        let next = links.next.unwrap().replace("to=a", "to=b");
        let (items, links) = page(&next);
        assert_eq!((items[0], links.anew), (1, true));
        let (items, links) = page("cursor=%21&rows=25");
        assert_eq!((items.len(), links.anew), (25, true));
        assert_eq!(links.sizes[0], (25, None));
    }
}
