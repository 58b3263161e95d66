//! The list of the inbox, the newest match of a search, and changes of all that is there.

use std::{sync::Arc, time::Duration};

use askama::Template;
use postrider_store::Order;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        confirm::Confirm,
        form::{Faults, query},
        frame::Frame,
        list::{Links, Listing, Reach},
        live::{self, Live, Part, Shown},
        shown::{Bytes, When, counted},
    },
    account, short,
};
use crate::{
    AdminError, Code,
    op::inbox::{Clear, InboxPage, InboxRow, InboxState, List, Mark},
};

/// How often the rows are made again at most.
const EVERY: Duration = Duration::from_secs(1);
/// How many parts of the inbox are searched at most for the newest match.
const PARTS_MAX: usize = 500;

/// The list as a part of a page.
#[derive(Template)]
#[template(path = "inbox/rows.html")]
struct Rows {
    /// The path of the inbox.
    base: String,
    rows: Vec<Row>,
    links: Links,
    query: String,
    searched: Option<Reach>,
}

#[derive(Template)]
#[template(path = "inbox/list.html")]
struct Page {
    frame: Frame,
    query: String,
    /// The rows. None: the search is wrong.
    rows: Option<Live>,
    faults: Faults,
}

struct Row {
    row: InboxRow,
    when: When,
    size: Bytes,
    /// The state for people, and its colour.
    state: (&'static str, &'static str),
}

/// What a state is called, and its colour.
pub(super) const fn told(state: InboxState) -> (&'static str, &'static str) {
    match state {
        InboxState::Received => ("received", ""),
        InboxState::Report => ("report", "warn"),
        InboxState::Delivered => ("delivered", "good"),
        InboxState::Queued => ("queued", ""),
        InboxState::Delayed => ("delayed", "warn"),
        InboxState::Held => ("held", "warn"),
        InboxState::Failed => ("failed", "bad"),
    }
}

/// The rows of a page.
async fn rows(asked: Arc<Asked>) -> Result<Part, Trouble> {
    let listing = Listing::new(&asked.query);
    let query = asked.query.text("q").unwrap_or_default().to_owned();
    let list = List {
        query: query.clone(),
        account: account(&asked),
        after: listing.after(),
        order: listing.order(Order::Descending),
        limit: listing.limit(),
    };
    let InboxPage {
        rows,
        searched_to,
        goes_on,
    } = asked.run(list).await?;
    let now = asked.now();
    let searched = searched_to.zip(goes_on);
    let searched = searched.map(|(to, on)| listing.reach(&to, &on, now));
    let (rows, links) = listing.arrange(rows, |row| row.place.clone());
    let row = |row: InboxRow| Row {
        when: When::new(&row.time, now),
        size: Bytes(row.size),
        state: told(row.state),
        row: InboxRow {
            from: short(&row.from),
            to: short(&row.to),
            subject: short(&row.subject),
            ..row
        },
    };
    Part::new(&Rows {
        base: asked.url(""),
        rows: rows.into_iter().map(row).collect(),
        links,
        query,
        searched,
    })
}

/// The list.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (rows, faults) = match live::shown(&asked, EVERY, rows).await {
        Ok(Shown::Part(answer)) => return Ok(answer),
        Ok(Shown::Page(rows)) => (Some(rows), Faults::default()),
        Err(Trouble::Failed(error)) if error.code == Code::Invalid => {
            (None, Faults::of(&error.at("q")))
        }
        Err(trouble) => return Err(trouble),
    };
    let page = Page {
        frame: asked.frame("Inbox"),
        query: asked.query.shown("q").to_owned(),
        rows,
        faults,
    };
    match page.faults.is_empty() {
        true => Answer::page(&page),
        false => Answer::again(&page),
    }
}

/// Leads to the newest match of a search, for tests that a browser runs.
pub(in super::super) async fn latest(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let query = asked.query.text("q").unwrap_or_default().to_owned();
    let mut after = None;
    for _ in 0..PARTS_MAX {
        let list = List {
            query: query.clone(),
            account: account(&asked),
            after,
            order: Order::Descending,
            limit: 1,
        };
        let InboxPage { rows, goes_on, .. } = asked.run(list).await?;
        if let Some(row) = rows.first() {
            return Ok(Answer::SeeOther(asked.url(&row.id)));
        }
        after = goes_on;
        if after.is_none() {
            break;
        }
    }
    let text = match query.is_empty() {
        true => "nothing is in the inbox yet".to_owned(),
        false => format!("nothing in the inbox matches {query}"),
    };
    Err(AdminError::not_found(text).into())
}

/// Notes that all was read.
pub(in super::super) async fn mark_all(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let mark = Mark {
        ids: None,
        account: account(&asked),
        read: true,
    };
    let marked = asked.run(mark).await?.marked;
    let told = format!(
        "{} marked as read.",
        counted(marked, "mail is", "mails are")
    );
    Ok(asked.done(told, ""))
}

/// The path of the list with a search.
fn with_query(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("?{}", query([("q", text)])),
    }
}

/// Asks before the inbox is cleared.
pub(in super::super) async fn ask_clear(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let query = asked.query.text("q").unwrap_or_default().to_owned();
    let clear = Clear {
        ids: None,
        query: query.clone(),
        account: account(&asked),
        dry_run: true,
    };
    let counts = asked.run(clear).await?;
    let first = List {
        query: query.clone(),
        account: account(&asked),
        after: None,
        order: Order::Descending,
        limit: 5,
    };
    let first = asked.run(first).await?.rows.into_iter();
    let examples = first.map(|row| format!("{}, to {}", short(&row.subject), short(&row.to)));
    let question = match query.is_empty() {
        true => "Clear the inbox?".to_owned(),
        false => format!("Clear what matches {query}?"),
    };
    let mut confirm = Confirm::new(&asked, &question, "Clear", &asked.url("clear"))
        .examples(examples.collect())
        .repeating(&asked.query)
        .back(asked.url(&with_query(&query)));
    if counts.mails > 0 {
        let mails = counted(counts.mails, "mail is", "mails are");
        confirm = confirm.effect(format!("{mails} removed for good."));
    }
    if counts.ended > 0 {
        let ended = counted(counts.ended, "message", "messages");
        confirm = confirm.effect(format!("{ended} that ended will be forgotten."));
    }
    if counts.canceled > 0 {
        let waiting = counted(
            counts.canceled,
            "message waits and is",
            "messages wait and are",
        );
        confirm = confirm.effect(format!("{waiting} canceled. Webhooks are told so."));
    }
    if counts.mails + counts.ended + counts.canceled == 0 {
        confirm = confirm.effect("Nothing is there that could be removed.");
    }
    Answer::page(&confirm)
}

/// Clears the inbox.
pub(in super::super) async fn clear(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let query = asked.form.text("q").unwrap_or_default().to_owned();
    let clear = Clear {
        ids: None,
        query,
        account: account(&asked),
        dry_run: false,
    };
    let cleared = asked.run(clear).await?;
    let removed = cleared.mails + cleared.ended + cleared.canceled;
    let mut told = format!(
        "{} removed.",
        counted(removed, "message is", "messages are")
    );
    if cleared.in_delivery > 0 {
        let stays = counted(cleared.in_delivery, "message is", "messages are");
        told.push_str(&format!(" {stays} being delivered, and stayed."));
    }
    Ok(asked.done(told, ""))
}
