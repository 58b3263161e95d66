//! The browsers in which an account is logged in, for its holder and for the administrator.

use std::sync::Arc;

use askama::Template;
use postrider_store::WebSessionOwner;

use super::{
    answer::{Answer, Trouble},
    asked::Asked,
    confirm::Confirm,
    frame::Frame,
    owner::Owner,
    shown::{When, counted},
};
use crate::op::web_sessions::{End, List, WebSessionItem};

#[derive(Template)]
#[template(path = "login/sessions.html")]
struct Sessions {
    frame: Frame,
    owner: Owner,
    rows: Vec<Row>,
    /// There are sessions beside that of the visitor.
    has_others: bool,
}

struct Row {
    session: WebSessionItem,
    created: When,
    used: When,
    until: When,
    /// It is that of the visitor.
    is_own: bool,
}

impl Row {
    fn from(&self) -> String {
        let ip = self.session.ip;
        ip.map_or_else(|| "not known".to_owned(), |ip| ip.to_string())
    }
}

fn of(owner: &Owner) -> WebSessionOwner {
    WebSessionOwner::Account(owner.account.clone())
}

/// The number of the visitor's own session, if it is one of the account.
fn own(asked: &Asked, owner: &Owner) -> Option<u64> {
    let session = asked.session.as_ref()?;
    (session.owner == of(owner)).then_some(session.id)
}

async fn rows(asked: &Asked, owner: &Owner) -> Result<Vec<Row>, Trouble> {
    let (now, own) = (asked.now(), own(asked, owner));
    let list = List {
        of: Some(of(owner)),
    };
    let row = |session: WebSessionItem| Row {
        created: When::new(&session.created, now),
        used: When::new(&session.last_used, now),
        until: When::new(&session.until, now),
        is_own: own == Some(session.id),
        session,
    };
    Ok(asked.list(list).await?.into_iter().map(row).collect())
}

/// The sessions, the one that was used last first.
pub(super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let rows = rows(&asked, &owner).await?;
    Answer::page(&Sessions {
        frame: asked.frame(&owner.title("Sessions")),
        has_others: rows.iter().any(|row| !row.is_own),
        owner,
        rows,
    })
}

/// Ends one session. The browser can log in again.
pub(super) async fn end(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let id = owner.element(&asked, 0);
    let id: u64 = id.parse().map_err(|_| Trouble::NoPage)?;
    let end = End {
        of: of(&owner),
        id: Some(id),
        except: None,
    };
    asked.run(end).await?;
    if own(&asked, &owner) == Some(id) {
        return Ok(Answer::SeeOther(asked.url("login")));
    }
    Ok(asked.done("The session has ended.", &owner.path("sessions")))
}

/// Asks before all other sessions end.
pub(super) async fn ask_end_others(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let rows = rows(&asked, &owner).await?;
    let others = rows.iter().filter(|row| !row.is_own);
    let count = others.clone().count() as u64;
    let example = |row: &Row| format!("{}, from {}", row.session.browser, row.from());
    let examples = others.take(5).map(example).collect();
    let question = match own(&asked, &owner) {
        Some(_) => "End all other sessions?",
        None => "End all sessions?",
    };
    let action = asked.url(&owner.path("sessions/end-others"));
    let confirm = Confirm::new(&asked, question, "End them", &action)
        .effect(format!(
            "{} to log in again.",
            counted(count, "browser has", "browsers have")
        ))
        .effect("Programs that send mail or call the webapi are not touched.")
        .examples(examples)
        .back(asked.url(&owner.path("sessions")));
    Answer::page(&confirm)
}

/// Ends all sessions but that of the visitor.
pub(super) async fn end_others(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let end = End {
        of: of(&owner),
        id: None,
        except: own(&asked, &owner),
    };
    let ended = asked.run(end).await?;
    let told = format!("{} ended.", counted(ended.count, "session", "sessions"));
    Ok(asked.done(told, &owner.path("sessions")))
}
