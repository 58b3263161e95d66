//! Text from outside, made safe to show on a terminal.
//!
//! Mail carries text of strangers: subjects, addresses, replies of servers. A control character in
//! it could move the cursor or change what the reader sees. A bidirectional control could reorder
//! the rest of the line. Such characters are shown as escapes, for example `\\u{1b}`. In JSON they
//! are written as escapes of JSON, such as `\\u001b`, so that programs read the same text.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use postrider_observe::log::is_hidden;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{
    Value,
    ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer},
};

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

/// Writes a value as JSON on one line.
pub(super) fn write_json(out: impl Write, value: &impl Serialize) -> serde_json::Result<()> {
    let formatter = Escaped(CompactFormatter);
    value.serialize(&mut Serializer::with_formatter(out, formatter))
}

/// A value as JSON on several lines, with an indent.
pub(super) fn pretty_json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    let formatter = Escaped(PrettyFormatter::new());
    value.serialize(&mut Serializer::with_formatter(&mut out, formatter))?;
    Ok(out)
}

/// A form of JSON that writes hidden characters of strings as escapes (RFC 8259, section 7).
struct Escaped<F>(F);

/// Hands the parts of arrays and objects on.
macro_rules! hand_on {
    ($($name:ident($($argument:ident: $of:ty),*);)+) => {
        $(fn $name<W: ?Sized + Write>(&mut self, out: &mut W, $($argument: $of),*) -> io::Result<()> {
            self.0.$name(out, $($argument),*)
        })+
    };
}

impl<F: Formatter> Formatter for Escaped<F> {
    hand_on! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        begin_object_value();
        end_object_value();
    }

    /// The engine has written the controls of ASCII that JSON demands as escapes before.
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hidden) {
            let (plain, hidden) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut hidden = hidden.chars();
            if let Some(c) = hidden.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            rest = hidden.as_str();
        }
        out.write_all(rest.as_bytes())
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

    #[test]
    fn json_has_escapes_and_keeps_its_value() {
        let text = "a\u{1b}\n\u{7f}\u{9b}2J\u{202e}b\u{2066}\u{fc} \u{1f600}\u{200f}";
        let value = serde_json::json!({text: [text, 1, null], "empty": {}});
        let mut line = Vec::new();
        write_json(&mut line, &value).unwrap();
        let pretty = pretty_json(&value).unwrap();
        for written in [&line, &pretty] {
            let written = std::str::from_utf8(written).unwrap();
            let shown = "a\\u001b\\n\\u007f\\u009b2J\\u202eb\\u2066\u{fc} \u{1f600}\\u200f";
            assert_eq!(written.matches(shown).count(), 2, "{written}");
            assert!(!written.replace('\n', "").contains(is_hidden), "{written}");
            assert_eq!(serde_json::from_str::<Value>(written).unwrap(), value);
        }
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 0);
        assert!(pretty.starts_with(b"{\n  \""));
    }
}
