//! Addresses to complete: of people to whom the account sent, and of those whose mail it kept.

use std::collections::HashMap;

use axum::response::Response;
use postrider_store::{MailRow, RowFilter, SpecialUse, Time};
use serde::Serialize;

use super::{asked::Asked, problem::Problem};
use crate::http::answer::ok;

/// The usual number of contacts, and the most.
const CONTACTS: (usize, usize) = (10, 50);
/// How many messages are looked at in each mailbox, newest first.
const LOOKED_AT: usize = 2000;
/// How many letters somebody has typed at least.
const LETTERS: usize = 2;

#[derive(Debug, Serialize)]
struct Contact {
    name: String,
    email: String,
    last_used: String,
    count: u32,
}

/// What is known of an address.
#[derive(Debug)]
struct Known {
    name: String,
    last: Time,
    count: u32,
}

/// Completes an address or a name.
pub(super) async fn complete(asked: Asked) -> Result<Response, Problem> {
    let limit = asked.query.within("limit", CONTACTS.0, 1, CONTACTS.1)?;
    let wanted = asked
        .query
        .text("q")
        .unwrap_or_default()
        .trim()
        .to_lowercase();
    if wanted.chars().count() < LETTERS {
        let text = format!("give at least {LETTERS} letters");
        return Err(Problem::field("q", text));
    }
    let _place = asked
        .context
        .bounds
        .questions
        .take(asked.account(), 1)
        .await;
    let mut known = HashMap::new();
    for folder in asked.context.store.folders(asked.account()).await? {
        let is_other = |row: &MailRow| row.summary.is_some();
        let (sent, skipped) = match folder.special_use {
            Some(SpecialUse::Sent) => (true, false),
            Some(SpecialUse::Junk | SpecialUse::Trash | SpecialUse::Drafts) => (false, true),
            Some(SpecialUse::Archive) | None => (false, is_rejects(&asked, &folder.name)),
        };
        if skipped {
            continue;
        }
        let mailbox = (asked.account(), folder.name.as_str());
        let filter = RowFilter {
            text: Some(wanted.clone()),
            ..RowFilter::default()
        };
        let store = &asked.context.store;
        let page = store
            .list_rows(mailbox, filter, None, (0, LOOKED_AT))
            .await?;
        for row in page.unwrap_or_default().rows.into_iter().filter(is_other) {
            note(&mut known, &row, sent, &wanted);
        }
    }
    let mut found: Vec<(String, Known)> = known.into_iter().collect();
    found.sort_by(|a, b| (b.1.last, &b.0).cmp(&(a.1.last, &a.0)));
    let found = found.into_iter().take(limit).map(|(email, known)| Contact {
        name: known.name,
        email,
        last_used: known.last.to_string(),
        count: known.count,
    });
    Ok(ok(&found.collect::<Vec<_>>()))
}

fn is_rejects(asked: &Asked, mailbox: &str) -> bool {
    let config = asked.context.config.load();
    let account = config.accounts.get(asked.account());
    account.is_some_and(|it| it.rejects_mailbox == mailbox || it.junk_mailbox == mailbox)
}

/// Notes the people of a message: its recipients if it was sent, else its author.
fn note(known: &mut HashMap<String, Known>, row: &MailRow, sent: bool, wanted: &str) {
    let Some(summary) = &row.summary else {
        return;
    };
    let people: Vec<(&str, &str)> = match sent {
        true => summary.to.iter().map(|to| name_and_address(to)).collect(),
        false => vec![(&summary.from_name, &summary.from_addr)],
    };
    for (name, email) in people {
        let has = |text: &str| text.to_lowercase().contains(wanted);
        if email.is_empty() || !(has(name) || has(email)) {
            continue;
        }
        let known = known.entry(email.to_lowercase()).or_insert(Known {
            name: String::new(),
            last: row.mail.received,
            count: 0,
        });
        known.count += 1;
        known.last = known.last.max(row.mail.received);
        if known.name.is_empty() {
            name.clone_into(&mut known.name);
        }
    }
}

/// The parts of `Name <address>`.
fn name_and_address(text: &str) -> (&str, &str) {
    let parts = text
        .strip_suffix('>')
        .and_then(|text| text.rsplit_once(" <"));
    parts.unwrap_or(("", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_before_its_address() {
        for (text, expected) in [
            ("Ann B <ann@x.example>", ("Ann B", "ann@x.example")),
            ("ann@x.example", ("", "ann@x.example")),
            ("A <B> <c@x.example>", ("A <B>", "c@x.example")),
        ] {
            assert_eq!(name_and_address(text), expected);
        }
    }
}
