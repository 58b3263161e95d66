//! One message of the inbox, with its tabs.

use std::{sync::Arc, time::Duration};

use askama::Template;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        confirm::Confirm,
        frame::Frame,
        live::{self, Live, Part, Shown},
        shown::{Bytes, When},
    },
    account,
    download::{framed, source, text},
    list::told,
    short,
    story::Story,
};
use crate::op::{
    inbox::{Clear, FileItem, Get, HeaderItem, InboxId, InboxMessage, Mark, Source, WhatHappened},
    queue::Piece,
};

/// How often what happened is told again at most.
const EVERY: Duration = Duration::from_secs(1);
/// The most bytes of the source that a page shows.
const SOURCE_MAX: u64 = 256 << 10;
/// The tabs: name and title.
const TABS: [(&str, &str); 8] = [
    ("html", "HTML"),
    ("text", "Text"),
    ("source", "Source"),
    ("headers", "Headers"),
    ("files", "Files"),
    ("links", "Links"),
    ("hints", "Hints"),
    ("happened", "What happened"),
];

#[derive(Template)]
#[template(path = "inbox/message.html")]
struct Page {
    frame: Frame,
    message: InboxMessage,
    when: When,
    date: When,
    size: Bytes,
    state: (&'static str, &'static str),
    /// The path of the message, with a slash at its end.
    base: String,
    tab: &'static str,
    tabs: Vec<Tab>,
    /// The width and the scheme of the frame.
    width: &'static str,
    scheme: &'static str,
    source: String,
    /// The source is longer.
    source_cut: bool,
    headers: Vec<HeaderItem>,
    /// What the headers are filtered by.
    filter: String,
    files: Vec<FileRow>,
    happened: Option<Live>,
}

struct Tab {
    name: &'static str,
    title: &'static str,
    /// How much there is; empty: that is not counted.
    count: String,
}

struct FileRow {
    file: FileItem,
    size: Bytes,
}

/// A message with one of its tabs, or something to download of it.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = id(&asked)?;
    match asked.element(1) {
        "frame" => return framed(&asked, id).await,
        "message.eml" => return source(&asked, id).await,
        "message.html" | "message.txt" => return text(&asked, id).await,
        _ => {}
    }
    let get = Get {
        id,
        account: account(&asked),
        // A page that stays open reads the message once.
        reads: live::is_page(&asked),
        digests: asked.element(1) == "files",
    };
    let message = asked.run(get).await?;
    let wanted = match asked.element(1) {
        "" if message.gone => "happened",
        "" if message.html.is_empty() => "text",
        "" => "html",
        name => name,
    };
    let (tab, _) = TABS
        .into_iter()
        .find(|(name, _)| *name == wanted)
        .ok_or(Trouble::NoPage)?;
    let happened = match tab {
        "happened" => match live::shown(&asked, EVERY, story).await? {
            Shown::Part(answer) => return Ok(answer),
            Shown::Page(story) => Some(story),
        },
        _ => None,
    };
    let page = Page {
        happened,
        ..page(&asked, id, message, tab).await?
    };
    Answer::page(&page)
}

/// What happened.
async fn story(asked: Arc<Asked>) -> Result<Part, Trouble> {
    let id = id(&asked)?;
    let get = Get {
        id,
        account: account(&asked),
        reads: false,
        digests: false,
    };
    let message = asked.run(get).await?;
    let account = account(&asked);
    let happened = asked.run(WhatHappened { id, account }).await?;
    let story = Story::new(&asked, &message, happened);
    Ok(Part::new(&story)?.ending(story.over))
}

/// The message of a path.
pub(super) fn id(asked: &Asked) -> Result<InboxId, Trouble> {
    asked.element(0).parse().map_err(|_| Trouble::NoPage)
}

async fn page(
    asked: &Asked,
    id: InboxId,
    message: InboxMessage,
    tab: &'static str,
) -> Result<Page, Trouble> {
    let now = asked.now();
    let title = match message.row.subject.as_str() {
        "" => "(no subject)".to_owned(),
        subject => short(subject),
    };
    let mut page = Page {
        frame: asked.frame(&title).with(command(id)),
        when: When::new(&message.row.time, now),
        date: When::new(&message.date, now),
        size: Bytes(message.row.size),
        state: told(message.row.state),
        base: asked.url(&format!("{id}/")),
        tab,
        tabs: tabs(&message),
        width: choice(asked, "width", ["full", "w320", "w600"]),
        scheme: choice(asked, "scheme", ["light", "dark", "light"]),
        source: String::new(),
        source_cut: message.row.size > SOURCE_MAX,
        headers: Vec::new(),
        filter: asked.query.shown("filter").to_owned(),
        files: Vec::new(),
        happened: None,
        message,
    };
    match tab {
        "source" if !page.message.gone => {
            let source = Source {
                id,
                account: account(asked),
                max: Some(SOURCE_MAX),
            };
            let pieces = asked.list(source).await?;
            let bytes: Vec<u8> = pieces.into_iter().flat_map(|Piece(bytes)| bytes).collect();
            page.source = String::from_utf8_lossy(&bytes).into_owned();
        }
        "headers" => {
            let filter = page.filter.trim().to_lowercase();
            let has = |header: &HeaderItem| {
                let fields = [&header.name, &header.value];
                fields.iter().any(|it| it.to_lowercase().contains(&filter))
            };
            let headers = page.message.headers.iter();
            page.headers = headers.filter(|header| has(header)).cloned().collect();
        }
        "files" => {
            let files = page.message.files.iter().cloned();
            let row = |file: FileItem| FileRow {
                size: Bytes(file.size),
                file,
            };
            page.files = files.map(row).collect();
        }
        _ => {}
    }
    Ok(page)
}

/// One of these values of the query; the first if none is asked for.
fn choice(asked: &Asked, name: &str, values: [&'static str; 3]) -> &'static str {
    let asked = asked.query.text(name).unwrap_or_default();
    let found = values.iter().find(|value| **value == asked);
    found.copied().unwrap_or(values[0])
}

fn tabs(message: &InboxMessage) -> Vec<Tab> {
    let tab = |(name, title): (&'static str, &'static str)| {
        let count = match name {
            "html" if message.html.is_empty() => "none".to_owned(),
            "text" if message.text.is_empty() => "none".to_owned(),
            "headers" => message.headers.len().to_string(),
            "files" => message.files.len().to_string(),
            "links" => message.links.len().to_string(),
            "hints" => message.hints.len().to_string(),
            _ => String::new(),
        };
        Tab { name, title, count }
    };
    TABS.map(tab).into()
}

/// The command that shows the same.
fn command(id: InboxId) -> AsCommand {
    match id {
        InboxId::Mail(id) => {
            let request = format!("{{\"MsgID\": {id}}}");
            AsCommand::cli(["webapi", "MessageGet", &request])
        }
        InboxId::Message(id) => AsCommand::cli(["queue", "explain", &id.to_string()]),
    }
}

/// Asks before a message is removed.
pub(in super::super) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = id(&asked)?;
    let clear = Clear {
        ids: Some(vec![id]),
        account: account(&asked),
        dry_run: true,
        ..Clear::default()
    };
    let counts = asked.run(clear).await?;
    let action = asked.url(&format!("{id}/remove"));
    let mut confirm = Confirm::new(&asked, "Remove this message?", "Remove", &action)
        .effect("It is removed for good.")
        .back(asked.url(&id.to_string()));
    if counts.canceled > 0 {
        confirm = confirm.effect("It waits, and will be canceled. Webhooks are told so.");
    }
    Answer::page(&confirm)
}

/// Removes a message.
pub(in super::super) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = id(&asked)?;
    let clear = Clear {
        ids: Some(vec![id]),
        account: account(&asked),
        ..Clear::default()
    };
    let cleared = asked.run(clear).await?;
    Ok(match cleared.in_delivery {
        0 => asked.done("The message is removed.", ""),
        _ => {
            let told = "The message is being delivered, and stayed. Try again in a moment.";
            asked.done(told, &id.to_string())
        }
    })
}

/// Notes that a mail was not read.
pub(in super::super) async fn mark_unread(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let mark = Mark {
        ids: Some(vec![id(&asked)?]),
        account: account(&asked),
        read: false,
    };
    asked.run(mark).await?;
    Ok(asked.done("The mail is marked as unread.", ""))
}
