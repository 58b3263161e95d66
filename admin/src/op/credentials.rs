//! The ways to log in to an account: its password, its app passwords, its one-time codes.
//!
//! `change` has the changes of them, as clients ask for them.

mod change;

use std::fmt;

use postrider_receive::login::{make_app_password, make_otp, parse_otp, scram_keys, scram_salts};
use postrider_store::{AppPassword, Credential, CredentialChange};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::change::SecretChange;
use self::change::prepare;
use super::{Listed as _, Operation, Single, Sink};
use crate::{AdminError, Context};

/// Secrets in the audit log.
const HIDDEN: &str = "****";
/// The most characters of the name of an app password.
const NAME_MAX: usize = 64;
/// The most changes in one operation.
const CHANGES_MAX: usize = 1000;

/// An app password without the password. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPasswordItem {
    /// The account.
    pub account: String,
    /// The name, for people.
    pub name: String,
    /// When it was added.
    pub created: String,
    /// When it was last used, within some minutes; None: never.
    pub last_used: Option<String>,
}

/// Lists app passwords.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListAppPasswords {
    /// The account; None: all accounts.
    pub account: Option<String>,
}

impl Operation for ListAppPasswords {
    type Item = AppPasswordItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<AppPasswordItem>,
    ) -> Result<(), AdminError> {
        if let Some(account) = &self.account {
            context.check_account(account)?;
        }
        let config = context.config.load_full();
        let wanted = |name: &&String| self.account.as_ref().is_none_or(|it| it == *name);
        for account in config.accounts.keys().filter(wanted) {
            let credential = credential(context, account).await?;
            let listed = credential.app_passwords.iter().map(|it| AppPasswordItem {
                account: account.clone(),
                name: it.name.clone(),
                created: it.created.to_string(),
                last_used: it.last_used.map(|time| time.to_string()),
            });
            items.send(listed.collect()).await?;
        }
        Ok(())
    }
}

/// The credential of an account; an empty one if nothing was set.
async fn credential(context: &Context, account: &str) -> Result<Credential, AdminError> {
    let found = context.store.credential(account).await?;
    Ok(found.unwrap_or_default())
}

/// Makes an app password for an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddAppPassword {
    /// The account.
    pub account: String,
    /// The name, for people. The account has no other app password of this name.
    pub name: String,
}

/// A new app password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedAppPassword {
    /// The password. The server keeps only a hash, so nobody can see it again.
    pub password: String,
}

/// Hides the password.
impl fmt::Debug for AddedAppPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddedAppPassword").finish_non_exhaustive()
    }
}

impl Single for AddAppPassword {
    type Output = AddedAppPassword;

    async fn answer(self, context: &Context) -> Result<AddedAppPassword, AdminError> {
        let described = json!({"name": self.name, "password": HIDDEN});
        let account = &self.account;
        let context = &context.carrying(Self::NAME, account, &described);
        let added = self.add(context).await;
        context.record(Self::NAME, account, &described, added).await
    }
}

impl AddAppPassword {
    async fn add(&self, context: &Context) -> Result<AddedAppPassword, AdminError> {
        context.check_account(&self.account)?;
        check_name(&self.name)?;
        let before = credential(context, &self.account).await?;
        let (password, hash) = make_app_password(&mut rand::rng());
        let salts = scram_salts(&context.store, &self.account, &before).await?;
        let text = password.clone();
        let keys = tokio::task::spawn_blocking(move || scram_keys(&text, &salts)).await;
        let new = AppPassword {
            name: self.name.clone(),
            hash,
            created: context.clock.now(),
            last_used: None,
            keys: Some(keys.map_err(AdminError::internal)?),
        };
        let change = CredentialChange {
            add: vec![new],
            scram: Some(salts),
            ..CredentialChange::default()
        };
        let present = before.app_passwords;
        if present.iter().any(|it| it.name == self.name) {
            return Err(taken(&self.name).at("name"));
        }
        make(context, &self.account, change).await?;
        Ok(AddedAppPassword { password })
    }
}

fn taken(name: &str) -> AdminError {
    AdminError::conflict(format!("the account has an app password {name:?} already"))
}

fn check_name(name: &str) -> Result<(), AdminError> {
    let is_good = !name.is_empty()
        && name.trim() == name
        && name.chars().count() <= NAME_MAX
        && !name.chars().any(|it| it == '$' || it.is_control());
    match is_good {
        true => Ok(()),
        false => Err(AdminError::invalid(format!(
            "the name of an app password has 1 to {NAME_MAX} characters, none of them $ or a control \
             character, and no blanks around it"
        ))
        .at("name")),
    }
}

/// Makes a change of a credential that was checked.
async fn make(
    context: &Context,
    account: &str,
    change: CredentialChange,
) -> Result<(), AdminError> {
    let now = context.clock.now();
    let made = context.store.change_credential(account, change, now);
    if !made.await? {
        let text = format!(
            "the account has an app password of that name already, or it would have more than {}",
            postrider_store::APP_PASSWORDS_MAX
        );
        return Err(AdminError::invalid(text).at("secrets"));
    }
    context.logins.forget(account);
    Ok(())
}

/// Removes an app password. It is worthless from then on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveAppPassword {
    /// The account.
    pub account: String,
    /// The name of the app password.
    pub name: String,
}

impl Single for RemoveAppPassword {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let described = json!({"name": self.name});
        let account = &self.account;
        let context = &context.carrying(Self::NAME, account, &described);
        let removed = self.remove(context).await;
        context
            .record(Self::NAME, account, &described, removed)
            .await
    }
}

impl RemoveAppPassword {
    async fn remove(&self, context: &Context) -> Result<(), AdminError> {
        context.check_account(&self.account)?;
        let present = credential(context, &self.account).await?.app_passwords;
        if !present.iter().any(|it| it.name == self.name) {
            let text = format!("the account has no app password {:?}", self.name);
            return Err(AdminError::not_found(text).at("name"));
        }
        let change = CredentialChange {
            remove: vec![self.name.clone()],
            ..CredentialChange::default()
        };
        make(context, &self.account, change).await
    }
}

/// Lets an account need one-time codes (TOTP) beside its main password. Programs then log in with
/// app passwords or keys.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnableOtp {
    /// The account.
    pub account: String,
    /// The `otpauth://` URL with the secret; None: the server makes one.
    #[serde(default)]
    pub url: Option<String>,
}

/// Hides the secret in the URL.
impl fmt::Debug for EnableOtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnableOtp")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// One-time codes are needed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnabledOtp {
    /// The `otpauth://` URL for the program that shows the codes. Nobody can see it again.
    pub url: String,
}

/// Hides the secret in the URL.
impl fmt::Debug for EnabledOtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnabledOtp").finish_non_exhaustive()
    }
}

impl Single for EnableOtp {
    type Output = EnabledOtp;

    async fn answer(self, context: &Context) -> Result<EnabledOtp, AdminError> {
        let (account, described) = (&self.account, json!({"url": HIDDEN}));
        let context = &context.carrying(Self::NAME, account, &described);
        let enabled = self.enable(context).await;
        context
            .record(Self::NAME, account, &described, enabled)
            .await
    }
}

impl EnableOtp {
    async fn enable(&self, context: &Context) -> Result<EnabledOtp, AdminError> {
        context.check_account(&self.account)?;
        let refused = |error| AdminError::invalid(error).at("url");
        let (otp, url) = match &self.url {
            Some(url) => (parse_otp(url).map_err(refused)?, url.clone()),
            None => {
                let issuer = context.statics.hostname.unicode();
                make_otp(&self.account, &issuer, &mut rand::rng()).map_err(refused)?
            }
        };
        let before = credential(context, &self.account).await?;
        if before.otp.is_some() {
            let text = "the account has one-time codes already; disable them first";
            return Err(AdminError::conflict(text));
        }
        let change = CredentialChange {
            otp: Some(Some(otp)),
            ..CredentialChange::default()
        };
        make(context, &self.account, change).await?;
        Ok(EnabledOtp { url })
    }
}

/// Lets the main password of an account be enough again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisableOtp {
    /// The account.
    pub account: String,
}

impl Single for DisableOtp {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let account = &self.account;
        let context = &context.carrying(Self::NAME, account, &());
        let disabled = self.disable(context).await;
        context.record(Self::NAME, account, &(), disabled).await
    }
}

impl DisableOtp {
    async fn disable(&self, context: &Context) -> Result<(), AdminError> {
        context.check_account(&self.account)?;
        if credential(context, &self.account).await?.otp.is_none() {
            let text = "the account has no one-time codes";
            return Err(AdminError::not_found(text).at("account"));
        }
        let change = CredentialChange {
            otp: Some(None),
            ..CredentialChange::default()
        };
        make(context, &self.account, change).await
    }
}

/// Asks for the ways to log in to accounts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The account.
    pub account: String,
}

/// The ways to log in to an account beside its password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The main password needs one-time codes.
    pub otp_enabled: bool,
    /// The names of the app passwords.
    pub app_passwords: Vec<String>,
}

impl Single for Show {
    type Output = Shown;

    async fn answer(self, context: &Context) -> Result<Shown, AdminError> {
        context.check_account(&self.account)?;
        let credential = credential(context, &self.account).await?;
        let names = credential.app_passwords.into_iter().map(|it| it.name);
        Ok(Shown {
            otp_enabled: credential.otp.is_some(),
            app_passwords: names.collect(),
        })
    }
}

/// Changes the secrets of an account. All changes are made, or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The account.
    pub account: String,
    /// The changes, at most 1000, in this order.
    pub changes: Vec<SecretChange>,
}

impl Single for Change {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let Self { account, changes } = self;
        let prepared = Prepared::of(context, &account, changes).await;
        match prepared {
            Ok(prepared) => prepared.make(context).await,
            Err(error) => context.record(Self::NAME, &account, &(), Err(error)).await,
        }
    }
}

/// A change of secrets that was checked, with all its hashes.
pub(super) struct Prepared {
    account: String,
    change: CredentialChange,
}

impl Prepared {
    /// Checks changes of the secrets of an account. Nothing changes yet.
    pub(super) async fn of(
        context: &Context,
        account: &str,
        changes: Vec<SecretChange>,
    ) -> Result<Self, AdminError> {
        if changes.len() > CHANGES_MAX {
            let text = format!("at most {CHANGES_MAX} changes are made at once");
            return Err(AdminError::invalid(text).at("changes"));
        }
        let before = credential(context, account).await?;
        let now = context.clock.now();
        let salts = scram_salts(&context.store, account, &before).await?;
        let work = move || prepare(before, salts, changes, now);
        let change = tokio::task::spawn_blocking(work).await;
        Ok(Self {
            account: account.to_owned(),
            change: change.map_err(AdminError::internal)??,
        })
    }

    /// Makes the change. The audit log gets an entry.
    pub(super) async fn make(self, context: &Context) -> Result<(), AdminError> {
        let Self { account, change } = self;
        if change.is_empty() {
            return Ok(());
        }
        let described = described(&change);
        let context = &context.carrying(Change::NAME, &account, &described);
        let made = match context.check_account(&account) {
            Ok(()) => make(context, &account, change).await,
            Err(error) => Err(error),
        };
        context
            .record(Change::NAME, &account, &described, made)
            .await
    }
}

/// A change for the audit log, without its secrets.
fn described(change: &CredentialChange) -> Value {
    let mut described = serde_json::Map::new();
    if change.argon2.is_some() {
        described.insert("password".to_owned(), json!(HIDDEN));
    }
    match &change.otp {
        Some(Some(_)) => drop(described.insert("otp".to_owned(), json!(HIDDEN))),
        Some(None) => drop(described.insert("otp".to_owned(), Value::Null)),
        None => {}
    }
    if !change.remove.is_empty() {
        described.insert("app_passwords_removed".to_owned(), json!(change.remove));
    }
    let added = change.add.iter().map(|it| (it.name.clone(), json!(HIDDEN)));
    let added: serde_json::Map<String, Value> = added.collect();
    if !added.is_empty() {
        described.insert("app_passwords_added".to_owned(), Value::Object(added));
    }
    Value::Object(described)
}
