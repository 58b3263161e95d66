//! The filters above lists: their fields, and how they are read.

use askama::{Template, filters::HtmlSafe};
use jiff::{Timestamp, civil, tz::TimeZone};
use postrider_config::parse_duration;
use postrider_store::Time;

use super::super::{asked::Asked, form::Fields, site::Area};
use crate::AdminError;

/// A field of a filter.
#[derive(Template)]
#[template(path = "past/input.html")]
pub(in super::super) struct Input {
    name: &'static str,
    label: &'static str,
    value: String,
    /// What can be chosen; empty: any text can be typed.
    choices: Vec<Choice>,
    hint: &'static str,
}

/// A choice: its value, its text, and whether it is the chosen one.
struct Choice {
    value: &'static str,
    label: &'static str,
    is_chosen: bool,
}

impl HtmlSafe for Input {}

impl Input {
    /// A field for text.
    pub(in super::super) fn text(
        fields: &Fields,
        name: &'static str,
        label: &'static str,
        hint: &'static str,
    ) -> Self {
        Self {
            name,
            label,
            value: fields.shown(name).to_owned(),
            choices: Vec::new(),
            hint,
        }
    }

    /// A field with choices: values and labels. The first one stands for any value.
    pub(in super::super) fn choice(
        fields: &Fields,
        name: &'static str,
        label: &'static str,
        choices: &[(&'static str, &'static str)],
    ) -> Self {
        let value = fields.shown(name).to_owned();
        let choice = |(known, label): &(&'static str, &'static str)| Choice {
            value: known,
            label,
            is_chosen: *known == value,
        };
        Self {
            name,
            label,
            choices: choices.iter().map(choice).collect(),
            value,
            hint: "",
        }
    }
}

/// The filter above a list.
#[derive(Template)]
#[template(path = "past/filter.html")]
pub(in super::super) struct Filter {
    main: Vec<Input>,
    more: Vec<Input>,
    /// One of the further fields is in use.
    is_open: bool,
    /// The page without any filter; empty: none is in use.
    all: String,
}

impl HtmlSafe for Filter {}

impl Filter {
    /// A filter with these fields, and with further ones that are folded up. `page` is the page
    /// without a filter.
    pub(in super::super) fn new(main: Vec<Input>, more: Vec<Input>, page: String) -> Self {
        let is_used = |inputs: &[Input]| inputs.iter().any(|input| !input.value.is_empty());
        let is_open = is_used(&more);
        Self {
            all: match is_open || is_used(&main) {
                true => page,
                false => String::new(),
            },
            main,
            more,
            is_open,
        }
    }

    /// One of the fields is in use. A holder's own account is none of them, since it narrows
    /// nothing.
    pub(super) const fn is_used(&self) -> bool {
        !self.all.is_empty()
    }
}

/// The accounts that a page is about: a holder's own, or the one that the fields name.
pub(in super::super) fn account(asked: &Asked, fields: &Fields) -> Option<String> {
    match is_holder(asked) {
        true => Some(asked.account().to_owned()),
        false => fields.text("account").map(str::to_owned),
    }
}

/// The account beyond which a visitor sees nothing. None: there is no such limit.
pub(in super::super) fn scope(asked: &Asked) -> Option<String> {
    account(asked, &Fields::default())
}

/// The visitor is the holder of an account.
pub(in super::super) fn is_holder(asked: &Asked) -> bool {
    asked.area != Area::Admin
}

/// The field for the account, for administrators.
pub(in super::super) fn account_input(asked: &Asked) -> Option<Input> {
    let input = || Input::text(&asked.query, "account", "Account", "");
    (!is_holder(asked)).then(input)
}

/// What a field for a time takes.
pub(in super::super) const PAST_HINT: &str = "2h ago is 2h; or 2026-11-28 14:00 in UTC";

/// A time in the past.
///
/// # Errors
/// If the field has a text that is no time.
pub(in super::super) fn past(
    fields: &Fields,
    name: &str,
    now: Time,
) -> Result<Option<Time>, AdminError> {
    moment(fields, name, |span| now.before(span))
}

/// A time to come.
///
/// # Errors
/// If the field has a text that is no time.
pub(in super::super) fn to_come(
    fields: &Fields,
    name: &str,
    now: Time,
) -> Result<Option<Time>, AdminError> {
    moment(fields, name, |span| now.after(span))
}

fn moment(
    fields: &Fields,
    name: &str,
    away: impl FnOnce(std::time::Duration) -> Time,
) -> Result<Option<Time>, AdminError> {
    let Some(text) = fields.text(name) else {
        return Ok(None);
    };
    if let Some(time) = exact(text) {
        return Ok(Some(time));
    }
    if text == "now" {
        return Ok(Some(away(std::time::Duration::ZERO)));
    }
    let span = text.trim_start_matches(['+', '-']).trim_end_matches("ago");
    match parse_duration(span.trim()) {
        Ok(span) => Ok(Some(away(span))),
        Err(_) => {
            let text = format!(
                "{text:?} is not a time; write 90m, 2h or 3d, or a time in UTC as 2026-11-28 14:00"
            );
            Err(AdminError::invalid(text).at(name))
        }
    }
}

/// A time in RFC 3339, or a date with or without a time, in UTC.
fn exact(text: &str) -> Option<Time> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.into());
    }
    let text = text.trim_end_matches("UTC").trim();
    let time = text.parse::<civil::DateTime>().ok();
    let time = time.or_else(|| Some(text.parse::<civil::Date>().ok()?.at(0, 0, 0, 0)))?;
    let zoned = time.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().into())
}

/// A bound of a time for a command; None in Err: there are two, which no command knows.
pub(super) fn bound(after: Option<Time>, before: Option<Time>) -> Result<Option<String>, ()> {
    match (after, before) {
        (Some(after), None) => Ok(Some(format!(">{after}"))),
        (None, Some(before)) => Ok(Some(format!("<{before}"))),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(()),
    }
}

/// `NAME=VALUE`, or a name alone.
pub(in super::super) fn extra(fields: &Fields) -> Option<(String, String)> {
    let text = fields.text("extra")?;
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Some((name.trim().to_owned(), value.trim().to_owned()))
}

/// A Message-ID with `<` and `>`.
pub(in super::super) fn message_id(fields: &Fields) -> Option<String> {
    let text = fields.text("message_id")?;
    Some(match text.starts_with('<') {
        true => text.to_owned(),
        false => format!("<{text}>"),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::super::form::query, *};

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = Time(1_796_040_000_000_000);
        let read = |text: &str| {
            let query = query([("at", text)]);
            past(&Fields::parse(query.as_bytes()), "at", now)
        };
        let hour = Time(now.0 - 3_600_000_000);
        for (text, time) in [
            ("1h", hour),
            ("-1h", hour),
            ("60m ago", hour),
            ("2026-11-28 14:00", Time(1_795_874_400_000_000)),
            ("2026-11-28 14:00 UTC", Time(1_795_874_400_000_000)),
            ("2026-11-28T14:00:00Z", Time(1_795_874_400_000_000)),
            ("2026-11-28", Time(1_795_824_000_000_000)),
        ] {
            assert_eq!(read(text), Ok(Some(time)), "{text}");
        }
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("soon").unwrap_err().field.as_deref(), Some("at"));
    }
}
