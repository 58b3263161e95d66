//! Mailboxes: a list, new ones, other names, removal; and how much an account has.

use axum::{http::StatusCode, response::Response};
use postrider_store::{Folder, INBOX, SpecialUse};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    asked::Asked,
    folder_name::{read, shown},
    problem::Problem,
};
use crate::http::answer::{json as answer, ok};

/// The most mailboxes of an account that callers may make.
const FOLDERS_MAX: usize = 1000;

/// A mailbox, as the API shows it.
#[derive(Debug, Serialize)]
struct FolderItem {
    name: String,
    special_use: Option<&'static str>,
    unseen: u64,
    exists: u64,
    /// In bytes.
    size: u64,
    uid_validity: u32,
    uid_next: u32,
}

impl From<&Folder> for FolderItem {
    fn from(folder: &Folder) -> Self {
        Self {
            name: shown(&folder.name).to_owned(),
            special_use: folder.special_use.map(SpecialUse::name),
            unseen: folder.unseen,
            exists: folder.exists,
            size: folder.size,
            uid_validity: folder.uid_validity(),
            uid_next: folder.uid_next,
        }
    }
}

/// The mailboxes of the account. Those that each account has are made if they are not there.
async fn all(asked: &Asked) -> Result<Vec<Folder>, Problem> {
    let store = &asked.context.store;
    let folders = store.folders(asked.account()).await?;
    let usual = [INBOX].into_iter().chain(
        asked
            .context
            .statics
            .default_mailboxes
            .iter()
            .map(String::as_str),
    );
    let missing: Vec<_> = usual
        .filter(|name| !folders.iter().any(|folder| folder.name == *name))
        .collect();
    if missing.is_empty() {
        return Ok(folders);
    }
    for name in missing {
        store.make_folder(asked.account(), name, None).await?;
    }
    Ok(store.folders(asked.account()).await?)
}

/// Lists the mailboxes, the inbox first, then those with a special use.
pub(super) async fn list(asked: Asked) -> Result<Response, Problem> {
    let mut folders = all(&asked).await?;
    folders.sort_by_key(|folder| (folder.name != INBOX, folder.special_use.is_none()));
    let items: Vec<_> = folders.iter().map(FolderItem::from).collect();
    Ok(ok(&items))
}

#[derive(Debug, Deserialize)]
struct Make {
    name: String,
    #[serde(default)]
    special_use: Option<String>,
}

/// Makes a mailbox.
pub(super) async fn make(asked: Asked) -> Result<Response, Problem> {
    let Make { name, special_use } = asked.json().await?;
    let name = read("name", &name)?;
    let special_use = special_use.map(|name| {
        SpecialUse::named(&name)
            .ok_or_else(|| Problem::field("special_use", format!("{name:?} is no special use")))
    });
    let folders = all(&asked).await?;
    if folders.len() >= FOLDERS_MAX {
        let text = format!("the account has {FOLDERS_MAX} mailboxes already");
        return Err(Problem::conflict("tooManyFolders", text));
    }
    let store = &asked.context.store;
    let made = store.make_folder(asked.account(), &name, special_use.transpose()?);
    if !made.await? {
        return Err(exists(&name));
    }
    one(&asked, &name, StatusCode::CREATED).await
}

fn exists(name: &str) -> Problem {
    let text = format!("there is a mailbox {:?}", shown(name));
    Problem::conflict("folderExists", text)
}

async fn one(asked: &Asked, name: &str, status: StatusCode) -> Result<Response, Problem> {
    let folder = asked.context.store.folder(asked.account(), name).await?;
    let folder = folder.ok_or_else(|| missing(name))?;
    Ok(answer(status, &FolderItem::from(&folder)))
}

/// The mailbox that is not there.
pub(super) fn missing(name: &str) -> Problem {
    Problem::not_found(format!("there is no mailbox {:?}", shown(name)))
}

/// Whether a mailbox must stay as it is: the inbox, and those with a special use.
async fn check_free(asked: &Asked, name: &str) -> Result<(), Problem> {
    let folder = asked.context.store.folder(asked.account(), name).await?;
    let folder = folder.ok_or_else(|| missing(name))?;
    match name == INBOX || folder.special_use.is_some() {
        true => Err(Problem::conflict(
            "specialFolder",
            "the inbox and mailboxes with a special use keep their names and stay",
        )),
        false => Ok(()),
    }
}

#[derive(Debug, Deserialize)]
struct Rename {
    name: String,
}

/// Gives a mailbox another name.
pub(super) async fn rename(asked: Asked) -> Result<Response, Problem> {
    let from = asked.folder()?;
    let Rename { name } = asked.json().await?;
    let to = read("name", &name)?;
    check_free(&asked, &from).await?;
    let store = &asked.context.store;
    store.rename_folder(asked.account(), &from, &to).await?;
    one(&asked, &to, StatusCode::OK).await
}

/// Removes a mailbox that is empty.
pub(super) async fn remove(asked: Asked) -> Result<Response, Problem> {
    let name = asked.folder()?;
    check_free(&asked, &name).await?;
    let store = &asked.context.store;
    store.remove_folder(asked.account(), &name).await?;
    Ok(ok(&json!({"removed": shown(&name)})))
}

/// How much mail the account has, and how much it may have.
pub(super) async fn quota(asked: Asked) -> Result<Response, Problem> {
    let usage = asked.context.store.mail_usage(asked.account()).await?;
    let config = asked.context.config.load();
    let account = config.accounts.get(asked.account());
    let limit = account
        .and_then(|account| account.quota)
        .map(|quota| quota.0);
    Ok(ok(
        &json!({"used": usage.bytes, "limit": limit, "messages": usage.mails}),
    ))
}
