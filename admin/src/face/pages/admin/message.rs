//! One message: where it stands and why, what happened to it, and what is in it.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::http::StatusCode;
use postrider_store::QueueId;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        form::Faults,
        frame::Frame,
        live::{self, Live, Part, Shown},
        shown::{Bytes, When},
    },
    queue::{self, DELAYS},
};
use crate::op::{
    details::{Details, DetailsItem, Look, Looked},
    messages::{Get, MessageItem, Stage},
    queue::{AttemptItem, Explain},
    suppression::{Lookup, SuppressionItem},
    traces::{Story, TraceItem},
    transcripts::TranscriptItem,
    webhook::{HookItem, RetiredHookItem},
};

/// How often the page shows what changed.
const EVERY: Duration = Duration::from_secs(1);

/// The tabs: name and title.
const TABS: [(&str, &str); 5] = [
    ("", "What happened"),
    ("headers", "Headers"),
    ("structure", "Structure"),
    ("text", "Text"),
    ("source", "Source"),
];

#[derive(Template)]
#[template(path = "admin/message.html")]
struct Page {
    frame: Frame,
    id: u64,
    to: String,
    is_queued: bool,
    is_held: bool,
    tab: String,
    tabs: Vec<(&'static str, &'static str)>,
    live: Option<Live>,
    content: Content,
    transports: Vec<String>,
    delays: [(&'static str, &'static str); 6],
    faults: Faults,
}

/// What a tab shows beside what happened.
enum Content {
    Nothing,
    /// The text of a message that is not queued is gone.
    Gone,
    /// The visitor has to ask for the text.
    Hidden,
    Looked(Looked),
}

/// The part that changes.
#[derive(Template)]
#[template(path = "admin/message_part.html")]
struct Now {
    frame: Frame,
    item: MessageItem,
    class: &'static str,
    /// Where it stands, in words.
    state: String,
    size: Bytes,
    created: When,
    next: When,
    notify: When,
    expires: When,
    details: DetailsItem,
    suppression: Option<SuppressionItem>,
    /// What happened, newest first.
    rows: Vec<Row>,
    /// Where the rows of its beginning would stand, if traces are kept.
    has_traces: bool,
}

/// A row of what happened.
struct Row {
    time: String,
    when: When,
    title: String,
    class: &'static str,
    text: String,
    transcript: Option<TranscriptItem>,
    /// The steps of a trace: when, and what.
    steps: Vec<(When, String)>,
    /// The path of a page with more.
    link: Option<(String, &'static str)>,
}

impl Row {
    fn new(time: &str, title: impl Into<String>, asked: &Asked) -> Self {
        Self {
            time: time.to_owned(),
            when: When::new(time, asked.now()),
            title: title.into(),
            class: "",
            text: String::new(),
            transcript: None,
            steps: Vec::new(),
            link: None,
        }
    }

    fn attempt(attempt: &AttemptItem, transcripts: &[TranscriptItem], asked: &Asked) -> Self {
        let title = match attempt.success {
            true => "Taken",
            false => "Not taken",
        };
        let mut parts = Vec::new();
        if !attempt.remote.is_empty() {
            parts.push(format!("by {}", attempt.remote));
        }
        parts.push(attempt.reply());
        let mut transcripts = transcripts.iter();
        let transcript = transcripts.find(|it| it.start == attempt.start);
        Self {
            class: if attempt.success { "good" } else { "bad" },
            text: parts.join(": "),
            transcript: transcript.cloned(),
            ..Self::new(&attempt.start, title, asked)
        }
    }

    fn trace(trace: &TraceItem, asked: &Asked) -> Self {
        let title = match trace.kind.as_str() {
            "session" => "SMTP session",
            "attempt" => "Attempt, step by step",
            "webhook" => "Webhook call, step by step",
            _ => "API call",
        };
        let steps = trace.events.iter().map(|event| {
            let when = When::new(&event.created_at, asked.now());
            (when, event.details.clone())
        });
        Self {
            text: trace
                .events
                .first()
                .map(|event| event.details.clone())
                .unwrap_or_default(),
            steps: steps.collect(),
            ..Self::new(&trace.start, title, asked)
        }
    }

    fn call(call: &HookItem, ended: Option<&RetiredHookItem>, asked: &Asked) -> Self {
        let last = call.results.last();
        let answer = last.map(|last| match (last.code, last.error.as_str()) {
            (0, error) => error.to_owned(),
            (code, "") => format!("answer {code}"),
            (code, error) => format!("answer {code}: {error}"),
        });
        let (class, how) = match ended.map(|ended| ended.success) {
            Some(true) => ("good", "told"),
            Some(false) => ("bad", "given up"),
            None => ("warn", "waits"),
        };
        let tries = match call.attempts {
            1 => "1 try".to_owned(),
            tries => format!("{tries} tries"),
        };
        let answer = answer.map(|answer| format!(", {answer}"));
        Self {
            class,
            text: format!("{how}: {}, {tries}{}", call.url, answer.unwrap_or_default()),
            link: Some((format!("webhooks/{}", call.id), "The call")),
            ..Self::new(&call.submitted, format!("Event {}", call.event), asked)
        }
    }
}

async fn part(asked: Arc<Asked>) -> Result<Part, Trouble> {
    part_of(&asked, QueueId(asked.number(0)?)).await
}

async fn part_of(asked: &Asked, id: QueueId) -> Result<Part, Trouble> {
    let item = asked.run(Get { id }).await?;
    let details = asked.run(Details { id }).await?;
    let state = match item.stage.is_end() {
        true => item.message.state.clone(),
        false => asked.run(Explain { id }).await?.state,
    };
    let lookup = Lookup {
        account: item.message.account.clone(),
        address: item.message.to.clone(),
        list: String::new(),
    };
    let suppression = asked.run(lookup).await.ok().flatten();
    let story = Story {
        of: id.to_string(),
        ..Story::default()
    };
    // Without traces, the rest is shown.
    let stories = asked.run(story).await.ok();
    let has_traces = stories.is_some();
    let stories = stories.map(|found| found.stories).unwrap_or_default();
    let own = stories.into_iter().filter(|it| it.queue_id == Some(id.0));
    let mut rows: Vec<Row> = own
        .flat_map(|story| story.traces)
        .map(|trace| Row::trace(&trace, asked))
        .collect();
    rows.push(Row {
        text: format!("{}, account {}", details.origin, item.message.account),
        ..Row::new(&item.message.created, "Accepted", asked)
    });
    let results = item.results.iter();
    rows.extend(results.map(|it| Row::attempt(it, &item.transcripts, asked)));
    rows.extend(details.calls.iter().map(|it| Row::call(it, None, asked)));
    let past = details.past_calls.iter();
    rows.extend(past.map(|it| Row::call(&it.call, Some(it), asked)));
    if let Some(entry) = &suppression {
        rows.push(Row {
            class: "bad",
            text: format!("{}: {}", entry.base_address, entry.reason),
            link: Some((
                format!("suppressions?account={}", entry.account),
                "Suppressions",
            )),
            ..Row::new(&entry.created, "The recipient is suppressed", asked)
        });
    }
    // Times are RFC 3339 in UTC with the same number of digits, or nearly so: the parsed ones
    // count.
    rows.sort_by_key(|row| row.time.parse::<jiff::Timestamp>().ok());
    rows.reverse();
    let is_final = item.stage.is_end() && details.calls.is_empty();
    let now = asked.now();
    let part = Part::new(&Now {
        frame: asked.frame("Message"),
        class: queue::class(item.stage),
        state,
        size: Bytes(item.message.size),
        created: When::new(&item.message.created, now),
        next: When::maybe(item.next_retry.as_ref(), now),
        notify: When::maybe(item.next_notify.as_ref(), now),
        expires: When::maybe(item.expires.as_ref(), now),
        details,
        suppression,
        rows,
        has_traces,
        item,
    })?;
    Ok(part.ending(is_final))
}

async fn page(
    asked: &Asked,
    id: QueueId,
    (tab, live): (&str, Option<Live>),
    content: Content,
) -> Result<Page, Trouble> {
    let item = asked.run(Get { id }).await?;
    let id = id.0;
    let text = id.to_string();
    let mut frame = asked.frame(&format!("Message {id}"));
    let command = AsCommand::cli(["queue", "explain", &text]);
    let path = format!("/api/queue/messages/{id}");
    frame = frame.with(command.get(&path));
    if !item.stage.is_end() {
        frame = frame.with(AsCommand::cli(["queue", "dump", &text]));
    }
    Ok(Page {
        frame,
        id,
        to: item.message.to,
        is_queued: !item.stage.is_end(),
        is_held: item.stage == Stage::Held,
        tab: tab.to_owned(),
        tabs: TABS.into(),
        live,
        content,
        transports: asked.context.statics.transports.keys().cloned().collect(),
        delays: DELAYS,
        faults: Faults::default(),
    })
}

/// The page of a message once more, since a form was wrong.
pub(super) async fn again(asked: &Asked, id: u64, faults: Faults) -> Result<Answer, Trouble> {
    let id = QueueId(id);
    let part = part_of(&asked.for_all(), id).await?;
    let live = Some(live::still(asked, part));
    Answer::again(&Page {
        faults,
        ..page(asked, id, ("", live), Content::Nothing).await?
    })
}

/// A message of the queue or of the history.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = QueueId(asked.number(0)?);
    let tab = asked.query.text("tab").unwrap_or_default().to_owned();
    let content = match tab.as_str() {
        "" => {
            return match live::shown(&asked, EVERY, part).await? {
                Shown::Part(answer) => Ok(answer),
                Shown::Page(live) => {
                    Answer::page(&page(&asked, id, ("", Some(live)), Content::Nothing).await?)
                }
            };
        }
        _ if asked.run(Get { id }).await?.stage.is_end() => Content::Gone,
        "headers" | "structure" => {
            let look = Look {
                id,
                with_text: false,
            };
            Content::Looked(asked.run(look).await?)
        }
        "text" | "source" => Content::Hidden,
        _ => return Err(Trouble::NoPage),
    };
    Answer::page(&page(&asked, id, (&tab, None), content).await?)
}

/// Shows the text of a message. The audit log notes that.
pub(in super::super) async fn show_text(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = QueueId(asked.number(0)?);
    let tab = match asked.form.text("tab") {
        Some("source") => "source",
        _ => "text",
    };
    let look = Look {
        id,
        with_text: true,
    };
    let content = Content::Looked(asked.run(look).await?);
    Answer::with(
        StatusCode::OK,
        &page(&asked, id, (tab, None), content).await?,
    )
}
