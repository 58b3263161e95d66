//! Listings page by page, and searches that end in time.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use postrider_store::{Order, Page, StoreError, Time};
use serde::{Deserialize, Serialize};

use super::Sink;
use crate::AdminError;

/// How many records are read at once.
const PAGE: usize = 500;

/// The position in a listing that is read page by page.
pub(super) struct Pages<C> {
    after: Option<C>,
    /// How many more records the caller wants; None: all.
    left: Option<usize>,
    ended: bool,
}

impl<C: Copy> Pages<C> {
    /// The beginning of a listing of at most `limit` records.
    pub(super) const fn new(limit: Option<usize>) -> Self {
        Self::behind(None, limit)
    }

    /// A listing of at most `limit` records that begins behind a position.
    const fn behind(after: Option<C>, limit: Option<usize>) -> Self {
        Self {
            after,
            left: limit,
            ended: false,
        }
    }

    /// Where the next page begins, and how many records it may have; None at the end.
    pub(super) fn next(&self) -> Option<(Option<C>, usize)> {
        let count = self.left.map_or(PAGE, |left| left.min(PAGE));
        (count > 0 && !self.ended).then_some((self.after, count))
    }

    /// Records are left, though the caller wants no more.
    pub(super) const fn is_cut(&self) -> bool {
        !self.ended
    }

    /// Moves behind a page that was read, and gives its records.
    pub(super) fn pass<T>(&mut self, page: Page<T, C>) -> Vec<T> {
        self.left = self.left.map(|left| left.saturating_sub(page.items.len()));
        self.ended = page.next.is_none();
        self.after = page.next;
        page.items
    }
}

/// Reads a listing of at most `limit` records page by page, and sends an item for each record.
/// `read` gives the page behind a position, with at most that many records.
pub(super) async fn send_pages<C, R, I, F>(
    limit: Option<usize>,
    items: &mut impl Sink<I>,
    read: impl Fn(Option<C>, usize) -> F + Send,
) -> Result<(), AdminError>
where
    C: Copy + Send,
    R: Send,
    I: for<'a> From<&'a R>,
    F: Future<Output = Result<Page<R, C>, StoreError>> + Send,
{
    send_pages_behind(None, limit, items, read).await
}

/// The same, for a listing that begins behind a position.
pub(super) async fn send_pages_behind<C, R, I, F>(
    after: Option<C>,
    limit: Option<usize>,
    items: &mut impl Sink<I>,
    read: impl Fn(Option<C>, usize) -> F + Send,
) -> Result<(), AdminError>
where
    C: Copy + Send,
    R: Send,
    I: for<'a> From<&'a R>,
    F: Future<Output = Result<Page<R, C>, StoreError>> + Send,
{
    let mut pages = Pages::behind(after, limit);
    while let Some((after, count)) = pages.next() {
        let page = read(after, count).await?;
        items
            .send(pages.pass(page).iter().map(I::from).collect())
            .await?;
    }
    Ok(())
}

/// How many records a search without an index reads.
const SEARCH_RECORDS: usize = 20_000;
/// How long such a search reads.
const SEARCH_TIME: Duration = Duration::from_millis(40);

/// A part of what a search finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Searched<T> {
    /// What was found, in the order of the search.
    pub items: Vec<T>,
    /// The search ended at this record before it found as many as it was asked for. It can go on
    /// behind it. None: it found enough, or came to the end.
    pub reached: Option<Reached>,
}

impl<T> Searched<T> {
    /// The same, for records between two times. A search that came out of that time is at its end.
    pub(super) fn within(
        mut self,
        order: Order,
        since: Option<Time>,
        before: Option<Time>,
    ) -> Self {
        let is_out = |time: Time| match order {
            Order::Descending => since.is_some_and(|since| time < since),
            Order::Ascending => before.is_some_and(|before| time >= before),
        };
        let time = |reached: &Reached| reached.time.parse::<Timestamp>().ok().map(Time::from);
        if self.reached.as_ref().and_then(time).is_some_and(is_out) {
            self.reached = None;
        }
        self
    }
}

/// How far a search came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The number of the last record that was read.
    pub id: u64,
    /// The time of that record (RFC 3339).
    pub time: String,
}

/// Where a search begins, and when it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<C> {
    /// It begins behind this record; None: at the beginning.
    pub(super) after: Option<C>,
    /// It ends when it found so many records.
    pub(super) limit: usize,
}

/// Reads a listing until enough records match, and gives an item for each of them. After 20,000
/// records or 40 ms it ends. `read` gives the page behind a position, with at most so many records,
/// `place` the position of a record, its number and its time.
pub(super) async fn search<C, R, I, F>(
    part: Part<C>,
    read: impl Fn(Option<C>, usize) -> F + Send,
    place: impl Fn(&R) -> (u64, Time) + Send,
    matches: impl Fn(&R) -> bool + Send,
) -> Result<Searched<I>, AdminError>
where
    C: Copy + Send,
    R: Send,
    I: for<'a> From<&'a R> + Send,
    F: Future<Output = Result<Page<R, C>, StoreError>> + Send,
{
    let begun = Instant::now();
    let Part { mut after, limit } = part;
    let (mut items, mut seen) = (Vec::new(), 0);
    let mut count = limit.clamp(1, PAGE);
    loop {
        let page = read(after, count).await?;
        seen += page.items.len();
        for record in &page.items {
            if !matches(record) {
                continue;
            }
            items.push(I::from(record));
            if items.len() >= limit {
                let reached = None;
                return Ok(Searched { items, reached });
            }
        }
        let last = page.items.last().map(&place);
        after = page.next;
        if after.is_none() {
            let reached = None;
            return Ok(Searched { items, reached });
        }
        if seen >= SEARCH_RECORDS || begun.elapsed() >= SEARCH_TIME {
            let reached = last.map(|(id, time)| Reached {
                id,
                time: time.to_string(),
            });
            return Ok(Searched { items, reached });
        }
        count = (2 * count).min(PAGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search for multiples of a number.
    async fn searched(after: Option<u64>, limit: usize, every: u64) -> Searched<Item> {
        let part = Part { after, limit };
        let read = |after: Option<u64>, count: usize| async move {
            let from = after.map_or(1, |after| after + 1);
            let items: Vec<u64> = (from..from + count as u64).collect();
            let next = items.last().copied();
            Ok(Page { items, next })
        };
        let place = |number: &u64| (*number, Time(0));
        let searched = search(part, read, place, |number| number % every == 0).await;
        searched.unwrap()
    }

    #[derive(Debug, PartialEq)]
    struct Item(u64);

    impl From<&u64> for Item {
        fn from(number: &u64) -> Self {
            Self(*number)
        }
    }

    #[tokio::test]
    async fn a_search_ends_with_enough_or_tells_how_far_it_came() {
        let enough = searched(None, 2, 3).await;
        assert_eq!(
            (enough.items, enough.reached),
            (vec![Item(3), Item(6)], None)
        );
        let far = searched(Some(7), 2, u64::MAX).await;
        let reached = far.reached.unwrap();
        assert!(far.items.is_empty());
        assert!(reached.id <= 7 + (SEARCH_RECORDS + PAGE) as u64);
    }

    #[test]
    fn pages_end_at_the_limit_or_at_the_last_record() {
        let page = |count, next| Page {
            items: vec![(); count],
            next,
        };
        let mut all = Pages::new(None);
        assert_eq!(all.next(), Some((None, PAGE)));
        all.pass(page(PAGE, Some(7)));
        assert_eq!(all.next(), Some((Some(7), PAGE)));
        all.pass(page(1, None));
        assert_eq!(all.next(), None);

        let mut some = Pages::new(Some(PAGE + 2));
        some.pass(page(PAGE, Some(7)));
        assert_eq!(some.next(), Some((Some(7), 2)));
        some.pass(page(2, Some(9)));
        assert_eq!(some.next(), None);
        assert_eq!(Pages::<u64>::new(Some(0)).next(), None);
    }
}
