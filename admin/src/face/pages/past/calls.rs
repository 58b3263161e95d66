//! Webhooks: the receivers, the calls to be made, and those of the history.

use std::sync::Arc;

use askama::Template;
use postrider_store::{HookFilter, HookId, Order, QueueId, RetiredHookFilter, Time};

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::{self, AsCommand},
        form::{Faults, Fields, query},
        frame::Frame,
        list::{Found, Listing},
        shown::{Count, When},
    },
    filter::{self, Filter, Input, PAST_HINT, is_holder},
    history::yes,
};
use crate::{
    AdminError,
    op::webhook::{Find, FindPast, HookItem, ReceiverItem, Receivers, RetiredHookItem},
};

/// The most accounts whose receivers are shown.
const ACCOUNTS: usize = 50;

/// The events of calls, as choices.
pub(super) const EVENTS: [(&str, &str); 12] = [
    ("", "Any"),
    ("delivered", "delivered"),
    ("suppressed", "suppressed"),
    ("delayed", "delayed"),
    ("failed", "failed"),
    ("relayed", "relayed"),
    ("expanded", "expanded"),
    ("canceled", "canceled"),
    ("unrecognized", "unrecognized"),
    ("unsubscribed", "unsubscribed"),
    ("complained", "complained"),
    ("incoming", "incoming"),
];

/// The numbers that were ticked, or that a page names.
pub(super) fn ids(fields: &Fields) -> Result<Vec<HookId>, AdminError> {
    let read = |text: &str| {
        let wrong =
            |_| AdminError::invalid(format!("{text:?} is not the number of a call")).at("id");
        text.parse().map(HookId).map_err(wrong)
    };
    fields.all("id").map(read).collect()
}

/// The waiting calls that the fields ask for.
pub(super) fn waiting(asked: &Asked, fields: &Fields) -> Result<HookFilter, AdminError> {
    Ok(HookFilter {
        ids: ids(fields)?,
        account: filter::account(asked, fields),
        event: fields.text("event").map(str::to_owned),
        message: fields.parsed("message", "a number")?.map(QueueId),
        submitted_before: filter::past(fields, "before", asked.now())?,
        submitted_after: filter::past(fields, "after", asked.now())?,
        failed: fields.flag("failed").then_some(true),
        ..HookFilter::default()
    })
}

/// All waiting calls that the visitor may see.
pub(super) fn all_waiting(asked: &Asked) -> HookFilter {
    HookFilter {
        account: filter::scope(asked),
        ..HookFilter::default()
    }
}

/// The past calls that the fields ask for.
pub(super) fn past(asked: &Asked, fields: &Fields) -> Result<RetiredHookFilter, AdminError> {
    Ok(RetiredHookFilter {
        ids: ids(fields)?,
        account: filter::account(asked, fields),
        event: fields.text("event").map(str::to_owned),
        message: fields.parsed("message", "a number")?.map(QueueId),
        success: fields.parsed("success", "true or false")?,
        last_activity_before: filter::past(fields, "before", asked.now())?,
        last_activity_after: filter::past(fields, "after", asked.now())?,
        ..RetiredHookFilter::default()
    })
}

/// All past calls that the visitor may see.
pub(super) fn all_past(asked: &Asked) -> RetiredHookFilter {
    RetiredHookFilter {
        account: filter::scope(asked),
        ..RetiredHookFilter::default()
    }
}

fn numbers(ids: &[HookId]) -> Option<String> {
    let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
    (!ids.is_empty()).then(|| ids.join(","))
}

/// The command with these words for waiting calls.
pub(super) fn waiting_command(words: &[&str], filter: &HookFilter) -> AsCommand {
    let Ok(submitted) = filter::bound(filter.submitted_after, filter.submitted_before) else {
        return AsCommand::none();
    };
    let message = filter.message.map(|id| id.to_string());
    AsCommand::cli(words.iter().copied())
        .option("--ids", numbers(&filter.ids).as_deref())
        .option("--account", filter.account.as_deref())
        .option("--event", filter.event.as_deref())
        .option("--message", message.as_deref())
        .option("--submitted", submitted.as_deref())
        .option("--failed", filter.failed.map(yes))
}

/// The path and the query of the call for waiting calls. None: no parameter says which they are.
pub(super) fn waiting_path(filter: &HookFilter, more: &[(&str, Option<&str>)]) -> Option<String> {
    let message = filter.message.map(|id| id.to_string());
    let [after, before] = [filter.submitted_after, filter.submitted_before].map(text);
    let of = [
        ("account", filter.account.as_deref()),
        ("event", filter.event.as_deref()),
        ("message", message.as_deref()),
        ("after", after.as_deref()),
        ("before", before.as_deref()),
        ("failed", filter.failed.map(yes)),
    ];
    let path = || command::path("/api/queue/webhooks", &[of.as_slice(), more].concat());
    filter.ids.is_empty().then(path)
}

/// The command with these words for past calls.
pub(super) fn past_command(words: &[&str], filter: &RetiredHookFilter) -> AsCommand {
    let (after, before) = (filter.last_activity_after, filter.last_activity_before);
    let Ok(ended) = filter::bound(after, before) else {
        return AsCommand::none();
    };
    let message = filter.message.map(|id| id.to_string());
    AsCommand::cli(words.iter().copied())
        .option("--ids", numbers(&filter.ids).as_deref())
        .option("--account", filter.account.as_deref())
        .option("--event", filter.event.as_deref())
        .option("--message", message.as_deref())
        .option("--success", filter.success.map(yes))
        .option("--last-activity", ended.as_deref())
}

/// The path and the query of the call for past calls. None: no parameter says which they are.
fn past_path(filter: &RetiredHookFilter, more: &[(&str, Option<&str>)]) -> Option<String> {
    let message = filter.message.map(|id| id.to_string());
    let [after, before] = [filter.last_activity_after, filter.last_activity_before].map(text);
    let of = [
        ("account", filter.account.as_deref()),
        ("event", filter.event.as_deref()),
        ("message", message.as_deref()),
        ("success", filter.success.map(yes)),
        ("after", after.as_deref()),
        ("before", before.as_deref()),
    ];
    let path = || {
        command::path(
            "/api/queue/webhooks/retired",
            &[of.as_slice(), more].concat(),
        )
    };
    filter.ids.is_empty().then(path)
}

fn text(time: Option<Time>) -> Option<String> {
    time.map(|time| time.to_string())
}

/// The command and the call that list so many calls. `sort` is the order of the call, if it is not
/// the usual one.
fn lists(
    command: AsCommand,
    rows: usize,
    sort: Option<&str>,
    path: impl Fn(&[(&str, Option<&str>)]) -> Option<String>,
) -> AsCommand {
    let rows = rows.to_string();
    let command = command.option("--limit", Some(&rows));
    match path(&[("limit", Some(&rows)), ("sort", sort)]) {
        Some(path) => command.get(&path),
        None => command,
    }
}

struct Receiver {
    item: ReceiverItem,
    waiting: Count,
    failing: Option<When>,
    last: When,
    /// The query of the page that tests it.
    test: String,
    /// The query of its waiting calls.
    calls: String,
}

impl Receiver {
    fn new(item: ReceiverItem, asked: &Asked) -> Self {
        let now = asked.now();
        let last = item.last.as_ref().map(|last| last.start.clone());
        let kind = if item.incoming {
            "incoming"
        } else {
            "delivered"
        };
        Self {
            waiting: Count(item.waiting),
            failing: item.failing_since.as_ref().map(|at| When::new(at, now)),
            last: When::maybe(last.as_ref(), now),
            test: query([("account", item.account.as_str()), ("kind", kind)]),
            calls: query([("account", item.account.as_str())]),
            item,
        }
    }
}

#[derive(Template)]
#[template(path = "past/calls.html")]
struct Page {
    frame: Frame,
    receivers: Vec<Receiver>,
    /// The query of the next receivers.
    more_receivers: Option<String>,
    counted: bool,
    filter: Filter,
    faults: Faults,
    found: Found<Row>,
    /// The query of the filter.
    query: String,
    /// The query of the same list with the calls that failed, or without that filter.
    failed: String,
    is_failed: bool,
    is_holder: bool,
    is_filtered: bool,
}

/// A call in a list.
struct Row {
    item: HookItem,
    submitted: When,
    /// The next attempt, or the end.
    at: When,
    /// The status of the last answer; empty without one.
    status: String,
    error: String,
    /// Of a past call: whether the receiver took it.
    success: Option<bool>,
}

/// The status of the last answer to a call; empty without one.
pub(super) fn status(call: &HookItem) -> String {
    let last = call.results.last().filter(|last| last.code > 0);
    last.map(|last| last.code.to_string()).unwrap_or_default()
}

impl Row {
    fn new(item: HookItem, asked: &Asked, end: Option<(bool, &str)>) -> Self {
        let now = asked.now();
        let last = item.results.last();
        Self {
            submitted: When::new(&item.submitted, now),
            at: When::new(end.map_or(&item.next_attempt, |(_, at)| at), now),
            status: status(&item),
            error: last.map(|last| last.error.clone()).unwrap_or_default(),
            success: end.map(|(success, _)| success),
            item,
        }
    }

    fn ended(ended: RetiredHookItem, asked: &Asked) -> Self {
        let end = (ended.success, ended.last_activity.as_str());
        Self::new(ended.call, asked, Some(end))
    }
}

fn inputs(asked: &Asked, page: &str) -> Filter {
    let text = |name, label, hint| Input::text(&asked.query, name, label, hint);
    let mut main: Vec<Input> = filter::account_input(asked).into_iter().collect();
    main.push(Input::choice(&asked.query, "event", "Event", &EVENTS));
    main.push(text("message", "Message", "its number"));
    let (after, before) = match page {
        "webhooks" => ("Made after", "Made before"),
        _ => ("Ended after", "Ended before"),
    };
    let more = vec![text("after", after, PAST_HINT), text("before", before, "")];
    Filter::new(main, more, asked.url(page))
}

/// The receivers, and the calls to be made, oldest first.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let receivers = Receivers {
        account: filter::account(&asked, &asked.query),
        after: asked.query.text("receivers").map(str::to_owned),
        limit: ACCOUNTS,
    };
    let receivers = asked.run(receivers).await?;
    let (wanted, faults) = match waiting(&asked, &asked.query) {
        Ok(wanted) => (Some(wanted), Faults::default()),
        Err(error) => (None, Faults::of(&error)),
    };
    let listing = Listing::new(&asked.query);
    let mut frame = asked.frame("Webhook calls");
    if let Some(filter) = wanted.as_ref().filter(|_| !is_holder(&asked)) {
        let command = waiting_command(&["queue", "webhook", "list"], filter);
        frame = frame.with(lists(command, listing.rows, None, |more| {
            waiting_path(filter, more)
        }));
    }
    let query = asked
        .query
        .query(&["cursor", "rows", "told", "receivers"], &[]);
    let is_failed = asked.query.flag("failed");
    let is_filtered = wanted.as_ref() != Some(&all_waiting(&asked));
    let failed = match is_failed {
        true => asked.query.query(&["cursor", "told", "failed"], &[]),
        false => asked.query.query(&["cursor", "told"], &[("failed", "1")]),
    };
    let next = receivers.next.map(|next| {
        asked
            .query
            .query(&["receivers", "cursor", "told"], &[("receivers", &next)])
    });
    let shown = receivers.receivers.into_iter();
    let mut page = Page {
        frame,
        receivers: shown.map(|item| Receiver::new(item, &asked)).collect(),
        more_receivers: next,
        counted: receivers.counted,
        filter: inputs(&asked, "webhooks"),
        faults,
        found: Found::default(),
        is_filtered,
        query,
        failed,
        is_failed,
        is_holder: is_holder(&asked),
    };
    let Some(filter) = wanted else {
        return Answer::again(&page);
    };
    let find = Find {
        filter,
        order: listing.order(Order::Ascending),
        after: listing.after().map(HookId),
        limit: listing.limit(),
    };
    let (found, now) = (asked.run(find).await?, asked.now());
    let row = |item| Row::new(item, &asked, None);
    page.found = listing.found(found, now, |item| item.id, row);
    Answer::page(&page)
}

#[derive(Template)]
#[template(path = "past/past_calls.html")]
struct PastPage {
    frame: Frame,
    filter: Filter,
    faults: Faults,
    found: Found<Row>,
    failed: String,
    is_failed: bool,
    is_holder: bool,
    is_filtered: bool,
}

/// The calls of the history, newest first.
pub(in super::super) async fn history(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (wanted, faults) = match past(&asked, &asked.query) {
        Ok(wanted) => (Some(wanted), Faults::default()),
        Err(error) => (None, Faults::of(&error)),
    };
    let listing = Listing::new(&asked.query);
    let mut frame = asked.frame("Past webhook calls");
    if let Some(filter) = wanted.as_ref().filter(|_| !is_holder(&asked)) {
        let command = past_command(&["queue", "webhook", "retired", "list"], filter);
        frame = frame.with(lists(command, listing.rows, Some("-id"), |more| {
            past_path(filter, more)
        }));
    }
    let is_failed = asked.query.text("success") == Some("false");
    let own = ["cursor", "told", "success"];
    let failed = match is_failed {
        true => asked.query.query(&own, &[]),
        false => asked.query.query(&own, &[("success", "false")]),
    };
    let mut page = PastPage {
        frame,
        filter: inputs(&asked, "webhooks/history"),
        faults,
        found: Found::default(),
        is_filtered: wanted.as_ref() != Some(&all_past(&asked)),
        failed,
        is_failed,
        is_holder: is_holder(&asked),
    };
    let Some(filter) = wanted else {
        return Answer::again(&page);
    };
    let find = FindPast {
        filter,
        order: listing.order(Order::Descending),
        after: listing.after().map(HookId),
        limit: listing.limit(),
    };
    let (found, now) = (asked.run(find).await?, asked.now());
    let row = |item| Row::ended(item, &asked);
    page.found = listing.found(found, now, |item| item.call.id, row);
    Answer::page(&page)
}
