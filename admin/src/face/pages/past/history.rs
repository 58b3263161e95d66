//! The history: messages that left the queue.

use std::sync::Arc;

use askama::Template;
use postrider_smtp::Address;
use postrider_store::{Order, QueueId, RetiredFilter, RetiredHookFilter};

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        confirm::Confirm,
        form::{Faults, Fields, query},
        frame::Frame,
        list::{Found, Listing},
        shown::{When, counted},
    },
    filter::{self, Filter, Input, PAST_HINT, is_holder},
    message,
    streamed::{self, CSV, JSON_LINES},
};
use crate::{
    AdminError, csv,
    op::{
        history::{Also, List, RetiredItem, Search, SendAgain, WithText},
        webhook::Replay,
    },
};

/// The outcomes that can be chosen.
const OUTCOMES: [(&str, &str); 3] = [("", "Any"), ("true", "Delivered"), ("false", "Failed")];

/// Which messages a query asks for.
#[derive(Clone, Default)]
struct Wanted {
    filter: RetiredFilter,
    also: Also,
}

impl Wanted {
    fn of(asked: &Asked, fields: &Fields) -> Result<Self, AdminError> {
        let text = |name| fields.text(name).map(str::to_owned);
        let now = asked.now();
        // A whole address has an index.
        let whole = fields.text("to").filter(|to| !to.starts_with('@'));
        let whole = whole.and_then(|to| Address::parse(to).ok());
        Ok(Self {
            filter: RetiredFilter {
                account: filter::account(asked, fields),
                from: text("from"),
                to: text("to").filter(|_| whole.is_none()),
                recipient: whole.map(|address| address.unicode()),
                message_id: filter::message_id(fields),
                subject: text("subject"),
                transport: text("transport"),
                success: fields.parsed("success", "true or false")?,
                last_activity_after: filter::past(fields, "after", now)?,
                last_activity_before: filter::past(fields, "before", now)?,
                ..RetiredFilter::default()
            },
            also: Also {
                code: fields.parsed("code", "a code such as 550")?,
                enhanced_code: text("enhanced_code"),
                host: text("host"),
                extra: filter::extra(fields),
            },
        })
    }

    /// The command that lists the same.
    fn command(&self, rows: usize) -> AsCommand {
        let Self { filter, also } = self;
        let (after, before) = (filter.last_activity_after, filter.last_activity_before);
        let Ok(ended) = filter::bound(after, before) else {
            return AsCommand::none();
        };
        let extra = also
            .extra
            .as_ref()
            .map(|(name, value)| match value.as_str() {
                "" => name.clone(),
                value => format!("{name}={value}"),
            });
        let (success, code) = (filter.success.map(yes), also.code.map(|it| it.to_string()));
        AsCommand::cli(["queue", "retired", "list"])
            .option("--account", filter.account.as_deref())
            .option("--from", filter.from.as_deref())
            .option("--to", filter.to.as_deref())
            .option("--recipient", filter.recipient.as_deref())
            .option("--message-id", filter.message_id.as_deref())
            .option("--subject", filter.subject.as_deref())
            .option("--last-activity", ended.as_deref())
            .option("--success", success)
            .option("--transport", filter.transport.as_deref())
            .option("--code", code.as_deref())
            .option("--enhanced-code", also.enhanced_code.as_deref())
            .option("--host", also.host.as_deref())
            .option("--extra", extra.as_deref())
            .option("--limit", Some(&rows.to_string()))
    }
}

pub(super) const fn yes(flag: bool) -> &'static str {
    match flag {
        true => "true",
        false => "false",
    }
}

#[derive(Template)]
#[template(path = "past/history.html")]
struct Page {
    frame: Frame,
    filter: Filter,
    faults: Faults,
    found: Found<Row>,
    /// The query of the filter, for the exports.
    query: String,
    /// The path of this page.
    here: String,
    is_holder: bool,
    is_filtered: bool,
    /// The query that looks for the same in the queue; empty: the queue can't be asked by it.
    queued: String,
}

struct Row {
    item: RetiredItem,
    ended: When,
    /// Code and enhanced code of the last reply; empty without one.
    code: String,
    /// The last error; empty without one.
    text: String,
    /// The query that fills in the form for a suppression.
    suppress: String,
    /// Its text is still there, so it can be sent again.
    has_text: bool,
}

impl Row {
    fn new(item: RetiredItem, asked: &Asked) -> Self {
        let last = item.results.last();
        let code = last.filter(|last| last.code > 0);
        let code = code.map(|last| format!("{} {}", last.code, last.enhanced_code));
        let suppress = query([("account", item.account.as_str()), ("address", &item.to)]);
        Self {
            ended: When::new(&item.last_activity, asked.now()),
            code: code.unwrap_or_default().trim().to_owned(),
            text: last.map(|last| last.text.clone()).unwrap_or_default(),
            suppress,
            has_text: false,
            item,
        }
    }
}

/// The path of the history within the area.
pub(super) fn path(asked: &Asked) -> &'static str {
    match is_holder(asked) {
        true => "messages/past",
        false => "history",
    }
}

fn inputs(asked: &Asked) -> Filter {
    let text = |name, label, hint| Input::text(&asked.query, name, label, hint);
    let mut main = vec![
        text("to", "To", "an address, a part of one, or @domain"),
        text("from", "From", ""),
        Input::choice(&asked.query, "success", "Outcome", &OUTCOMES),
    ];
    main.extend(filter::account_input(asked));
    let more = vec![
        text("message_id", "Message-ID", ""),
        text("subject", "Subject has", ""),
        text("after", "Ended after", PAST_HINT),
        text("before", "Ended before", ""),
        text("code", "Code", "of the last reply: 550"),
        text("enhanced_code", "Enhanced code", "5.1.1"),
        text("host", "Host has", "name or address"),
        text("transport", "Forced transport", ""),
        text("extra", "Extra", "name=value, or a name"),
    ];
    Filter::new(main, more, asked.url(path(asked)))
}

/// The query of the queue for what the filter asks for.
fn queued(asked: &Asked) -> String {
    let names = ["to", "from", "account", "message_id", "subject"];
    let given = names
        .iter()
        .filter_map(|name| Some((*name, asked.query.text(name)?)));
    match is_holder(asked) {
        true => String::new(),
        false => query(given),
    }
}

fn page(asked: &Asked, listing: &Listing, wanted: Option<&Wanted>, faults: Faults) -> Page {
    let mut frame = asked.frame(match is_holder(asked) {
        true => "Past messages",
        false => "History",
    });
    if let Some(wanted) = wanted.filter(|_| !is_holder(asked)) {
        frame = frame.with(wanted.command(listing.rows));
    }
    let filter = inputs(asked);
    Page {
        frame,
        is_filtered: filter.is_used(),
        filter,
        faults,
        found: Found::default(),
        query: listing.filters(),
        queued: queued(asked),
        here: asked.url(path(asked)),
        is_holder: is_holder(asked),
    }
}

/// The messages, newest first.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let listing = Listing::new(&asked.query);
    let wanted = match Wanted::of(&asked, &asked.query) {
        Ok(wanted) => wanted,
        Err(error) => return Answer::again(&page(&asked, &listing, None, Faults::of(&error))),
    };
    let mut page = page(&asked, &listing, Some(&wanted), Faults::default());
    let search = Search {
        filter: wanted.filter,
        also: wanted.also,
        order: listing.order(Order::Descending),
        after: listing.after().map(QueueId),
        limit: listing.limit(),
    };
    let (found, now) = (asked.run(search).await?, asked.now());
    page.found = listing.found(found, now, |item| item.id, |item| Row::new(item, &asked));
    let ids = page.found.rows.iter().map(|row| QueueId(row.item.id));
    let with_text = asked.run(WithText { ids: ids.collect() }).await?;
    for row in &mut page.found.rows {
        row.has_text = with_text.contains(&row.item.id);
    }
    Answer::page(&page)
}

/// The columns of an export.
const COLUMNS: [&str; 16] = [
    "id",
    "account",
    "from",
    "to",
    "subject",
    "message_id",
    "size",
    "created",
    "ended",
    "success",
    "attempts",
    "code",
    "enhanced_code",
    "host",
    "text",
    "transport",
];

/// All messages that match, as a file.
pub(in super::super) async fn export(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let Wanted { filter, also } = Wanted::of(&asked, &asked.query)?;
    let list = List {
        filter,
        also,
        order: Order::Descending,
        limit: None,
    };
    Ok(match asked.query.text("format") {
        Some("jsonl") => {
            let line = |item: &RetiredItem| match serde_json::to_string(item) {
                Ok(json) => json + "\n",
                Err(_) => String::new(),
            };
            let named = ("history.jsonl", JSON_LINES);
            streamed::file(&asked, named, String::new(), list, line)
        }
        _ => {
            let head = csv::line(COLUMNS);
            streamed::file(&asked, ("history.csv", CSV), head, list, line)
        }
    })
}

fn line(item: &RetiredItem) -> String {
    let last = item.results.last();
    let of = |field: fn(&crate::op::queue::AttemptItem) -> &str| last.map_or("", field);
    let (id, size, attempts) = (
        item.id.to_string(),
        item.size.to_string(),
        item.attempts.to_string(),
    );
    let code = last.map(|last| last.code.to_string()).unwrap_or_default();
    csv::line([
        id.as_str(),
        &item.account,
        &item.from,
        &item.to,
        &item.subject,
        &item.message_id,
        &size,
        &item.created,
        &item.last_activity,
        yes(item.success),
        &attempts,
        &code,
        of(|last| &last.enhanced_code),
        of(|last| &last.remote),
        of(|last| &last.text),
        &item.transport,
    ])
}

/// A message of the history that the visitor may see: its recipient and its subject.
async fn ended(asked: &Asked) -> Result<(QueueId, String), Trouble> {
    let id = QueueId(asked.number(0)?);
    let message = message::seen(asked, id).await?;
    if !message.stage.is_end() {
        return Err(Trouble::NoPage);
    }
    let subject = match message.message.subject.as_str() {
        "" => "no subject",
        subject => subject,
    };
    Ok((id, format!("To {}: {subject}", message.message.to)))
}

/// Asks before a message is sent again. If its text is gone, the page of the message says so.
pub(in super::super) async fn ask_send_again(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (id, shown) = ended(&asked).await?;
    if asked.run(WithText { ids: vec![id] }).await?.is_empty() {
        let told = "Its text is gone, so it can't be sent again: the server keeps a text as long \
                    as a message is to be delivered, or lies in a mailbox.";
        return Ok(asked.done(told, &format!("messages/{id}")));
    }
    let question = format!("Send message {id} again?");
    let action = asked.url(&format!("{}/{id}/send-again", path(&asked)));
    let confirm = Confirm::new(&asked, &question, "Send it again", &action)
        .effect("The recipient gets the same text once more, by a new message.")
        .effect(match is_holder(&asked) {
            true => "It goes out at once, and counts as one more recipient of the day.",
            false => "It goes out at once. The account hears of it as of any other message.",
        })
        .examples(vec![shown])
        .back(asked.url(path(&asked)));
    Answer::page(&confirm)
}

/// Sends a message again.
pub(in super::super) async fn send_again(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (id, _) = ended(&asked).await?;
    let sent = asked.run(SendAgain { id }).await?;
    let told = format!("Message {id} is queued again as message {}.", sent.id);
    Ok(asked.done(told, path(&asked)))
}

fn calls_of(asked: &Asked, id: QueueId) -> RetiredHookFilter {
    RetiredHookFilter {
        account: is_holder(asked).then(|| asked.account().to_owned()),
        message: Some(id),
        ..RetiredHookFilter::default()
    }
}

/// Asks before the events of a message are told again.
pub(in super::super) async fn ask_replay(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (id, shown) = ended(&asked).await?;
    let question = format!("Tell the events of message {id} again?");
    let action = asked.url(&format!("{}/{id}/replay", path(&asked)));
    let mut confirm = Confirm::new(&asked, &question, "Tell them again", &action)
        .effect("Each past call for the message is made again, to the present webhook.")
        .examples(vec![shown])
        .back(asked.url(path(&asked)));
    if !is_holder(&asked) {
        let text = id.to_string();
        let words = ["queue", "webhook", "replay", "--message", &text];
        confirm = confirm.command(AsCommand::cli(words));
    }
    Answer::page(&confirm)
}

/// Tells the events of a message again.
pub(in super::super) async fn replay(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (id, _) = ended(&asked).await?;
    let filter = calls_of(&asked, id);
    let done = asked.run(Replay { filter }).await?;
    let told = match (done.replayed, done.impossible) {
        (0, 0) => format!("There are no past calls for message {id}."),
        (replayed, 0) => format!("{} will be made again.", counted(replayed, "call", "calls")),
        (replayed, impossible) => format!(
            "{} will be made again. {impossible} can't: the account has no such webhook now.",
            counted(replayed, "call", "calls")
        ),
    };
    Ok(asked.done(told, path(&asked)))
}
