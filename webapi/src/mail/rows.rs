//! Lists of messages.

use axum::response::Response;
use postrider_store::{MailRow, ROWS_LOOKED_AT, RowFilter, RowPage, Summary};
use postrider_webhook::message::{SUMMARY_READ, summary};
use serde::Serialize;

use super::{
    asked::Asked, change::keyword, folder_name::shown, folders::missing, problem::Problem,
};
use crate::{call::run::blocking_with, http::answer::ok};

/// The usual number of messages of a page, and the most.
const PAGE: (usize, usize) = (50, 200);
/// The last row that pages lead to. Cursors lead further.
const PAGED_ROWS: usize = 10_000;

/// A message in a list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RowItem {
    pub(super) uid: u32,
    /// The number of the message in all APIs. It stays when the message is moved.
    id: u64,
    pub(super) from_addr: String,
    from_name: String,
    to: Vec<String>,
    pub(super) subject: String,
    date: Option<String>,
    received: String,
    /// In bytes.
    size: u64,
    pub(super) flags: Vec<String>,
    labels: Vec<String>,
    has_attachments: bool,
    preview: String,
    message_id: String,
}

impl RowItem {
    pub(super) fn new(row: MailRow) -> Self {
        let Summary {
            from_addr,
            from_name,
            to,
            subject,
            date,
            message_id,
            has_attachments,
            preview,
        } = row.summary.map(|summary| *summary).unwrap_or_default();
        let (flags, labels) = row
            .mail
            .flags
            .into_iter()
            .partition(|flag| flag.starts_with('\\') || flag.starts_with('$'));
        Self {
            uid: row.uid,
            id: row.mail.id.0,
            from_addr,
            from_name,
            to,
            subject,
            date: date.map(|date| date.to_string()),
            received: row.mail.received.to_string(),
            size: row.mail.size,
            flags: shown_flags(flags),
            labels,
            has_attachments,
            preview,
            message_id,
        }
    }
}

/// The five flags of IMAP have names with a capital letter (RFC 9051 §2.3.2).
pub(super) fn shown_flags(flags: Vec<String>) -> Vec<String> {
    let shown = flags.into_iter().map(|flag| match flag.as_str() {
        "\\seen" => "\\Seen".to_owned(),
        "\\answered" => "\\Answered".to_owned(),
        "\\flagged" => "\\Flagged".to_owned(),
        "\\deleted" => "\\Deleted".to_owned(),
        "\\draft" => "\\Draft".to_owned(),
        _ => flag,
    });
    shown.collect()
}

/// A page of a mailbox.
#[derive(Debug, Serialize)]
struct Page {
    folder: String,
    /// None with a filter: nothing counts these messages.
    total: Option<u64>,
    unseen: u64,
    page: usize,
    per_page: usize,
    /// The cursor of the next page.
    next: Option<String>,
    messages: Vec<RowItem>,
}

/// Lists the messages of a mailbox, newest UID first.
pub(super) async fn list(asked: Asked) -> Result<Response, Problem> {
    let name = asked.folder()?;
    let per_page = asked.query.within("per_page", PAGE.0, 1, PAGE.1)?;
    let page = asked.query.within("page", 1, 1, usize::MAX)?;
    let below: Option<u32> = asked.query.number("cursor")?;
    let skip = match below {
        Some(_) => 0,
        None => (page - 1).saturating_mul(per_page),
    };
    if skip >= PAGED_ROWS {
        let text =
            format!("pages end at row {PAGED_ROWS}; go on with cursor, which is next of a page");
        return Err(Problem::refused("useCursor", text));
    }
    let filter = filter(&asked)?;
    let is_whole = filter == RowFilter::default();
    let store = &asked.context.store;
    let _place = asked
        .context
        .bounds
        .questions
        .take(asked.account(), 1)
        .await;
    let folder = store.folder(asked.account(), &name).await?;
    let found = store
        .list_rows((asked.account(), &name), filter, below, (skip, per_page))
        .await?;
    let (folder, RowPage { rows, next }) = match (folder, found) {
        (Some(folder), Some(found)) => (folder, found),
        // The mailboxes that each account has are there before somebody looks.
        _ if is_usual(&asked, &name) => return Ok(ok(&empty(&name, page, per_page))),
        _ => return Err(missing(&name)),
    };
    let rows = summarized(&asked, rows).await?;
    Ok(ok(&Page {
        folder: shown(&name).to_owned(),
        total: is_whole.then_some(folder.exists),
        unseen: folder.unseen,
        page,
        per_page,
        next: next.map(|uid| uid.to_string()),
        messages: rows.into_iter().map(RowItem::new).collect(),
    }))
}

fn is_usual(asked: &Asked, name: &str) -> bool {
    let mut usual = asked.context.statics.default_mailboxes.iter();
    name == postrider_store::INBOX || usual.any(|usual| usual == name)
}

fn empty(name: &str, page: usize, per_page: usize) -> Page {
    Page {
        folder: shown(name).to_owned(),
        total: Some(0),
        unseen: 0,
        page,
        per_page,
        next: None,
        messages: Vec::new(),
    }
}

fn filter(asked: &Asked) -> Result<RowFilter, Problem> {
    let label = asked.query.text("label");
    let text = asked.query.text("q").map(str::to_lowercase);
    Ok(RowFilter {
        unseen: asked.query.is_set("unseen"),
        flag: label.map(|label| keyword("label", label)).transpose()?,
        text,
    })
}

/// Makes the summaries that are missing: of mail that an earlier program took, and of mail that
/// came back from deletion.
pub(super) async fn summarized(
    asked: &Asked,
    mut rows: Vec<MailRow>,
) -> Result<Vec<MailRow>, Problem> {
    debug_assert!(rows.len() <= ROWS_LOOKED_AT);
    let (store, limits) = (&asked.context.store, asked.context.statics.limits.mime());
    let mut made = Vec::new();
    for row in rows.iter_mut().filter(|row| row.summary.is_none()) {
        let message = store.mail_message(&row.mail).await?;
        let read = message.len().min(SUMMARY_READ);
        let beginning = message.beginning(read).await?;
        let shown = blocking_with(read, move || Ok(summary(&beginning, limits))).await?;
        made.push((row.mail.id, shown.clone()));
        row.summary = Some(Box::new(shown));
    }
    store.summarize(made).await?;
    Ok(rows)
}
