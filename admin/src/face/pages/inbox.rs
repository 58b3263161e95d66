//! The pages for developers, in localserve: what came in, and what was sent.

pub(super) mod download;
pub(super) mod list;
pub(super) mod message;
pub(super) mod send;
mod story;

use super::asked::Asked;

/// The account whose mail a visitor sees. None: the visitor is on this machine, and sees all.
fn account(asked: &Asked) -> Option<String> {
    let account = asked.account();
    (!account.is_empty()).then(|| account.to_owned())
}

/// The most characters of what a stranger wrote in a row or a title.
const SHORT: usize = 200;

/// The beginning of what a stranger wrote.
fn short(text: &str) -> String {
    match text.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}\u{2026}", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
