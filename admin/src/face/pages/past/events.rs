//! Events: what webhooks tell of sent messages. New ones come to the top while the page is open.

use std::sync::Arc;

use askama::Template;
use futures_util::stream;
use postrider_observe::{metrics::PanicIn, panics};
use postrider_smtp::Address;
use postrider_store::{Event, EventFilter, EventId, Order, QueueId};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::{self, AsCommand},
        form::{Faults, Fields},
        frame::Frame,
        list::{Found, Listing},
        live,
        shown::When,
        webapi,
    },
    calls::EVENTS,
    filter::{self, Filter, Input, PAST_HINT, is_holder},
};
use crate::{
    AdminError,
    op::{
        Gone, Operation, Sink,
        events::{EventItem, Follow, Search, Wanted},
    },
};

/// New events that wait for a slow browser.
const WAITING: usize = 64;
/// An event that was made so long before the page, in microseconds, may come after it.
const LATE: u64 = 2_000_000;

fn wanted(asked: &Asked, fields: &Fields) -> Result<Wanted, AdminError> {
    let text = |name| fields.text(name).map(str::to_owned);
    let event = fields.text("event");
    let unknown =
        |name: &str| AdminError::invalid(format!("there is no event {name:?}")).at("event");
    let event = event.map(|name| Event::from_name(name).ok_or_else(|| unknown(name)));
    // Events have recipients in Unicode form.
    let recipient = fields.text("recipient").map(|text| {
        let address = Address::parse(text);
        address.map_or_else(|_| text.to_owned(), |address| address.unicode())
    });
    Ok(Wanted {
        filter: EventFilter {
            account: filter::account(asked, fields),
            events: event.transpose()?.into_iter().collect(),
            recipient,
            message_id: filter::message_id(fields),
            since: filter::past(fields, "after", asked.now())?,
            before: filter::past(fields, "before", asked.now())?,
        },
        message: fields.parsed("message", "a number")?.map(QueueId),
        code: fields.parsed("code", "a code such as 550")?,
        enhanced_code: text("enhanced_code"),
        extra: filter::extra(fields),
    })
}

/// The call that lists the same. It does not know all filters.
fn command(asked: &Asked, wanted: &Wanted, rows: usize) -> AsCommand {
    let simple = Wanted {
        filter: wanted.filter.clone(),
        ..Wanted::default()
    };
    if *wanted != simple {
        return AsCommand::none();
    }
    let filter = &wanted.filter;
    let event = filter.events.first().map(|event| event.name());
    let (since, before) = (
        filter.since.map(|time| time.to_string()),
        filter.before.map(|time| time.to_string()),
    );
    if is_holder(asked) {
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let request = webapi::request([
            ("Events", event.map(|event| json!([event]))),
            ("Recipient", text(&filter.recipient)),
            ("MessageID", text(&filter.message_id)),
            ("Since", text(&since)),
            ("Before", text(&before)),
            ("Descending", Some(true.into())),
            ("Limit", Some(rows.into())),
        ]);
        return webapi::v1(asked, "Events", &request);
    }
    let path = command::path(
        "/api/events",
        &[
            ("account", filter.account.as_deref()),
            ("event", event),
            ("recipient", filter.recipient.as_deref()),
            ("message_id", filter.message_id.as_deref()),
            ("after", since.as_deref()),
            ("before", before.as_deref()),
            ("limit", Some(&rows.to_string())),
            ("sort", Some("-id")),
        ],
    );
    AsCommand::none().get(&path)
}

#[derive(Template)]
#[template(path = "past/events.html")]
struct Page {
    frame: Frame,
    filter: Filter,
    faults: Faults,
    found: Found<Row>,
    is_holder: bool,
    is_filtered: bool,
    /// The stream of new events. None: the page is not the newest part of the list.
    stream: Option<String>,
}

/// How an event looks.
pub(super) fn class(event: &str) -> &'static str {
    match event {
        "delivered" | "relayed" | "expanded" => "good",
        "delayed" | "unsubscribed" | "canceled" => "warn",
        "failed" | "suppressed" | "complained" => "bad",
        _ => "",
    }
}

/// An event in the list.
#[derive(Template)]
#[template(path = "past/event.html")]
struct Row {
    item: EventItem,
    at: When,
    class: &'static str,
    is_holder: bool,
    /// The path of the page of the message; empty: none.
    message: String,
    extra: String,
}

impl askama::filters::HtmlSafe for Row {}

impl Row {
    fn new(item: EventItem, asked: &Asked) -> Self {
        let extra = item.extra.iter();
        let extra: Vec<String> = extra
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Self {
            at: When::new(&item.time, asked.now()),
            class: class(&item.event),
            is_holder: is_holder(asked),
            message: match item.queue_msg_id {
                0 => String::new(),
                id => asked.url(&format!("messages/{id}")),
            },
            extra: extra.join(", "),
            item,
        }
    }
}

fn inputs(asked: &Asked) -> Filter {
    let text = |name, label, hint| Input::text(&asked.query, name, label, hint);
    let events = EVENTS.split_last().map_or(&[][..], |(_, events)| events);
    let mut main = vec![
        Input::choice(&asked.query, "event", "Event", events),
        text("recipient", "Recipient", "the whole address"),
    ];
    main.extend(filter::account_input(asked));
    let more = vec![
        text("message_id", "Message-ID", ""),
        text("message", "Message", "its number"),
        text("after", "After", PAST_HINT),
        text("before", "Before", ""),
        text("code", "Code", "550"),
        text("enhanced_code", "Enhanced code", "5.1.1"),
        text("extra", "Extra", "name=value, or a name"),
    ];
    Filter::new(main, more, asked.url("events"))
}

/// The events, newest first.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (which, faults) = match wanted(&asked, &asked.query) {
        Ok(which) => (Some(which), Faults::default()),
        Err(error) => (None, Faults::of(&error)),
    };
    let listing = Listing::new(&asked.query);
    let mut frame = asked.frame("Events");
    if let Some(which) = &which {
        frame = frame.with(command(&asked, which, listing.rows));
    }
    let filter = inputs(&asked);
    let mut page = Page {
        frame,
        is_filtered: filter.is_used(),
        filter,
        faults,
        found: Found::default(),
        is_holder: is_holder(&asked),
        stream: None,
    };
    let Some(which) = which else {
        return Answer::again(&page);
    };
    if live::is_asked(&asked) {
        return Ok(tail(&asked, which));
    }
    let search = Search {
        which,
        order: listing.order(Order::Descending),
        after: listing.after().map(EventId),
        limit: listing.limit(),
    };
    let (found, now) = (asked.run(search).await?, asked.now());
    page.found = listing.found(found, now, |item| item.id, |item| Row::new(item, &asked));
    if page.found.links.first.is_none() {
        let newest = page.found.rows.first().map_or(0, |row| row.item.id);
        // An event's number is not below its time.
        let now = now.0.max(0).cast_unsigned();
        let seen = newest.max(now.saturating_sub(LATE));
        page.stream = Some(live::address(&asked, &seen.to_string()));
    }
    Answer::page(&page)
}

/// Sends new events as rows of the list.
fn tail(asked: &Arc<Asked>, which: Wanted) -> Answer {
    let after = live::seen(asked).parse().ok().filter(|after| *after > 0);
    let follow = Follow {
        which,
        after: after.map(EventId),
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    let gone = sender.clone();
    let mut rows = Rows {
        asked: Arc::clone(asked),
        sender,
    };
    let work = async move {
        let context = rows.asked.context.clone();
        // The browser asks again when the stream ends.
        tokio::select! {
            _ = follow.run(&context, &mut rows) => {}
            () = gone.closed() => {}
        }
    };
    tokio::spawn(panics::within(PanicIn::Http, work));
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    live::follow(asked, true, pieces)
}

/// Makes rows of events: the number of each, and its HTML.
struct Rows {
    asked: Arc<Asked>,
    sender: mpsc::Sender<(String, String)>,
}

impl Sink<EventItem> for Rows {
    async fn send(&mut self, items: Vec<EventItem>) -> Result<(), AdminError> {
        for item in items {
            let id = item.id.to_string();
            let row = Row::new(item, &self.asked);
            let html = row.render().map_err(AdminError::internal)?;
            let sent = self.sender.send((id, html)).await;
            sent.map_err(|_| Gone)?;
        }
        Ok(())
    }
}
