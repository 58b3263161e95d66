//! A line of the log as a value.
//!
//! Its texts are safe to show: they are cut off at [`TEXT_MAX`] bytes, and characters that a
//! terminal may act on are written as escapes, such as `\n` and `\u{202e}`. A backslash is written
//! as two, so that an escape is never mistaken for text.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

use tracing::field::{Field, Visit};

use super::name;
use crate::trace::EventType;

/// The most bytes of a text in a line. What is longer ends in `...`.
pub const TEXT_MAX: usize = 512;
const CUT: &str = "...";
/// The most fields of a line.
const FIELDS_MAX: usize = 48;

/// How severe a line is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A person is needed.
    Error,
    /// Unexpected.
    Warn,
    /// One line for each thing that happens to mail, and for each state of the server.
    Info,
    /// Decisions.
    Debug,
    /// The protocols, line by line, with secrets masked.
    Trace,
}

impl Level {
    /// All levels, the worst first.
    pub const ALL: [Self; 5] = [
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// The name in lower case, as in the configuration and in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The name in capital letters, as in the text form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text that is safe to show.
    Text(Box<str>),
    /// A whole number.
    Signed(i64),
    /// A whole number from 0.
    Unsigned(u64),
    /// A number with a fraction.
    Float(f64),
    /// Yes or no.
    Flag(bool),
}

impl Value {
    /// The value as text.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            other => Cow::Owned(other.to_string()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Signed(number) => number.fmt(f),
            Self::Unsigned(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When it was written, in microseconds since 1970.
    pub micros: i64,
    /// How severe it is.
    pub level: Level,
    /// The part of a program that wrote it, for example `postrider_queue::deliver`.
    pub target: Cow<'static, str>,
    /// What happened, in words that do not change.
    pub message: String,
    /// The event that the trace has for what the line tells, if who wrote the line says so by the
    /// field `trace.event`. It is in no output.
    pub event: Option<EventType>,
    /// The facts: those of the spans that the line is in, then its own. No name is there twice.
    pub fields: Vec<(&'static str, Value)>,
}

impl Line {
    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        let field = self.fields.iter().find(|(field, _)| *field == name);
        field.map(|(_, value)| value)
    }

    /// The fields as `key = value, ...`.
    #[must_use]
    pub fn details(&self) -> String {
        let mut details = String::new();
        for (name, value) in &self.fields {
            let comma = if details.is_empty() { "" } else { ", " };
            // Writing into a string does not fail.
            let _ = write!(details, "{comma}{name} = {value}");
        }
        details
    }

    /// The name of what the line tells of, such as `delivery.delivered`: a type of events of
    /// traces, or one that is made of the words of the line.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        name::name(self)
    }

    /// About how many bytes of memory the line takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = self.fields.iter().map(|(_, value)| match value {
            Value::Text(text) => text.len(),
            _ => 0,
        });
        let fields = self.fields.capacity() * size_of::<(&str, Value)>();
        size_of::<Self>() + self.message.len() + fields + texts.sum::<usize>()
    }

    /// Whether a text is somewhere in the line. `wanted` is in lower case; the line may be in any.
    /// A field is found as `name=value`, as logs for people have it, and as `name = value`.
    #[must_use]
    pub fn has(&self, wanted: &str) -> bool {
        let has = |text: &str| contains(text, wanted);
        let details = self.details();
        let as_in_text = |details: &str| details.replace(" = ", "=");
        has(&self.message)
            || has(&details)
            || has(&self.name())
            || has(self.level.word())
            || (wanted.contains('=') && has(&as_in_text(&details)))
    }
}

/// The part of a program that wrote a line, with dots and hyphens: `postrider.queue.deliver`.
#[must_use]
pub fn part(target: &str) -> String {
    let path = match target.strip_prefix("postrider_") {
        Some(path) => Cow::Owned(format!("postrider.{path}")),
        None => Cow::Borrowed(target),
    };
    path.replace("::", ".").replace('_', "-")
}

fn contains(text: &str, wanted: &str) -> bool {
    match text.is_ascii() {
        true => {
            let wanted = wanted.as_bytes();
            wanted.is_empty() || { text.as_bytes().windows(wanted.len()) }
                .any(|window| window.eq_ignore_ascii_case(wanted))
        }
        false => text.to_lowercase().contains(wanted),
    }
}

/// Whether a terminal may act on the character instead of showing it: the controls of Unicode
/// (general category Cc), its line separators, and the controls of bidirectional text (UAX #9).
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}')
}

/// Collects a text that is safe to show. It ends the formatting of a long text early.
#[derive(Default)]
struct Clean {
    text: String,
    is_full: bool,
}

impl Clean {
    fn of(value: fmt::Arguments<'_>) -> String {
        let mut clean = Self::default();
        // The only error is that there is enough of the text.
        let _ = clean.write_fmt(value);
        clean.text
    }

    fn push(&mut self, text: &str) -> fmt::Result {
        if self.is_full {
            return Err(fmt::Error);
        }
        if self.text.len() + text.len() <= TEXT_MAX {
            self.text.push_str(text);
            return Ok(());
        }
        let room = TEXT_MAX - self.text.len();
        let fits = text.floor_char_boundary(room);
        self.text.push_str(text.get(..fits).unwrap_or_default());
        let kept = self.text.floor_char_boundary(TEXT_MAX - CUT.len());
        self.text.truncate(kept);
        self.text.push_str(CUT);
        self.is_full = true;
        Err(fmt::Error)
    }
}

impl fmt::Write for Clean {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.contains(|c| c == '\\' || is_hidden(c)) {
            return self.push(text);
        }
        let mut buffer = [0; 4];
        for c in text.chars() {
            match c == '\\' || is_hidden(c) {
                true => self.push(&c.escape_default().to_string())?,
                false => self.push(c.encode_utf8(&mut buffer))?,
            }
        }
        Ok(())
    }
}

/// Collects the fields of a line or of a span.
#[derive(Default)]
pub(super) struct Fields {
    /// What the field `message` says.
    pub(super) message: String,
    /// The target that a line of the crate `log` brings.
    pub(super) target: Option<String>,
    /// What the field `trace.event` names.
    pub(super) event: Option<EventType>,
    pub(super) fields: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.set(field.name(), value);
    }

    /// Sets a field. A later value replaces an earlier one.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        let is_full = self.fields.len() >= FIELDS_MAX;
        match self.fields.iter_mut().find(|(field, _)| *field == name) {
            Some((_, old)) => *old = value,
            None if is_full => {}
            None => self.fields.push((name, value)),
        }
    }

    fn text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let value = Clean::of(value);
        match field.name() {
            "message" => self.message = value,
            "log.target" => self.target = Some(value),
            "trace.event" => self.event = EventType::from_name(&value),
            // Where the source of a library is helps nobody here.
            name if name.starts_with("log.") => {}
            name => self.set(name, Value::Text(value.into())),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() != "log.line" {
            self.add(field, Value::Unsigned(value));
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Flag(value));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_safe_to_show() {
        for (text, expected) in [
            ("plain \u{fc}", "plain \u{fc}"),
            (
                "a\r\nINFO accepted\tx\u{0}\u{1b}[2J",
                "a\\r\\nINFO accepted\\tx\\u{0}\\u{1b}[2J",
            ),
            ("\u{202e}txt\u{2069}\u{85}", "\\u{202e}txt\\u{2069}\\u{85}"),
            ("C:\\n", "C:\\\\n"),
        ] {
            assert_eq!(Clean::of(format_args!("{text}")), expected);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let exact = "x".repeat(TEXT_MAX);
        assert_eq!(Clean::of(format_args!("{exact}")), exact);
        let longer = Clean::of(format_args!("{exact}y"));
        assert_eq!(longer.len(), TEXT_MAX);
        assert!(longer.ends_with("x..."));
        // A letter of two bytes is not cut in two.
        let letters = Clean::of(format_args!("{}", "\u{e9}".repeat(TEXT_MAX)));
        assert!(letters.len() <= TEXT_MAX && letters.ends_with("\u{e9}..."));
        let parts = Clean::of(format_args!("{:?}", vec![7; 100_000]));
        assert_eq!(parts.len(), TEXT_MAX);
    }

    proptest! {
        #[test]
        fn no_text_brings_a_control_or_is_too_long(text in any::<String>(), times in 0_usize..300) {
            let clean = Clean::of(format_args!("{}", text.repeat(times)));
            prop_assert!(!clean.contains(is_hidden));
            prop_assert!(clean.len() <= TEXT_MAX);
        }
    }

    #[test]
    fn a_text_is_found_anywhere_and_in_any_case() {
        let line = Line {
            micros: 0,
            level: Level::Info,
            target: "postrider_queue::end_of".into(),
            message: "delivered".to_owned(),
            event: None,
            fields: vec![
                ("to", Value::Text("Ann@a.test".into())),
                ("name", Value::Text("\u{c4}rger".into())),
                ("queue", Value::Unsigned(7)),
            ],
        };
        for wanted in [
            "",
            "deliver",
            "ann@a.test",
            "to = ann",
            "queue = 7",
            "queue=7",
            "delivery.delivered",
            "info",
            "\u{e4}rger",
        ] {
            assert!(line.has(wanted), "{wanted}");
        }
        assert!(!line.has("bob") && !line.has("end-of") && !line.has(&"x".repeat(1000)));
    }
}
