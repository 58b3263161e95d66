//! What happened to sessions, messages and calls, step by step.

use std::{net::IpAddr, sync::Arc};

use askama::Template;
use postrider_store::Time;

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::{self, AsCommand},
    form::Faults,
    frame::Frame,
    list::Listing,
    past::filter,
    shown::When,
};
use crate::{
    AdminError,
    op::traces::{Find, Show, Story, TraceEvent, TraceItem},
};

#[derive(Template)]
#[template(path = "admin/watch/traces.html")]
struct Page {
    frame: Frame,
    kind: String,
    /// The fields of the filter: name, label, value and hint.
    fields: Vec<(&'static str, &'static str, String, &'static str)>,
    is_filtered: bool,
    faults: Faults,
    rows: Vec<Row>,
    /// The cursor was for other filters.
    anew: bool,
    /// The query of the first page; None: this is it.
    first: Option<String>,
    /// The query of what is older.
    next: Option<String>,
}

struct Row {
    item: TraceItem,
    start: When,
    kind: &'static str,
    /// The event that says most.
    text: String,
}

const FIELDS: [(&str, &str, &str); 9] = [
    ("words", "Words", "words in the trace"),
    ("recipient", "Recipient", ""),
    ("sender", "Sender", ""),
    ("queue", "Message", "7301"),
    ("message_id", "Message-ID", "<id@host>"),
    ("session", "Session", ""),
    ("remote_ip", "Other side", "192.0.2.1"),
    ("account", "Account", ""),
    ("since", "Since", "2h, or 2026-11-28"),
];

/// The traces that match, newest first.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let listing = Listing::new(&asked.query);
    match found(&asked, &listing).await {
        Ok(page) => Answer::page(&page),
        Err(error) if error.field.is_some() => {
            let mut page = page(&asked, &listing);
            page.faults = Faults::of(&error);
            Answer::again(&page)
        }
        Err(error) => Err(error.into()),
    }
}

fn page(asked: &Asked, listing: &Listing) -> Page {
    let shown = |(name, label, hint)| (name, label, asked.query.shown(name).to_owned(), hint);
    let fields: Vec<_> = FIELDS.into_iter().map(shown).collect();
    let kind = asked.query.shown("kind").to_owned();
    let is_later = listing.after::<String>().is_some();
    Page {
        frame: asked.frame("Traces"),
        is_filtered: !kind.is_empty() || fields.iter().any(|(_, _, value, _)| !value.is_empty()),
        kind,
        fields,
        faults: Faults::default(),
        rows: Vec::new(),
        anew: listing.anew,
        first: is_later.then(|| asked.query.query(&["cursor", "told"], &[])),
        next: None,
    }
}

async fn found(asked: &Asked, listing: &Listing) -> Result<Page, AdminError> {
    let query = &asked.query;
    let text = |name| query.text(name).map(str::to_owned);
    let find = Find {
        kind: text("kind"),
        session: text("session"),
        queue: query.parsed("queue", "the number of a message")?,
        message_id: text("message_id"),
        sender: text("sender"),
        recipient: text("recipient"),
        remote_ip: query.parsed::<IpAddr>("remote_ip", "an IP address")?,
        account: text("account"),
        words: text("words").unwrap_or_default(),
        after: filter::past(query, "since", asked.now())?,
        cursor: listing.after(),
        limit: listing.rows,
        show: Show::Brief,
        ..Find::default()
    };
    let mut page = page(asked, listing);
    page.frame = page.frame.with(command(&find));
    let found = asked.run(find).await?;
    let now = asked.now();
    page.rows = found
        .traces
        .into_iter()
        .map(|item| row(item, now))
        .collect();
    page.next = found.next.map(|cursor| listing.going_on(&cursor));
    Ok(page)
}

fn command(find: &Find) -> AsCommand {
    let queue = find.queue.map(|queue| queue.to_string());
    let remote = find.remote_ip.map(|remote| remote.to_string());
    let after = find.after.map(|after| after.to_string());
    let words = Some(find.words.as_str()).filter(|words| !words.is_empty());
    let path = command::path(
        "/api/telemetry/traces",
        &[
            ("values", Some("1")),
            ("kind", find.kind.as_deref()),
            ("queue_id", queue.as_deref()),
            ("session", find.session.as_deref()),
            ("message_id", find.message_id.as_deref()),
            ("sender", find.sender.as_deref()),
            ("recipient", find.recipient.as_deref()),
            ("remote_ip", remote.as_deref()),
            ("account", find.account.as_deref()),
            ("filter", words),
            ("after", after.as_deref()),
        ],
    );
    AsCommand::none().get(&path)
}

fn kind_of(kind: &str) -> &'static str {
    match kind {
        "session" => "session of a client",
        "attempt" => "attempt",
        "webhook" => "call of a webhook",
        _ => "call of an application",
    }
}

fn row(item: TraceItem, now: Time) -> Row {
    let text = item.events.first().map(|event| event.details.clone());
    Row {
        start: When::new(&item.start, now),
        kind: kind_of(&item.kind),
        text: text.unwrap_or_default(),
        item,
    }
}

/// A trace with all its events.
struct Told {
    item: TraceItem,
    start: When,
    kind: &'static str,
    /// Its events, with the time since the first one.
    events: Vec<(String, TraceEvent)>,
}

#[derive(Template)]
#[template(path = "admin/watch/trace.html")]
struct TracePage {
    frame: Frame,
    title: String,
    /// The stories, each with its title and its traces.
    stories: Vec<(String, Vec<Told>)>,
    /// There are more traces.
    more: bool,
    /// How far back traces go.
    earliest: When,
    /// What was searched for; empty: one trace.
    of: String,
}

fn told(item: TraceItem, now: Time) -> Told {
    let micros = |text: &str| {
        text.parse::<jiff::Timestamp>()
            .map(|it| it.as_microsecond())
    };
    let start = micros(&item.start).unwrap_or(0);
    let event = |event: &TraceEvent| {
        let away = micros(&event.created_at).unwrap_or(start) - start;
        (since(away), event.clone())
    };
    Told {
        start: When::new(&item.start, now),
        kind: kind_of(&item.kind),
        events: item.events.iter().map(event).collect(),
        item,
    }
}

/// A time since the start, of microseconds.
fn since(micros: i64) -> String {
    match micros {
        ..10_000 => format!("+{:.1} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("+{} ms", micros / 1000),
        1_000_000..60_000_000 => format!("+{:.1} s", micros as f64 / 1e6),
        _ => format!("+{} min {} s", micros / 60_000_000, micros / 1_000_000 % 60),
    }
}

/// Shows one trace.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = asked.number(0)?;
    let found = asked.run(Find {
        spans: vec![id],
        limit: 1,
        ..Find::default()
    });
    let item = found.await?.traces.into_iter().next();
    let missing = || AdminError::not_found(format!("there is no trace {id} any more"));
    let item = item.ok_or_else(missing)?;
    let number = id.to_string();
    let command = AsCommand::cli(["trace", &number]).get(&format!("/api/telemetry/trace/{id}"));
    Answer::page(&TracePage {
        frame: asked.frame(&format!("Trace {id}")).with(command),
        title: format!("Trace {id}"),
        stories: vec![(String::new(), vec![told(item, asked.now())])],
        more: false,
        earliest: When::new("", asked.now()),
        of: String::new(),
    })
}

/// Tells the stories that a text leads to.
pub(in super::super) async fn story(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let of = asked.query.text("of").unwrap_or_default().to_owned();
    if of.is_empty() {
        return Ok(Answer::SeeOther(asked.url("traces")));
    }
    let found = asked.run(Story {
        of: of.clone(),
        ..Story::default()
    });
    let found = found.await?;
    let now = asked.now();
    let stories = found.stories.into_iter().rev().map(|story| {
        let traces = story.traces.into_iter().map(|item| told(item, now));
        (story.title, traces.collect())
    });
    Answer::page(&TracePage {
        frame: asked
            .frame(&format!("What happened to {of}"))
            .with(AsCommand::cli(["trace", &of])),
        title: format!("What happened to {of}"),
        stories: stories.collect(),
        more: found.more,
        earliest: When::maybe(found.earliest.as_ref(), now),
        of,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_their_distance_from_the_start() {
        for (micros, text) in [
            (0, "+0.0 ms"),
            (1_250, "+1.2 ms"),
            (250_000, "+250 ms"),
            (2_500_000, "+2.5 s"),
            (125_000_000, "+2 min 5 s"),
        ] {
            assert_eq!(since(micros), text);
        }
    }
}
