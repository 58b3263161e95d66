//! Text from outside, made safe to show on a terminal.
//!
//! Mail carries text of strangers: subjects, addresses, replies of servers. A control character in
//! it could move the cursor or change what the reader sees. A bidirectional control could reorder
//! the rest of the line. Such characters are shown as escapes, for example `\\u{1b}`.

use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Whether a terminal may act on the character instead of showing it: the controls of Unicode
/// (general category Cc), its line separators, and the controls of bidirectional text (UAX #9).
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}')
}

/// The text with escapes for hidden characters, except those that `keep` allows.
fn escape_but(text: &str, keep: fn(char) -> bool) -> Cow<'_, str> {
    let hidden = |c: char| is_hidden(c) && !keep(c);
    if !text.contains(hidden) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len().saturating_add(16));
    for c in text.chars() {
        match hidden(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out.into()
}

/// A text of several lines. Line ends and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape_but(text, |c| matches!(c, '\n' | '\t'))
}

/// A message as it is stored. Line ends of all kinds and tabs stay.
pub(super) fn message(text: &str) -> Cow<'_, str> {
    escape_but(text, |c| matches!(c, '\r' | '\n' | '\t'))
}

/// A value with all its strings made safe for one line.
pub(super) fn value<T: Serialize + DeserializeOwned>(value: &T) -> serde_json::Result<T> {
    let mut json = serde_json::to_value(value)?;
    escape_strings(&mut json);
    serde_json::from_value(json)
}

fn escape_strings(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(safe) = escape_but(text, |_| false) {
                *text = safe;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(escape_strings),
        Value::Object(fields) => fields.values_mut().for_each(escape_strings),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_shown() {
        for (text, shown) in [
            (
                "plain, \u{fc}ml\u{e4}ut, \u{5bb9}",
                "plain, \u{fc}ml\u{e4}ut, \u{5bb9}",
            ),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("evil\u{202e}gpj.exe", "evil\\u{202e}gpj.exe"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("a\rb", "a\\rb"),
            ("\u{7f}\u{7}", "\\u{7f}\\u{7}"),
            ("one\ntwo\tthree", "one\ntwo\tthree"),
        ] {
            assert_eq!(lines(text), shown);
        }
        assert_eq!(message("a\r\n\u{1b}"), "a\r\n\\u{1b}");
    }

    #[test]
    fn a_value_keeps_its_shape_and_stays_on_one_line() {
        let item = vec![("a\nb".to_owned(), 1_u64), ("c".to_owned(), u64::MAX)];
        let safe = value(&item).unwrap();
        assert_eq!(safe, [("a\\nb".to_owned(), 1), ("c".to_owned(), u64::MAX)]);
    }
}
