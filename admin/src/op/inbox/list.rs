//! The rows of the inbox.

use std::time::{Duration, Instant};

use postrider_queue::{is_in_mailbox, sent_as};
use postrider_smtp::{Address, ReversePath};
use postrider_store::{Message, Order, Time};
use postrider_webhook::message::{self, Parsed};
use serde::{Deserialize, Serialize};

use super::{
    super::Single,
    BEGINNING, Entry, SEEN, SENT, author, limits,
    message::{files, is_shown},
    query::Query,
    walk::{Place, Walk},
};
use crate::{AdminError, Context};

/// How long a list may be searched, and how many records it may look at. Then it tells where it
/// goes on. It looks at some in any case.
const TIME: Duration = Duration::from_millis(40);
const LOOK_MAX: usize = 20_000;
const LOOK_MIN: usize = 100;

/// What became of something in the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboxState {
    /// It came in.
    Received,
    /// It came in, and reports on the delivery of another message.
    Report,
    /// It was sent, and the next hop took it.
    Delivered,
    /// It was sent, and waits for its first attempt.
    Queued,
    /// It was sent, an attempt failed, and it waits for another.
    Delayed,
    /// It was sent, and is held.
    Held,
    /// It was sent, and nobody took it.
    Failed,
}

impl InboxState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Received,
        Self::Report,
        Self::Delivered,
        Self::Queued,
        Self::Delayed,
        Self::Held,
        Self::Failed,
    ];
    /// Those of messages that were sent.
    pub(super) const SENT: [Self; 5] = [
        Self::Delivered,
        Self::Queued,
        Self::Delayed,
        Self::Held,
        Self::Failed,
    ];

    /// The name in searches.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Report => "report",
            Self::Delivered => "delivered",
            Self::Queued => "queued",
            Self::Delayed => "delayed",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }

    fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Mail(mail) if mail.dsn => Self::Report,
            Entry::Mail(mail) if sent_as(mail).is_some() => Self::Delivered,
            Entry::Mail(_) => Self::Received,
            Entry::Ended(_, true) => Self::Delivered,
            Entry::Ended(_, false) => Self::Failed,
            Entry::Queued(message) if message.hold => Self::Held,
            Entry::Queued(message) if message.results.is_empty() => Self::Queued,
            Entry::Queued(_) => Self::Delayed,
        }
    }
}

/// A row of the inbox. Times are RFC 3339, addresses are in their Unicode form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRow {
    /// Its name: `m12` for a mail, `q7` for a message that was sent and is no mail.
    pub id: String,
    /// What became of it.
    pub state: InboxState,
    /// Nobody has read it. Only mails are read.
    pub unread: bool,
    /// The author by the header; else the reverse-path.
    pub from: String,
    /// The recipient of the envelope; else those of the header.
    pub to: String,
    /// The subject, decoded.
    pub subject: String,
    /// When it came, or was sent.
    pub time: String,
    /// Bytes.
    pub size: u64,
    /// How many files are attached, as far as the beginning tells.
    pub files: usize,
    /// There may be more files.
    pub more_files: bool,
    /// The account that sent it; empty: it came without a login.
    pub login: String,
    /// The mailbox; empty: it is in none.
    pub mailbox: String,
    /// Where it stands in the list.
    pub place: String,
}

/// Lists what is in the inbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The search; empty: everything.
    #[serde(default)]
    pub query: String,
    /// Only of this account; None: of all accounts.
    #[serde(default)]
    pub account: Option<String>,
    /// Only behind this place; None: from the beginning.
    #[serde(default)]
    pub after: Option<String>,
    /// By time, ascending or descending.
    #[serde(default)]
    pub order: Order,
    /// The most rows.
    pub limit: usize,
}

/// A part of the inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxPage {
    /// The rows.
    pub rows: Vec<InboxRow>,
    /// The search ended early, at the row of this time.
    pub searched_to: Option<String>,
    /// The place where a search that ended early goes on.
    pub goes_on: Option<String>,
}

impl Single for List {
    type Output = InboxPage;

    async fn answer(self, context: &Context) -> Result<InboxPage, AdminError> {
        let query = Query::parse(&self.query)?;
        let after = self.after.as_deref().map(str::parse).transpose()?;
        let account = self.account.as_deref();
        let mut walk = Walk::new(context, account, after, self.order);
        let mut page = InboxPage::default();
        let (began, mut seen) = (Instant::now(), 0);
        while page.rows.len() < self.limit
            && let Some((entry, place)) = walk.next().await?
        {
            seen += 1;
            let is_row = !is_shown_elsewhere(&entry);
            if is_row && let Some(row) = row(context, &entry, place, &query).await? {
                page.rows.push(row);
            }
            let is_late = seen >= LOOK_MIN && !query.is_empty() && began.elapsed() > TIME;
            if (is_late || seen >= LOOK_MAX) && page.rows.len() < self.limit {
                page.searched_to = Some(Facts::of(&entry).time.to_string());
                page.goes_on = Some(place.to_string());
                break;
            }
        }
        Ok(page)
    }
}

/// Whether a row of something else stands for it: of a message that localserve delivered, the mail
/// does.
pub(super) fn is_shown_elsewhere(entry: &Entry) -> bool {
    match entry {
        Entry::Mail(mail) => mail.mailbox == SENT,
        Entry::Queued(_) => false,
        Entry::Ended(message, success) => *success && is_in_mailbox(message),
    }
}

/// The row of an entry. None: it does not match.
pub(super) async fn row(
    context: &Context,
    entry: &Entry,
    place: Place,
    query: &Query,
) -> Result<Option<InboxRow>, AdminError> {
    let facts = Facts::of(entry);
    if !query.may_match(&facts) {
        return Ok(None);
    }
    let parsed = match entry.bytes(context).await? {
        Some(message) => beginning(context, &message).await?,
        None => Parsed {
            subject: entry.subject().to_owned(),
            ..Parsed::default()
        },
    };
    let is_match = query.matches(&facts, &parsed);
    Ok(is_match.then(|| InboxRow::new(entry, &facts, &parsed, place)))
}

/// What the beginning of a message says.
pub(super) async fn beginning(context: &Context, message: &Message) -> Result<Parsed, AdminError> {
    let bytes = message.beginning(BEGINNING).await?;
    Ok(message::parse(&bytes, limits(context)))
}

/// What the record of an entry says.
pub(super) struct Facts<'a> {
    pub(super) state: InboxState,
    pub(super) time: Time,
    pub(super) size: u64,
    /// The flags of a mail.
    pub(super) flags: Option<&'a [String]>,
    /// The account that sent it; empty: it came without a login.
    pub(super) login: &'a str,
    /// The reverse-path; empty for the null reverse-path.
    pub(super) sender: String,
    /// The recipient of the envelope; empty if it is not known.
    pub(super) recipient: String,
}

impl<'a> Facts<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        let unicode = |address: Option<&Address>| address.map(Address::unicode).unwrap_or_default();
        let state = InboxState::of(entry);
        match entry {
            Entry::Mail(mail) => {
                let arrival = mail.smtp.as_ref();
                let sender = arrival.and_then(|it| ReversePath::address(&it.mail_from));
                Self {
                    state,
                    time: mail.received,
                    size: mail.size,
                    flags: Some(&mail.flags),
                    login: match state {
                        InboxState::Delivered => &mail.account,
                        _ => "",
                    },
                    sender: unicode(sender),
                    recipient: unicode(arrival.map(|it| &it.rcpt_to)),
                }
            }
            Entry::Queued(message) | Entry::Ended(message, _) => Self {
                state,
                time: message.common.queued,
                size: message.common.size,
                flags: None,
                login: &message.common.account,
                sender: unicode(message.reverse_path.address()),
                recipient: message.recipient.unicode(),
            },
        }
    }
}

impl Entry {
    /// The subject as the record has it.
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Mail(_) => "",
            Self::Queued(message) | Self::Ended(message, _) => &message.common.subject,
        }
    }
}

impl InboxRow {
    pub(super) fn new(entry: &Entry, facts: &Facts<'_>, parsed: &Parsed, place: Place) -> Self {
        let by_header = author(parsed);
        let to = parsed.to.iter().map(ToString::to_string);
        Self {
            id: entry.id().to_string(),
            state: facts.state,
            unread: facts
                .flags
                .is_some_and(|flags| !flags.iter().any(|flag| flag == SEEN)),
            from: match by_header.is_empty() {
                true => facts.sender.clone(),
                false => by_header,
            },
            to: match facts.recipient.is_empty() {
                true => to.collect::<Vec<_>>().join(", "),
                false => facts.recipient.clone(),
            },
            subject: parsed.subject.clone(),
            time: facts.time.to_string(),
            size: facts.size,
            files: files(&parsed.structure)
                .iter()
                .filter(|it| is_shown(it))
                .count(),
            more_files: facts.size > BEGINNING,
            login: facts.login.to_owned(),
            mailbox: match entry {
                Entry::Mail(mail) => mail.mailbox.clone(),
                _ => String::new(),
            },
            place: place.to_string(),
        }
    }

    /// The row of one entry, wherever it stands.
    pub(super) fn alone(entry: &Entry, parsed: &Parsed) -> Self {
        Self::new(entry, &Facts::of(entry), parsed, Place::START)
    }
}
