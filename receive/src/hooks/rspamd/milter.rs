//! The `milter` object of an answer: changes of the message, as rspamd's own milter makes them.
//!
//! What has another form than rspamd writes is skipped, as its milter does.

use postrider_smtp::field::encoded_words;
use serde_json::{Map, Value};

use crate::hooks::{
    answer::{Change, Failure, shown},
    edit::{Edit, NewField, Which},
    envelope::{add_recipient, change_sender, delete_recipient},
};

/// The most bytes of a name that a failure shows.
const SHOWN_MAX: usize = 60;

/// The changes of a `milter` object. Fields are removed before others are added.
///
/// # Errors
/// If a name is none of a header field, or an address is none.
pub(super) fn changes(milter: &Value) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    for (name, which) in members(milter, "remove_headers") {
        let remove = |which| Edit::Remove(name.as_bytes().to_vec(), which);
        changes.extend(removed(which).into_iter().map(remove).map(Change::Header));
    }
    for (name, added) in members(milter, "add_headers") {
        for added in one_or_more(added) {
            changes.extend(field_at(name, added)?.map(Change::Header));
        }
    }
    if let Some(path) = milter.get("change_from").and_then(Value::as_str) {
        changes.push(change_sender(path, None)?);
    }
    for path in texts(milter, "add_rcpt") {
        changes.extend(add_recipient(path, None)?);
    }
    changes.extend(texts(milter, "del_rcpt").map(delete_recipient));
    Ok(changes)
}

/// The fields that mark junk, for the action `add header`: those of `spam_header`, or
/// `X-Spam: Yes`. They replace fields of the same names, which came from outside.
///
/// # Errors
/// If a name is none of a header field.
pub(super) fn spam_marks(milter: &Value) -> Result<Vec<Change>, Failure> {
    const MARK: &str = "X-Spam";
    match milter.get("spam_header") {
        Some(Value::String(value)) => marked(MARK, value),
        Some(Value::Object(marks)) => {
            let marks = marks
                .iter()
                .filter_map(|(name, value)| Some(marked(name, value.as_str()?)));
            Ok(marks.collect::<Result<Vec<_>, _>>()?.concat())
        }
        _ => marked(MARK, "Yes"),
    }
}

/// A field in the place of all fields of its name.
///
/// # Errors
/// If the name is none of a header field.
pub(super) fn marked(name: &str, value: &str) -> Result<Vec<Change>, Failure> {
    let field = field(name, value)?;
    let edits = [
        Edit::Remove(name.as_bytes().to_vec(), Which::All),
        Edit::AtEnd(field),
    ];
    Ok(edits.map(Change::Header).to_vec())
}

/// A field with a value of rspamd. Parts of it may come from the message, so it is made safe: a
/// control character becomes a space, and a line that is no continuation becomes one.
///
/// # Errors
/// If the name is none of a header field.
pub(super) fn field(name: &str, value: &str) -> Result<NewField, Failure> {
    let is_wrong = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let value = value.replace(is_wrong, " ");
    let mut lines = value.split('\n').map(str::trim_end);
    let mut safe = lines.next().unwrap_or_default().to_owned();
    for line in lines.filter(|line| !line.is_empty()) {
        safe.push('\n');
        if !line.starts_with([' ', '\t']) {
            safe.push('\t');
        }
        safe.push_str(line);
    }
    NewField::new(name.as_bytes(), safe.as_bytes()).map_err(|error| {
        let name = shown(name, SHOWN_MAX);
        Failure::invalid(format_args!(
            "its answer has the header field {name:?}: {error}"
        ))
    })
}

/// The value of a Subject field. rspamd gives encoded words if it needs them.
pub(super) fn subject(text: &str) -> String {
    match text.is_ascii() {
        true => text.to_owned(),
        false => encoded_words(text).join("\n "),
    }
}

/// The members of an object in an object.
fn members<'a>(milter: &'a Value, name: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let members = milter.get(name).and_then(Value::as_object);
    let members = members.into_iter().flat_map(Map::iter);
    members.map(|(name, value)| (name.as_str(), value))
}

/// The texts of a list in an object.
fn texts<'a>(milter: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    let list = milter.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// The values of a list, or the value itself.
fn one_or_more(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        value => std::slice::from_ref(value),
    }
}

/// A whole number. UCL, in which rspamd writes, knows no difference between 1 and 1.0.
fn number(value: &Value) -> Option<i64> {
    let float = value.as_f64().filter(|float| float.fract() == 0.0);
    // The conversion stops at the ends of the range, which are places beyond any field.
    value.as_i64().or_else(|| float.map(|float| float as i64))
}

/// The fields that go: the n-th from the top, or from the bottom for a negative number, or all for
/// 0. Several numbers count the fields as they are before any is removed. So the highest go first.
fn removed(which: &Value) -> Vec<Which> {
    let mut numbers: Vec<i64> = one_or_more(which).iter().filter_map(number).collect();
    if numbers.contains(&0) {
        return vec![Which::All];
    }
    numbers.sort_unstable_by_key(|number| std::cmp::Reverse(number.unsigned_abs()));
    numbers.dedup();
    let place = |number: i64| usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
    let which = numbers.into_iter().map(|number| match number > 0 {
        true => Which::FromTop(place(number)),
        false => Which::FromBottom(place(number)),
    });
    which.collect()
}

/// A field and its place: `"value"`, or `{"value": .., "order": ..}`.
fn field_at(name: &str, added: &Value) -> Result<Option<Edit>, Failure> {
    let value = added.as_str().or_else(|| added.get("value")?.as_str());
    let Some(value) = value else {
        return Ok(None);
    };
    let field = field(name, value)?;
    let order = added.get("order").or_else(|| added.get("index"));
    Ok(Some(match order.and_then(number) {
        None => Edit::AtEnd(field),
        Some(order) => ordered(order, field),
    }))
}

/// A field at its place. The order of rspamd is an index of the milter protocol: 0 is above the
/// Received field of the server, and 1 is below it. That field is not in the section, and stands
/// above all changes. A negative order counts from the end, which is -1.
fn ordered(order: i64, field: NewField) -> Edit {
    let distance = usize::try_from(order.unsigned_abs()).unwrap_or(usize::MAX);
    match order < 0 {
        true => Edit::FromEnd(distance - 1, field),
        false => Edit::At(distance.saturating_sub(1), field),
    }
}
