//! Moves, flags, labels, deletion: of one message, or of many.

use std::collections::BTreeSet;

use axum::response::Response;
use postrider_receive::junk::learn::said_by_move;
use postrider_store::{INBOX, JUNK_FLAG, MailChange, MailRow, NOT_JUNK_FLAG, SpecialUse};
use serde::Deserialize;
use serde_json::json;

use super::{
    asked::Asked,
    folder_name::{read, shown},
    message::{find, find_at},
    problem::Problem,
    rows::shown_flags,
};
use crate::{
    changed::{self, FLAGS_MAX},
    http::answer::ok,
};

/// The most messages of a batch.
const BATCH_MAX: usize = 1000;

/// The flags that clients set as a whole: those of IMAP.
const WHOLE: [&str; 5] = ["\\seen", "\\answered", "\\flagged", "\\deleted", "\\draft"];

/// The keyword of a label.
///
/// # Errors
/// If the name is none. `field` has it.
pub(super) fn keyword(field: &str, name: &str) -> Result<String, Problem> {
    let lower = name.to_lowercase();
    match changed::is_keyword(&lower) {
        true => Ok(lower),
        false => {
            let text = format!("{name:?} is no label: use letters, digits and such");
            Err(Problem::field(field, text))
        }
    }
}

#[derive(Debug, Deserialize)]
struct Move {
    target: String,
    #[serde(default)]
    create: bool,
}

/// The mailbox to move to. It has to be there, unless it may be made.
async fn target(asked: &Asked, name: &str, create: bool) -> Result<String, Problem> {
    let name = read("target", name)?;
    let store = &asked.context.store;
    let mut usual = asked.context.statics.default_mailboxes.iter();
    let is_usual = name == INBOX || usual.any(|usual| *usual == name);
    if create || is_usual || store.folder(asked.account(), &name).await?.is_some() {
        return Ok(name);
    }
    let text = format!(
        "there is no mailbox {:?}; with \"create\": true it is made",
        shown(&name)
    );
    Err(Problem::not_found(text))
}

/// Moves a message.
pub(super) async fn relocate(asked: Asked) -> Result<Response, Problem> {
    let row = find(&asked).await?;
    let Move { target: to, create } = asked.json().await?;
    let to = target(&asked, &to, create).await?;
    placed(&move_to(&asked, row, to).await?)
}

/// Moves a message, and gives it at its new place.
async fn move_to(asked: &Asked, row: MailRow, to: String) -> Result<MailRow, Problem> {
    if row.mail.mailbox == to {
        return Ok(row);
    }
    let change = MailChange {
        mailbox: Some(to),
        ..MailChange::default()
    };
    changed::change(&asked.context, &row.mail, change).await?;
    now_at(asked, row).await
}

/// A message at its present place.
async fn now_at(asked: &Asked, row: MailRow) -> Result<MailRow, Problem> {
    let now = asked.context.store.mail_row(row.mail.id).await?;
    now.ok_or_else(|| Problem::not_found("the message was deleted in the meantime"))
}

fn placed(row: &MailRow) -> Result<Response, Problem> {
    Ok(ok(
        &json!({"folder": shown(&row.mail.mailbox), "uid": row.uid}),
    ))
}

/// The mailbox of deleted messages.
async fn trash(asked: &Asked) -> Result<String, Problem> {
    let folders = asked.context.store.folders(asked.account()).await?;
    let mut trashes = folders.into_iter();
    let found = trashes.find(|folder| folder.special_use == Some(SpecialUse::Trash));
    Ok(found.map_or_else(|| "Trash".to_owned(), |folder| folder.name))
}

/// Moves a message to the trash. From the trash it is deleted.
pub(super) async fn delete(asked: Asked) -> Result<Response, Problem> {
    let row = find(&asked).await?;
    let trash = trash(&asked).await?;
    if row.mail.mailbox != trash && !asked.query.is_set("permanent") {
        return placed(&move_to(&asked, row, trash).await?);
    }
    let (store, keep) = (&asked.context.store, asked.keep_deleted());
    let (account, id) = (asked.account(), row.mail.id);
    match store.delete_mail(account, id, asked.now(), keep).await? {
        true => Ok(ok(&json!({"folder": null, "uid": null, "deleted": true}))),
        false => Err(Problem::not_found(
            "the message was deleted in the meantime",
        )),
    }
}

/// How flags change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// The flags of IMAP become exactly those given; keywords are added.
    #[default]
    Set,
    Add,
    Remove,
}

#[derive(Debug, Deserialize)]
struct Flags {
    flags: Vec<String>,
    #[serde(default)]
    mode: Mode,
}

impl Flags {
    fn change(&self) -> Result<MailChange, Problem> {
        if self.flags.len() > FLAGS_MAX {
            let text = format!("give at most {FLAGS_MAX}");
            return Err(Problem::field("flags", text));
        }
        let flags = self
            .flags
            .iter()
            .map(|name| changed::flag(name).map_err(|error| Problem::field("flags", error)));
        let flags = flags.collect::<Result<BTreeSet<_>, _>>()?;
        let others = WHOLE.iter().filter(|flag| !flags.contains(**flag));
        let others = others.map(|flag| (*flag).to_owned()).collect();
        let flags = flags.into_iter().collect();
        Ok(match self.mode {
            Mode::Set => MailChange {
                add_flags: flags,
                remove_flags: others,
                mailbox: None,
            },
            Mode::Add => MailChange {
                add_flags: flags,
                ..MailChange::default()
            },
            Mode::Remove => MailChange {
                remove_flags: flags,
                ..MailChange::default()
            },
        })
    }
}

/// Changes the flags of a message. Answers all of them.
pub(super) async fn flags(asked: Asked) -> Result<Response, Problem> {
    let row = find(&asked).await?;
    let change = asked.json::<Flags>().await?.change()?;
    let row = change_flags(&asked, row, change).await?;
    Ok(ok(&json!({"flags": shown_flags(row.mail.flags)})))
}

async fn change_flags(asked: &Asked, row: MailRow, change: MailChange) -> Result<MailRow, Problem> {
    if row.mail.flags.len() + change.add_flags.len() > 2 * FLAGS_MAX {
        return Err(Problem::field("flags", "the message has too many flags"));
    }
    changed::change(&asked.context, &row.mail, change).await?;
    now_at(asked, row).await
}

#[derive(Debug, Deserialize)]
struct Labels {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// Adds labels to a message, and removes some.
pub(super) async fn labels(asked: Asked) -> Result<Response, Problem> {
    let row = find(&asked).await?;
    let Labels { add, remove } = asked.json().await?;
    if add.len() + remove.len() > FLAGS_MAX {
        let text = format!("give at most {FLAGS_MAX} labels");
        return Err(Problem::field("add", text));
    }
    let read = |field, names: Vec<String>| -> Result<Vec<String>, Problem> {
        names.iter().map(|name| keyword(field, name)).collect()
    };
    let change = MailChange {
        add_flags: read("add", add)?,
        remove_flags: read("remove", remove)?,
        mailbox: None,
    };
    let row = change_flags(&asked, row, change).await?;
    let labels = row
        .mail
        .flags
        .into_iter()
        .filter(|flag| !flag.starts_with(['\\', '$']));
    Ok(ok(&json!({"labels": labels.collect::<Vec<_>>()})))
}

/// What happens with many messages.
#[derive(Debug, Deserialize)]
struct Batch {
    uids: Vec<u32>,
    action: Action,
    #[serde(default)]
    target: String,
    #[serde(default)]
    create: bool,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Move,
    Flags,
    Delete,
}

/// Changes many messages of a mailbox: all of them, or none.
pub(super) async fn batch(asked: Asked) -> Result<Response, Problem> {
    let folder = asked.folder()?;
    let batch: Batch = asked.json().await?;
    if batch.uids.is_empty() || batch.uids.len() > BATCH_MAX {
        let text = format!("give 1 to {BATCH_MAX}");
        return Err(Problem::field("uids", text));
    }
    let trash = trash(&asked).await?;
    let change = match batch.action {
        Action::Delete if folder == trash => return delete_all(&asked, &folder, batch.uids).await,
        Action::Delete => to(trash),
        Action::Move => to(target(&asked, &batch.target, batch.create).await?),
        Action::Flags => {
            let (flags, mode) = (batch.flags, batch.mode);
            Flags { flags, mode }.change()?
        }
    };
    let mut before = Vec::new();
    for uid in &batch.uids {
        before.push(find_at(&asked, &folder, *uid).await?);
    }
    let store = &asked.context.store;
    let done = store.change_mails(asked.account(), &folder, batch.uids, change.clone());
    if !done.await? {
        return Err(Problem::conflict(
            "changed",
            "a message was moved in the meantime",
        ));
    }
    let mut uids = Vec::new();
    for row in before {
        teach(&asked, &row, &change).await?;
        let now = store.mail_row(row.mail.id).await?;
        uids.push(json!({"was": row.uid, "uid": now.map(|now| now.uid)}));
    }
    let folder = change.mailbox.unwrap_or(folder);
    Ok(ok(&json!({"folder": shown(&folder), "messages": uids})))
}

fn to(mailbox: String) -> MailChange {
    MailChange {
        mailbox: Some(mailbox),
        ..MailChange::default()
    }
}

async fn delete_all(asked: &Asked, folder: &str, uids: Vec<u32>) -> Result<Response, Problem> {
    let count = uids.len();
    let (store, keep) = (&asked.context.store, asked.keep_deleted());
    let deleted = store.delete_mails(asked.account(), folder, uids, asked.now(), keep);
    match deleted.await? {
        true => Ok(ok(&json!({"folder": null, "deleted": count}))),
        false => Err(Problem::not_found("one of the messages is not there")),
    }
}

/// The filters learn what the move of a message, or its flags, say.
async fn teach(asked: &Asked, row: &MailRow, change: &MailChange) -> Result<(), Problem> {
    let config = asked.context.config.load_full();
    let Some(account) = config.accounts.get(asked.account()) else {
        return Ok(());
    };
    let to = change.mailbox.as_deref();
    let moved = to.and_then(|to| said_by_move(account.into(), &row.mail.mailbox, to));
    let has = |flag: &str| change.add_flags.iter().any(|added| added == flag);
    let said = moved
        .or_else(|| has(JUNK_FLAG).then_some(true))
        .or_else(|| has(NOT_JUNK_FLAG).then_some(false));
    let Some(is_junk) = said else {
        return Ok(());
    };
    let (add, remove) = match is_junk {
        true => (JUNK_FLAG, NOT_JUNK_FLAG),
        false => (NOT_JUNK_FLAG, JUNK_FLAG),
    };
    let flags = MailChange {
        add_flags: vec![add.to_owned()],
        remove_flags: vec![remove.to_owned()],
        mailbox: None,
    };
    changed::change(&asked.context, &row.mail, flags).await?;
    Ok(())
}
