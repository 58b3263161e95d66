//! All keys: those for the management API, and those of accounts for the webapi.

use std::sync::Arc;

use askama::Template;
use postrider_store::{ApiKeyId, Scope};

use crate::{
    Code,
    face::{
        pages::{
            answer::{Answer, Trouble},
            asked::Asked,
            command::AsCommand,
            confirm::Confirm,
            credentials::{
                keys::{KeyForm, KeyRow, asks_removal, described, made, manages, removing},
                reveal, revealed,
            },
            form::Faults,
            frame::Frame,
            list::{Links, Listing},
        },
        path::segment,
    },
    op::{
        key_uses,
        keys::{Add, ApiKeyItem, List, Remove},
    },
};

#[derive(Template)]
#[template(path = "admin/keys.html")]
struct Keys {
    frame: Frame,
    rows: Vec<Row>,
    links: Links,
    /// Only keys for the management API, or only others.
    kind: &'static str,
    total: usize,
    secret: Option<String>,
    form: KeyForm,
    account: String,
    domains: String,
    tenant: String,
    legacy: bool,
}

struct Row {
    key: KeyRow,
    /// The page of its account; empty: it has none.
    account_url: String,
}

async fn page(asked: &Asked, faults: Faults) -> Result<Keys, Trouble> {
    let all = asked.list(List { account: None }).await?;
    let total = all.len();
    let kind = match asked.query.text("kind") {
        Some("management") => "management",
        Some("accounts") => "accounts",
        _ => "",
    };
    let wanted = |key: &ApiKeyItem| match kind {
        "management" => manages(key),
        "accounts" => !manages(key),
        _ => true,
    };
    let all = all.into_iter().filter(wanted).collect();
    // By number, in digits of one length.
    let (items, links) = Listing::new(&asked.query).part(all, |key| format!("{:020}", key.id));
    let uses = asked.list(key_uses::List { account: None }).await?;
    let row = |key: ApiKeyItem| {
        let account_url = match key.account.as_str() {
            "" => String::new(),
            account => asked.url(&format!("accounts/{}/keys", segment(account))),
        };
        let path = format!("keys/{}/remove", key.id);
        Row {
            key: KeyRow::new(asked, (key, &uses), &path),
            account_url,
        }
    };
    let mut frame = asked.frame("Keys");
    // The command lists all.
    if kind.is_empty() {
        frame = frame.with(AsCommand::cli(["apikey", "list"]));
    }
    Ok(Keys {
        frame,
        rows: items.into_iter().map(row).collect(),
        links,
        kind,
        total,
        secret: revealed(asked),
        form: KeyForm::new(&asked.form, |_| true, faults),
        account: asked.form.shown("account").to_owned(),
        domains: asked.form.shown("domains").to_owned(),
        tenant: asked.form.shown("tenant").to_owned(),
        legacy: asked.form.flag("legacy_status"),
    })
}

/// The keys, and the form for a new one.
pub(in crate::face::pages) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&page(&asked, Faults::default()).await?)
}

/// Makes a key, and shows it once.
pub(in crate::face::pages) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let account = asked.form.text("account").unwrap_or_default();
    let every: fn(Scope) -> bool = |_| true;
    let described = described(&asked.form, account, asked.now(), every).map(|add| {
        let domains = asked.form.shown("domains").split([',', ' ', '\r', '\n']);
        Add {
            domains: domains
                .filter(|it| !it.is_empty())
                .map(str::to_owned)
                .collect(),
            legacy_status: asked.form.flag("legacy_status"),
            tenant: asked.form.shown("tenant").trim().to_owned(),
            ..add
        }
    });
    match made(&asked, described).await {
        Ok((name, added)) => {
            let told = format!("The key {name:?} is made, with the number {}.", added.id);
            Ok(reveal(&asked, told, added.key, "keys"))
        }
        Err(error) if matches!(error.code, Code::Invalid | Code::NotFound) => {
            Answer::again(&page(&asked, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The key of the path.
async fn found(asked: &Asked) -> Result<ApiKeyItem, Trouble> {
    let id = asked.number(0)?;
    let mut all = asked.list(List { account: None }).await?.into_iter();
    all.find(|key| key.id == id).ok_or(Trouble::NoPage)
}

fn removal(asked: &Asked, key: &ApiKeyItem) -> Confirm {
    let action = asked.url(&format!("keys/{}/remove", key.id));
    asks_removal(asked, key, &action)
        .back(asked.url("keys"))
        .command(removing(key))
}

/// Asks before a key is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let key = found(&asked).await?;
    Answer::page(&removal(&asked, &key))
}

/// Removes a key.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let key = found(&asked).await?;
    if let Err(error) = asked.prove().await {
        return removal(&asked, &key).again(&error);
    }
    asked
        .run(Remove {
            id: ApiKeyId(key.id),
        })
        .await?;
    let told = format!("The key {:?} is revoked.", key.name);
    Ok(asked.done(told, "keys"))
}
