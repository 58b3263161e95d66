//! The audit log: who changed what, and who tried to.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use postrider_store::{Order, Time};
use serde_json::Value;

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::{self, AsCommand},
    form::Faults,
    frame::Frame,
    list::{Found, Listing},
    past::filter,
    shown::When,
};
use crate::{
    AdminError,
    op::audit::{AuditItem, Find, List},
};

/// The longest values that are shown without a click, in characters.
const SHORT: usize = 240;

#[derive(Template)]
#[template(path = "admin/watch/audit.html")]
struct Page {
    frame: Frame,
    /// The fields of the filter: name, label, value and hint.
    fields: Vec<(&'static str, &'static str, String, &'static str)>,
    is_filtered: bool,
    faults: Faults,
    found: Found<Row>,
}

struct Row {
    item: AuditItem,
    time: When,
    changes: Vec<Change>,
    /// The changes are few and short.
    is_short: bool,
}

/// A value before and after; empty where there was none.
struct Change {
    key: String,
    before: String,
    after: String,
}

const FIELDS: [(&str, &str, &str); 5] = [
    ("who", "Who", "a login or a key"),
    ("operation", "Operation", "account.add"),
    ("target", "Target", "an account, a domain"),
    ("since", "Since", "2h, or 2026-11-28"),
    ("before", "Before", "2h, or 2026-11-28"),
];

/// The entries that match, newest first.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let listing = Listing::new(&asked.query);
    match found(&asked, &listing).await {
        Ok(page) => Answer::page(&page),
        Err(error) if error.field.is_some() => Answer::again(&page(&asked, Faults::of(&error))),
        Err(error) => Err(error.into()),
    }
}

fn wanted(asked: &Asked, listing: &Listing) -> Result<List, AdminError> {
    let text = |name| asked.query.text(name).map(str::to_owned);
    Ok(List {
        who: text("who"),
        operation: text("operation"),
        target: text("target"),
        since: filter::past(&asked.query, "since", asked.now())?,
        before: filter::past(&asked.query, "before", asked.now())?,
        limit: Some(listing.limit()),
    })
}

/// The page without entries.
fn page(asked: &Asked, faults: Faults) -> Page {
    let shown = |(name, label, hint)| (name, label, asked.query.shown(name).to_owned(), hint);
    let fields: Vec<_> = FIELDS.into_iter().map(shown).collect();
    Page {
        frame: asked.frame("Audit log"),
        is_filtered: fields.iter().any(|(_, _, value, _)| !value.is_empty()),
        fields,
        faults,
        found: Found::default(),
    }
}

async fn found(asked: &Asked, listing: &Listing) -> Result<Page, AdminError> {
    let which = wanted(asked, listing)?;
    let mut page = page(asked, Faults::default());
    page.frame = page.frame.with(command(&which));
    let found = asked.run(Find {
        which,
        order: listing.order(Order::Descending),
        after: listing.after(),
    });
    let (found, now) = (found.await?, asked.now());
    page.found = listing.found(found, now, |item| item.id, |item| row(item, now));
    Ok(page)
}

fn command(which: &List) -> AsCommand {
    let time = |time: Option<Time>| time.map(|time| time.to_string());
    let (after, before) = (time(which.since), time(which.before));
    let given = [
        ("who", which.who.as_deref()),
        ("operation", which.operation.as_deref()),
        ("target", which.target.as_deref()),
        ("after", after.as_deref()),
        ("before", before.as_deref()),
    ];
    let command = AsCommand::cli(["audit", "list"]);
    let command = given.iter().fold(command, |command, (name, value)| {
        command.option(&format!("--{name}"), *value)
    });
    let path = command::path("/api/audit", &given);
    command.get(&path)
}

fn row(item: AuditItem, now: Time) -> Row {
    let changes = changes(&item.before, &item.after);
    let length = changes.iter();
    let length: usize = length
        .map(|it| it.key.len() + it.before.len() + it.after.len())
        .sum();
    Row {
        time: When::new(&item.time, now),
        is_short: length <= SHORT,
        changes,
        item,
    }
}

/// The values that are not the same, by their keys.
fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let (Some(old), Some(new)) = (fields(before), fields(after)) else {
        return vec![Change {
            key: String::new(),
            before: shown(before),
            after: shown(after),
        }];
    };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |key: &String| {
        let (before, after) = (old.get(key), new.get(key));
        let change = Change {
            key: key.clone(),
            before: before.map(shown).unwrap_or_default(),
            after: after.map(shown).unwrap_or_default(),
        };
        // A value that is null is as if it was not there.
        (change.before != change.after).then_some(change)
    };
    keys.into_iter().filter_map(change).collect()
}

fn fields(value: &Value) -> Option<serde_json::Map<String, Value>> {
    match value {
        Value::Null => Some(serde_json::Map::new()),
        Value::Object(fields) => Some(fields.clone()),
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_changed_stand_side_by_side() {
        let told = |before: Value, after: Value| {
            let changes = changes(&before, &after).into_iter();
            let changes = changes.map(|it| format!("{}: {} > {}", it.key, it.before, it.after));
            changes.collect::<Vec<_>>()
        };
        let (before, after) = (
            json!({"a": 1, "b": "x"}),
            json!({"a": 2, "b": "x", "c": [1]}),
        );
        assert_eq!(told(before, after), ["a: 1 > 2", "c:  > [1]"]);
        assert_eq!(
            told(json!({"a": "x"}), json!({"a": null, "b": null})),
            ["a: x > "]
        );
        assert_eq!(told(Value::Null, json!("192.0.2.1")), [":  > 192.0.2.1"]);
        assert!(told(Value::Null, Value::Null).is_empty());
    }
}
