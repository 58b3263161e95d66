//! One message: where it stands and why, what happened to it, and what is in it.
//!
//! Administrators see all messages, and the text of one when they ask for it. A holder sees those
//! of the own account, with their texts.
//!
//! - `rows`: what happened.

mod rows;

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::http::StatusCode;
use postrider_store::{EventFilter, Order, QueueId};
use serde_json::json;

use self::rows::{Known, Row};
use super::{
    super::{
        admin::queue::DELAYS,
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        form::Faults,
        frame::Frame,
        live::{self, Live, Part, Shown},
        shown::{Bytes, Told, When},
        webapi,
    },
    filter::is_holder,
    history,
};
use crate::{
    Code,
    op::{
        details::{Details, DetailsItem, Look, Looked},
        events::{EventItem, Search, Wanted},
        messages::{Get, MessageItem, Stage},
        queue::Explain,
        suppression::{Lookup, SuppressionItem},
        traces::{Sight, Story},
    },
};

/// How often the page shows what changed.
const EVERY: Duration = Duration::from_secs(1);

/// The most events of a message that are shown.
const EVENTS: usize = 50;

/// The tabs: name and title.
const TABS: [(&str, &str); 5] = [
    ("", "What happened"),
    ("headers", "Headers"),
    ("structure", "Structure"),
    ("text", "Text"),
    ("source", "Source"),
];

#[derive(Template)]
#[template(path = "past/message.html")]
struct Page {
    frame: Frame,
    id: u64,
    to: String,
    is_queued: bool,
    tab: String,
    tabs: Vec<(&'static str, &'static str)>,
    live: Option<Live>,
    content: Content,
    transports: Vec<String>,
    delays: [(&'static str, &'static str); 6],
    /// The time that a holder typed for the next attempt.
    when: String,
    is_holder: bool,
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

/// How a stage looks.
pub(in super::super) const fn class(stage: Stage) -> &'static str {
    match stage {
        Stage::Scheduled | Stage::Delivering => "",
        Stage::Delivered => "good",
        Stage::Deferred | Stage::Held => "warn",
        Stage::Failed => "bad",
    }
}

/// The part that changes. Its buttons are of forms that stand outside of it.
#[derive(Template)]
#[template(path = "past/message_part.html")]
struct Now {
    frame: Frame,
    item: MessageItem,
    class: &'static str,
    /// Where it stands, in words.
    state: Told,
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
    /// The path of the history within the area.
    history: &'static str,
    is_holder: bool,
}

/// A message that the visitor may see. To a holder, a message of another account is as one that
/// never was.
pub(super) async fn seen(asked: &Asked, id: QueueId) -> Result<MessageItem, Trouble> {
    let found = asked.run(Get { id }).await;
    if !is_holder(asked) {
        return Ok(found?);
    }
    match found {
        Ok(item) if item.message.account == asked.account() => Ok(item),
        Ok(_) => Err(Trouble::NoPage),
        Err(error) if error.code == Code::NotFound => Err(Trouble::NoPage),
        Err(error) => Err(error.into()),
    }
}

/// The events of a message, newest first.
///
/// The store finds them by the Message-ID: an account has few messages with the same one, but may
/// have sent very many to the recipient.
async fn events(asked: &Asked, item: &MessageItem) -> Result<Vec<EventItem>, Trouble> {
    let message_id = &item.message.message_id;
    let search = Search {
        which: Wanted {
            filter: EventFilter {
                account: Some(item.message.account.clone()),
                recipient: Some(item.message.to.clone()),
                message_id: (!message_id.is_empty()).then(|| message_id.clone()),
                ..EventFilter::default()
            },
            message: Some(QueueId(item.message.id)),
            ..Wanted::default()
        },
        order: Order::Descending,
        after: None,
        limit: EVENTS,
    };
    Ok(asked.run(search).await?.items)
}

async fn part(asked: Arc<Asked>) -> Result<Part, Trouble> {
    part_of(&asked, QueueId(asked.number(0)?)).await
}

async fn part_of(asked: &Asked, id: QueueId) -> Result<Part, Trouble> {
    let item = seen(asked, id).await?;
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
    let events = events(asked, &item).await?;
    let story = Story {
        of: id.to_string(),
        // A session or a call may be about mail of others too.
        sight: is_holder(asked).then(|| Sight {
            accounts: [asked.account().to_owned()].into(),
            ..Sight::default()
        }),
        ..Story::default()
    };
    // Without traces, the rest is shown.
    let stories = asked.run(story).await.ok();
    let has_traces = stories.is_some();
    let stories = stories.map(|found| found.stories).unwrap_or_default();
    let own = stories.into_iter().filter(|it| it.queue_id == Some(id.0));
    let traces: Vec<_> = own.flat_map(|story| story.traces).collect();
    let known = Known {
        item: &item,
        details: &details,
        suppression: suppression.as_ref(),
        traces: &traces,
        events: &events,
    };
    let rows = known.rows(asked);
    let is_final = item.stage.is_end() && details.calls.is_empty();
    let now = asked.now();
    let part = Part::new(&Now {
        frame: asked.frame("Message"),
        class: class(item.stage),
        state: Told::new(&state, now),
        size: Bytes(item.message.size),
        created: When::new(&item.message.created, now),
        next: When::maybe(item.next_retry.as_ref(), now),
        notify: When::maybe(item.next_notify.as_ref(), now),
        expires: When::maybe(item.expires.as_ref(), now),
        details,
        suppression,
        rows,
        has_traces,
        history: history::path(asked),
        is_holder: is_holder(asked),
        item,
    })?;
    Ok(part.ending(is_final))
}

/// The commands that tell the same.
fn commands(asked: &Asked, item: &MessageItem) -> Vec<AsCommand> {
    let id = item.message.id;
    if is_holder(asked) {
        let status = webapi::v1(asked, "QueueStatus", &json!({"QueueMsgID": id}));
        return vec![status];
    }
    let text = id.to_string();
    let explain = AsCommand::cli(["queue", "explain", &text]);
    let mut commands = vec![explain.get(&format!("/api/queue/messages/{id}"))];
    if !item.stage.is_end() {
        commands.push(AsCommand::cli(["queue", "dump", &text]));
    }
    commands
}

fn page(
    asked: &Asked,
    item: MessageItem,
    (tab, live): (&str, Option<Live>),
    content: Content,
) -> Page {
    let id = item.message.id;
    let mut frame = asked.frame(&format!("Message {id}"));
    for command in commands(asked, &item) {
        frame = frame.with(command);
    }
    Page {
        frame,
        id,
        to: item.message.to,
        is_queued: !item.stage.is_end(),
        tab: tab.to_owned(),
        tabs: TABS.into(),
        live,
        content,
        transports: asked.context.statics.transports.keys().cloned().collect(),
        delays: DELAYS,
        when: asked.form.shown("when").to_owned(),
        is_holder: is_holder(asked),
        faults: Faults::default(),
    }
}

/// The page of a message once more, since a form was wrong.
pub(in super::super) async fn again(
    asked: &Asked,
    id: u64,
    faults: Faults,
) -> Result<Answer, Trouble> {
    let id = QueueId(id);
    let part = part_of(&asked.for_all(), id).await?;
    let live = Some(live::still(asked, part));
    let item = seen(asked, id).await?;
    Answer::again(&Page {
        faults,
        ..page(asked, item, ("", live), Content::Nothing)
    })
}

/// What a queued message has in it.
async fn look(asked: &Asked, id: QueueId, with_text: bool) -> Result<Looked, Trouble> {
    Ok(asked.run(Look { id, with_text }).await?)
}

/// A message of the queue or of the history.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = QueueId(asked.number(0)?);
    // Checked here, so that no stream begins for a message of others.
    let item = seen(&asked, id).await?;
    let tab = asked.query.text("tab").unwrap_or_default().to_owned();
    let content = match tab.as_str() {
        "" => {
            return match live::shown(&asked, EVERY, part).await? {
                Shown::Part(answer) => Ok(answer),
                Shown::Page(live) => {
                    Answer::page(&page(&asked, item, ("", Some(live)), Content::Nothing))
                }
            };
        }
        "headers" | "structure" | "text" | "source" => {
            // Only the text of others is asked for.
            let is_text = matches!(tab.as_str(), "text" | "source");
            match item.stage.is_end() {
                true => Content::Gone,
                false if is_text && !is_holder(&asked) => Content::Hidden,
                false => Content::Looked(look(&asked, id, is_text).await?),
            }
        }
        _ => return Err(Trouble::NoPage),
    };
    Answer::page(&page(&asked, item, (&tab, None), content))
}

/// Shows an administrator the text of a message. The audit log notes that.
pub(in super::super) async fn show_text(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = QueueId(asked.number(0)?);
    let tab = match asked.form.text("tab") {
        Some("source") => "source",
        _ => "text",
    };
    let content = Content::Looked(look(&asked, id, true).await?);
    let item = seen(&asked, id).await?;
    Answer::with(StatusCode::OK, &page(&asked, item, (tab, None), content))
}
