//! The scripts of accounts in Sieve.

use postrider_receive::sieve::kept::{Kept, KeptError};
use postrider_store::{SieveScript, SieveScriptChange};
use serde::{Deserialize, Serialize};

use super::{Listed as _, Operation, Single, Sink};
use crate::{AdminError, Context};

/// A script of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptItem {
    /// The account.
    pub account: String,
    /// The name, which no other script of the account has.
    pub name: String,
    /// The script.
    pub text: String,
    /// A script that is not enabled does not run.
    pub enabled: bool,
    /// When it was last changed (RFC 3339).
    pub changed: String,
}

/// Lists the scripts of accounts, by account and name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only those of this account.
    #[serde(default)]
    pub account: Option<String>,
}

impl Operation for List {
    type Item = ScriptItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<ScriptItem>,
    ) -> Result<(), AdminError> {
        let accounts = match self.account {
            Some(account) => {
                context.check_account(&account)?;
                vec![account]
            }
            None => {
                let all = context.store.sieve_accounts().await?.into_iter();
                all.map(|(account, _)| account).collect()
            }
        };
        for account in accounts {
            let scripts = context.store.sieve(&account).await?.scripts.into_iter();
            let listed = scripts.map(|script| ScriptItem {
                account: account.clone(),
                name: script.name,
                text: script.text,
                enabled: script.enabled,
                changed: script.changed.to_string(),
            });
            items.send(listed.collect()).await?;
        }
        Ok(())
    }
}

/// Sets and removes scripts: all of them, or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The changes.
    pub scripts: Vec<ScriptChange>,
    /// Only check them.
    #[serde(default)]
    pub check_only: bool,
}

/// A change of a script.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptChange {
    /// The account.
    pub account: String,
    /// The name of the script.
    pub name: String,
    /// The script. None or empty: it goes.
    #[serde(default)]
    pub text: Option<String>,
}

impl Single for Set {
    /// How many scripts are others now.
    type Output = u64;

    async fn answer(self, context: &Context) -> Result<u64, AdminError> {
        if self.check_only {
            return self.check(context).await.map(|_| 0);
        }
        let mut accounts: Vec<&str> = self.scripts.iter().map(|it| it.account.as_str()).collect();
        accounts.dedup();
        let target = accounts.join(" ");
        let carrying = context.carrying(Self::NAME, &target, &self);
        let set = self.set(&carrying).await;
        carrying.record(Self::NAME, &target, &self, set).await
    }
}

impl Set {
    async fn set(&self, context: &Context) -> Result<u64, AdminError> {
        let changes = self.check(context).await?;
        let store = &context.store;
        let set = Kept { store }.set_scripts(changes).await;
        set.map_err(AdminError::from)
    }

    /// Checks the changes, and gives them as the store takes them.
    async fn check(&self, context: &Context) -> Result<Vec<SieveScriptChange>, AdminError> {
        let changed = context.clock.now();
        let mut changes = Vec::new();
        for change in &self.scripts {
            context.check_account(&change.account)?;
            let text = change.text.as_deref().filter(|text| !text.is_empty());
            changes.push(SieveScriptChange {
                account: change.account.clone(),
                name: change.name.clone(),
                script: text.map(|text| SieveScript {
                    name: change.name.clone(),
                    text: text.to_owned(),
                    enabled: true,
                    changed,
                }),
            });
        }
        let store = &context.store;
        Kept { store }.check(&changes).await?;
        Ok(changes)
    }
}

impl From<KeptError> for AdminError {
    fn from(error: KeptError) -> Self {
        match error {
            KeptError::Store(error) => error.into(),
            KeptError::NoRule(_) => Self::not_found(error),
            KeptError::Name(_) => Self::invalid(error).at("name"),
            error => Self::invalid(error),
        }
    }
}
