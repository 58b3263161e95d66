//! Keys of client certificates, with which programs log in to submission.

use std::sync::Arc;

use askama::Template;

use super::last_used;
use crate::{
    AdminError, Code,
    face::{
        pages::{
            answer::{Answer, Trouble},
            asked::Asked,
            command::AsCommand,
            confirm::Confirm,
            form::Faults,
            frame::Frame,
            owner::Owner,
            shown::When,
        },
        path::segment,
    },
    op::tls_keys::{Add, List, Remove, TlsKeyItem},
};

#[derive(Template)]
#[template(path = "setup/tls_keys.html")]
struct TlsKeys {
    frame: Frame,
    owner: Owner,
    rows: Vec<Row>,
    /// The login addresses that a key may have.
    logins: Vec<String>,
    login: String,
    /// The name. Within the macros of a template, `name` is that of a field.
    typed: String,
    certificate: String,
    faults: Faults,
}

struct Row {
    key: TlsKeyItem,
    created: When,
    used: When,
    url: String,
}

async fn items(asked: &Asked, owner: &Owner) -> Result<Vec<TlsKeyItem>, Trouble> {
    let list = List {
        account: Some(owner.account.clone()),
    };
    Ok(asked.list(list).await?)
}

async fn page(asked: &Asked, owner: Owner, faults: Faults) -> Result<TlsKeys, Trouble> {
    let now = asked.now();
    let row = |key: TlsKeyItem| Row {
        created: When::new(&key.created, now),
        used: When::maybe(key.last_used.as_ref(), now),
        url: asked.url(&owner.path(&format!("tls-keys/{}", segment(&key.fingerprint)))),
        key,
    };
    let rows = items(asked, &owner).await?.into_iter().map(row).collect();
    let mut frame = asked.frame(&owner.title("TLS keys"));
    if owner.by_admin {
        let words = ["tlspubkey", "list", "--account", &owner.account];
        frame = frame.with(AsCommand::cli(words));
    }
    // A catch-all is no login.
    let logins = owner
        .item
        .addresses
        .iter()
        .filter(|it| !it.starts_with('@'));
    Ok(TlsKeys {
        frame,
        rows,
        logins: logins.cloned().collect(),
        owner,
        login: asked.form.shown("login").to_owned(),
        typed: asked.form.shown("name").to_owned(),
        certificate: asked.form.shown("certificate").to_owned(),
        faults,
    })
}

/// The keys, and the form for a new one.
pub(in crate::face::pages) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    Answer::page(&page(&asked, owner, Faults::default()).await?)
}

/// Lets the key of a certificate log in.
pub(in crate::face::pages) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    match added(&asked, &owner).await {
        Ok(key) => {
            let told = format!(
                "The key {:?} logs in as {} from now on.",
                key.name, key.login
            );
            Ok(asked.done(told, &owner.path("tls-keys")))
        }
        Err(error) if matches!(error.code, Code::Invalid | Code::Conflict) => {
            Answer::again(&page(&asked, owner, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

async fn added(asked: &Asked, owner: &Owner) -> Result<TlsKeyItem, AdminError> {
    let login = asked.form.text("login").unwrap_or_default().to_owned();
    // The login decides the account, so it has to be one of this account.
    if !owner.item.addresses.contains(&login) {
        let text = format!("{login:?} is not an address of the account");
        return Err(AdminError::invalid(text).at("login"));
    }
    asked.prove().await?;
    let add = Add {
        login,
        name: asked.form.text("name").map(str::to_owned),
        certificate: asked.form.shown("certificate").trim().to_owned(),
    };
    asked.run(add).await
}

/// The key of the path, which is one of the account.
async fn own(asked: &Asked, owner: &Owner) -> Result<TlsKeyItem, Trouble> {
    let fingerprint = owner.element(asked, 0);
    let mut items = items(asked, owner).await?.into_iter();
    let found = items.find(|item| item.fingerprint == fingerprint);
    found.ok_or(Trouble::NoPage)
}

fn removal(asked: &Asked, owner: &Owner, key: &TlsKeyItem) -> Confirm {
    let path = format!("tls-keys/{}/remove", segment(&key.fingerprint));
    let action = asked.url(&owner.path(&path));
    let question = format!("Remove the key {:?}?", key.name);
    let mut confirm = Confirm::new(asked, &question, "Remove the key", &action)
        .proving()
        .effect(format!("Its certificates log in as {} no more.", key.login))
        .effect(last_used(key.last_used.as_ref()))
        .back(asked.url(&owner.path("tls-keys")));
    if owner.by_admin {
        confirm = confirm.command(AsCommand::cli(["tlspubkey", "rm", &key.fingerprint]));
    }
    confirm
}

/// Asks before a key is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let key = own(&asked, &owner).await?;
    Answer::page(&removal(&asked, &owner, &key))
}

/// Removes a key.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let key = own(&asked, &owner).await?;
    if let Err(error) = asked.prove().await {
        return removal(&asked, &owner, &key).again(&error);
    }
    let fingerprint = key.fingerprint;
    asked.run(Remove { fingerprint }).await?;
    let told = format!("The key {:?} is removed.", key.name);
    Ok(asked.done(told, &owner.path("tls-keys")))
}
