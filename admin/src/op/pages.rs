//! Listings page by page.

use postrider_store::{Page, StoreError};

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

#[cfg(test)]
mod tests {
    use super::*;

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
