//! The paths of calls and pages.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The variable elements of a path, if it is like `pattern`: an element in braces stands for any
/// text but the empty one.
pub(super) fn elements(pattern: &str, path: &[&str]) -> Option<Vec<String>> {
    let mut elements = Vec::new();
    let mut given = path.iter();
    for wanted in pattern.split('/') {
        let found = given.next()?;
        if wanted.starts_with('{') {
            elements.push((!found.is_empty()).then(|| (*found).to_owned())?);
        } else if wanted != *found {
            return None;
        }
    }
    given.next().is_none().then_some(elements)
}

/// The bytes that stand for themselves in an element of a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'@')
    .remove(b'+');

/// A text as one element of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}
