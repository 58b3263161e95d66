//! Pages of listings.

use std::collections::BTreeMap;

use postrider_store::{Page, StoreError};

use crate::call::value::lengths;

/// A page ends after about this number of bytes.
const PAGE: usize = 1 << 20;
/// The number of rows that are read at once.
const STEP: usize = 50;
/// The most rows of a page.
pub(super) const ROWS_MAX: usize = 1000;
/// The rows of a page when the request does not say.
const ROWS: usize = 100;

/// The number of rows of a page. 0 in a request stands for the default.
pub(super) const fn limit(wanted: usize) -> usize {
    match wanted {
        0 => ROWS,
        1..ROWS_MAX => wanted,
        _ => ROWS_MAX,
    }
}

/// Reads a page of up to `limit` rows after the row `after`. Long rows make a shorter page. The
/// second value is the last row if there may be more rows after it.
///
/// `list` reads rows after a row. `size` gives the bytes of a row.
pub(super) async fn rows<T, K: Copy, F: Future<Output = Result<Page<T, K>, StoreError>>>(
    limit: usize,
    mut after: Option<K>,
    list: impl Fn(Option<K>, usize) -> F,
    size: impl Fn(&T) -> usize,
) -> Result<(Vec<T>, Option<K>), StoreError> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    loop {
        let page = list(after, STEP.min(limit - rows.len())).await?;
        bytes += page.items.iter().map(&size).sum::<usize>();
        rows.extend(page.items);
        after = page.next;
        if after.is_none() || rows.len() >= limit || bytes >= PAGE {
            return Ok((rows, after));
        }
    }
}

/// The bytes of the texts of a row that may be long.
pub(super) fn long(subject: &str, extra: &BTreeMap<String, String>) -> usize {
    subject.len() + lengths(extra)
}
