//! Sessions of web pages: who is logged in with a browser, and their end.

use std::sync::Arc;

use askama::Template;
use postrider_store::WebSessionOwner;

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    confirm::Confirm,
    frame::Frame,
    shown::{When, counted},
};
use crate::{
    AdminError,
    op::web_sessions::{End, List, WebSessionItem},
};

/// The most rows.
const ROWS: usize = 250;

#[derive(Template)]
#[template(path = "admin/watch/sessions.html")]
struct Page {
    frame: Frame,
    account: String,
    is_filtered: bool,
    rows: Vec<Row>,
    /// So many are not shown.
    left_out: usize,
    /// Other sessions of the administrator.
    others: usize,
}

struct Row {
    item: WebSessionItem,
    created: When,
    used: When,
    until: When,
    /// It is the one that asks.
    is_own: bool,
}

/// All sessions, the one that was used last first.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let of = asked.query.text("account");
    let of = of.map(|account| WebSessionOwner::Account(account.to_owned()));
    let found = asked.list(List { of }).await;
    let items = match found {
        // An account that is no more has no sessions.
        Err(error) if error.field.is_some() => Vec::new(),
        found => found?,
    };
    let (now, own) = (asked.now(), own(&asked));
    let is_other = |item: &&WebSessionItem| item.account.is_none() && Some(item.id) != own;
    let others = items.iter().filter(is_other).count();
    let left_out = items.len().saturating_sub(ROWS);
    let row = |item: WebSessionItem| Row {
        created: When::new(&item.created, now),
        used: When::new(&item.last_used, now),
        until: When::new(&item.until, now),
        is_own: Some(item.id) == own,
        item,
    };
    Answer::page(&Page {
        frame: asked.frame("Sessions"),
        account: asked.query.shown("account").to_owned(),
        is_filtered: asked.query.text("account").is_some(),
        rows: items.into_iter().take(ROWS).map(row).collect(),
        left_out,
        others,
    })
}

/// The session that asks.
fn own(asked: &Asked) -> Option<u64> {
    asked.session.as_ref().map(|session| session.id)
}

async fn session(asked: &Asked) -> Result<WebSessionItem, Trouble> {
    let id = asked.number(0)?;
    let items = asked.list(List::default()).await?;
    let found = items.into_iter().find(|item| item.id == id);
    let missing = || AdminError::not_found(format!("there is no session {id} any more"));
    Ok(found.ok_or_else(missing)?)
}

fn owner(item: &WebSessionItem) -> WebSessionOwner {
    match &item.account {
        None => WebSessionOwner::Admin,
        Some(account) => WebSessionOwner::Account(account.clone()),
    }
}

/// Asks before a session ends.
pub(in super::super) async fn ask_end(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let item = session(&asked).await?;
    let whose = item.account.as_deref().unwrap_or("the administrator");
    let question = format!("End session {} of {whose}?", item.id);
    let action = asked.url(&format!("sessions/{}/end", item.id));
    let mut confirm = Confirm::new(&asked, &question, "End the session", &action)
        .effect(format!("{} has to log in again.", item.browser))
        .back(asked.url("sessions"));
    if own(&asked) == Some(item.id) {
        confirm = confirm.effect("It is the session that you use now.");
    }
    Answer::page(&confirm)
}

/// Ends a session.
pub(in super::super) async fn end(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let item = session(&asked).await?;
    let end = End {
        of: owner(&item),
        id: Some(item.id),
        except: None,
    };
    asked.run(end).await?;
    let whose = item.account.as_deref().unwrap_or("the administrator");
    let told = format!("Session {} of {whose} has ended.", item.id);
    Ok(asked.done(told, "sessions"))
}

/// Whose sessions a form is about: those of an account, or the administrator's.
fn whose(account: Option<&str>) -> WebSessionOwner {
    account.map_or(WebSessionOwner::Admin, |account| {
        WebSessionOwner::Account(account.to_owned())
    })
}

/// Asks before all sessions of an account end, or all others of the administrator.
pub(in super::super) async fn ask_end_all(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let account = asked.query.text("account");
    let of = Some(whose(account));
    let own = own(&asked);
    let mut items = asked.list(List { of }).await?;
    items.retain(|item| Some(item.id) != own);
    let question = match account {
        Some(account) => format!("End all sessions of {account}?"),
        None => "End all other sessions of the administrator?".to_owned(),
    };
    let told = counted(items.len() as u64, "session ends", "sessions end");
    let examples = items.iter().take(5);
    let examples = examples.map(|item| format!("{}, {}", item.id, item.browser));
    let confirm = Confirm::new(&asked, &question, "End them", &asked.url("sessions/end"))
        .effect(format!("{told}. Who used them has to log in again."))
        .examples(examples.collect())
        .repeating(&asked.query)
        .back(asked.url("sessions"));
    Answer::page(&confirm)
}

/// Ends all sessions of an account, or all others of the administrator.
pub(in super::super) async fn end_all(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let end = End {
        of: whose(asked.form.text("account")),
        id: None,
        except: own(&asked),
    };
    let ended = asked.run(end).await?;
    let told = counted(ended.count, "session has", "sessions have");
    Ok(asked.done(format!("{told} ended."), "sessions"))
}
