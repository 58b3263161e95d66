//! Keys of an account: programs call the webapi with them.

use std::{sync::Arc, time::Duration};

use askama::{Template, filters::HtmlSafe};
use postrider_store::{ApiKeyId, Scope, Time};

use super::{reveal, revealed};
use crate::{
    AdminError, Code,
    face::pages::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        confirm::Confirm,
        form::{Faults, Fields},
        frame::Frame,
        owner::Owner,
        shown::When,
    },
    op::{
        key_uses::{self, KeyUse},
        keys::{Add, Added, ApiKeyItem, List, Remove},
    },
};

#[derive(Template)]
#[template(path = "setup/keys.html")]
struct Keys {
    frame: Frame,
    owner: Owner,
    rows: Vec<KeyRow>,
    secret: Option<String>,
    form: KeyForm,
}

/// A key in a list.
pub(in crate::face::pages) struct KeyRow {
    pub(in crate::face::pages) key: ApiKeyItem,
    pub(in crate::face::pages) created: When,
    pub(in crate::face::pages) expires: When,
    pub(in crate::face::pages) is_over: bool,
    /// Its last use, and the address that was from.
    pub(in crate::face::pages) used: When,
    pub(in crate::face::pages) from: String,
    /// Where it is removed.
    pub(in crate::face::pages) url: String,
}

impl KeyRow {
    /// The row of a key whose pages are at this path within the area. `uses` has the last uses.
    pub(in crate::face::pages) fn new(
        asked: &Asked,
        (key, uses): (ApiKeyItem, &[KeyUse]),
        path: &str,
    ) -> Self {
        let now = asked.now();
        let is_its = |used: &&KeyUse| {
            let account = &used.account;
            used.key == key.name && (*account == key.account || account.is_empty() && manages(&key))
        };
        let used = uses.iter().find(is_its);
        let end: Option<jiff::Timestamp> = key.expires.as_ref().and_then(|it| it.parse().ok());
        Self {
            created: When::new(&key.created, now),
            expires: When::maybe(key.expires.as_ref(), now),
            used: When::maybe(used.map(|used| &used.last), now),
            from: used.map_or_else(String::new, |used| format!("from {}", used.ip)),
            is_over: end.is_some_and(|end| end <= now.timestamp()),
            url: asked.url(path),
            key,
        }
    }

    pub(in crate::face::pages) fn scopes(&self) -> String {
        let names: Vec<&str> = self.key.scopes.iter().map(|scope| scope.name()).collect();
        names.join(", ")
    }
}

/// The key manages something.
pub(in crate::face::pages) fn manages(key: &ApiKeyItem) -> bool {
    key.scopes.iter().any(|scope| scope.is_management())
}

/// The form for a new key, as it was typed. It writes its fields as HTML.
#[derive(Template)]
#[template(path = "key_fields.html")]
pub(in crate::face::pages) struct KeyForm {
    /// The name. Within the macros of a template, `name` is that of a field.
    pub(in crate::face::pages) typed: String,
    /// The scopes: name, what it is for, and whether it is ticked.
    pub(in crate::face::pages) scopes: Vec<(&'static str, &'static str, bool)>,
    pub(in crate::face::pages) lifetimes: [(&'static str, &'static str); 5],
    pub(in crate::face::pages) lifetime: String,
    pub(in crate::face::pages) faults: Faults,
}

/// The lifetimes of new keys: in days, and in words.
const LIFETIMES: [(&str, &str); 5] = [
    ("30", "30 days"),
    ("90", "90 days"),
    ("365", "a year"),
    ("730", "two years"),
    ("0", "no end"),
];

/// What a key with a scope may do.
const fn purpose(scope: Scope) -> &'static str {
    match scope {
        Scope::Send => "send messages, list and cancel queued ones",
        Scope::Events => "read events and statistics",
        Scope::Suppression => "read and change the suppression list",
        Scope::Messages => "read and change the mail in the mailboxes",
        Scope::Manage => "make every call of the management API",
        Scope::ManageRead => "read everything by the management API",
        Scope::ManageQueue => "see and change the queue",
        Scope::ManageAccounts => "see and change accounts, lists and domains",
        Scope::ManageObserve => "read logs, events and reports",
        Scope::ManageMail => "read, change and send mail of people by the mailbox API",
    }
}

impl HtmlSafe for KeyForm {}

impl KeyForm {
    /// The form with these scopes.
    pub(in crate::face::pages) fn new(
        typed: &Fields,
        is_offered: impl Fn(Scope) -> bool,
        faults: Faults,
    ) -> Self {
        let scopes = Scope::ALL.into_iter().filter(|scope| is_offered(*scope));
        let ticked = |scope: Scope| typed.all("scopes").any(|name| name == scope.name());
        Self {
            typed: typed.shown("name").to_owned(),
            scopes: scopes
                .map(|scope| (scope.name(), purpose(scope), ticked(scope)))
                .collect(),
            lifetimes: LIFETIMES,
            lifetime: typed.text("lifetime").unwrap_or("365").to_owned(),
            faults,
        }
    }
}

/// The key that a form describes, for an account.
///
/// # Errors
/// If a scope is not offered, or the lifetime is no number of days.
pub(in crate::face::pages) fn described(
    form: &Fields,
    account: &str,
    now: Time,
    is_offered: impl Fn(Scope) -> bool,
) -> Result<Add, AdminError> {
    const DAY: u64 = 24 * 60 * 60;
    let scope = |name: &str| {
        let mut scopes = Scope::ALL.into_iter();
        let found = scopes.find(|scope| scope.name() == name && is_offered(*scope));
        found.ok_or_else(|| {
            AdminError::invalid(format!("there is no scope {name:?} here")).at("scopes")
        })
    };
    let days: u32 = form.parsed("lifetime", "a number of days")?.unwrap_or(0);
    Ok(Add {
        name: form.text("name").unwrap_or_default().to_owned(),
        account: account.to_owned(),
        scopes: form.all("scopes").map(scope).collect::<Result<_, _>>()?,
        expires: (days > 0).then(|| now.after(Duration::from_secs(u64::from(days) * DAY))),
        domains: Vec::new(),
        legacy_status: false,
        tenant: String::new(),
    })
}

/// Keys of an account have the scopes of the webapi.
const fn is_offered(scope: Scope) -> bool {
    !scope.is_management()
}

async fn items(asked: &Asked, owner: &Owner) -> Result<Vec<ApiKeyItem>, Trouble> {
    let list = List {
        account: Some(owner.account.clone()),
    };
    Ok(asked.list(list).await?)
}

async fn page(asked: &Asked, owner: Owner, faults: Faults) -> Result<Keys, Trouble> {
    let uses = key_uses::List {
        account: Some(owner.account.clone()),
    };
    let uses = asked.list(uses).await?;
    let row = |key: ApiKeyItem| {
        let path = owner.path(&format!("keys/{}/remove", key.id));
        KeyRow::new(asked, (key, &uses), &path)
    };
    let rows = items(asked, &owner).await?.into_iter().map(row).collect();
    let mut frame = asked.frame(&owner.title("API keys"));
    if owner.by_admin {
        let words = ["apikey", "list", "--account", &owner.account];
        frame = frame.with(AsCommand::cli(words));
    }
    Ok(Keys {
        frame,
        rows,
        owner,
        secret: revealed(asked),
        form: KeyForm::new(&asked.form, is_offered, faults),
    })
}

/// The keys, and the form for a new one.
pub(in crate::face::pages) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    Answer::page(&page(&asked, owner, Faults::default()).await?)
}

/// Makes a key, and shows it once.
pub(in crate::face::pages) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let described = described(&asked.form, &owner.account, asked.now(), is_offered);
    match made(&asked, described).await {
        Ok((name, added)) => {
            let told = format!("The key {name:?} is made, with the number {}.", added.id);
            Ok(reveal(&asked, told, added.key, &owner.path("keys")))
        }
        Err(error) if error.code == Code::Invalid => {
            Answer::again(&page(&asked, owner, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a key, if the visitor gave the password lately. Gives its name too.
pub(in crate::face::pages) async fn made(
    asked: &Asked,
    described: Result<Add, AdminError>,
) -> Result<(String, Added), AdminError> {
    let add = described?;
    asked.prove().await?;
    let name = add.name.clone();
    Ok((name, asked.run(add).await?))
}

/// The key of the path, which is one of the account.
async fn own(asked: &Asked, owner: &Owner) -> Result<ApiKeyItem, Trouble> {
    let id: u64 = owner
        .element(asked, 0)
        .parse()
        .map_err(|_| Trouble::NoPage)?;
    let mut items = items(asked, owner).await?.into_iter();
    items.find(|item| item.id == id).ok_or(Trouble::NoPage)
}

fn removal(asked: &Asked, owner: &Owner, key: &ApiKeyItem) -> Confirm {
    let action = asked.url(&owner.path(&format!("keys/{}/remove", key.id)));
    let mut confirm = asks_removal(asked, key, &action);
    confirm.back = asked.url(&owner.path("keys"));
    if owner.by_admin {
        confirm = confirm.command(removing(key));
    }
    confirm
}

/// Asks before a key is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let key = own(&asked, &owner).await?;
    Answer::page(&removal(&asked, &owner, &key))
}

/// The question before a key is removed.
pub(in crate::face::pages) fn asks_removal(
    asked: &Asked,
    key: &ApiKeyItem,
    action: &str,
) -> Confirm {
    let question = format!("Revoke the key {:?}?", key.name);
    Confirm::new(asked, &question, "Revoke the key", action)
        .effect("Calls of programs that have it are refused from then on.")
        .effect("This can't be undone: a new key is another one.")
        .proving()
}

/// The command that removes a key.
pub(in crate::face::pages) fn removing(key: &ApiKeyItem) -> AsCommand {
    AsCommand::cli(["apikey", "rm", &key.id.to_string()])
}

/// Removes a key.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let key = own(&asked, &owner).await?;
    if let Err(error) = asked.prove().await {
        return removal(&asked, &owner, &key).again(&error);
    }
    asked
        .run(Remove {
            id: ApiKeyId(key.id),
        })
        .await?;
    let told = format!("The key {:?} is revoked.", key.name);
    Ok(asked.done(told, &owner.path("keys")))
}
