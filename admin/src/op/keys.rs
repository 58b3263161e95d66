//! API keys: programs call the webapi with them in the name of an account.

use postrider_receive::login::KeyText;
use postrider_store::{ApiKey, ApiKeyId, NewApiKey, Scope, Time};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{Operation, Single, Sink};
use crate::{AdminError, Context};

/// A key without its secret. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct ApiKeyItem {
    pub id: u64,
    pub name: String,
    pub account: String,
    pub scopes: Vec<Scope>,
    pub created: String,
    pub expires: Option<String>,
}

impl From<&ApiKey> for ApiKeyItem {
    fn from(key: &ApiKey) -> Self {
        Self {
            id: key.id.0,
            name: key.name.clone(),
            account: key.account.clone(),
            scopes: key.scopes.clone(),
            created: key.created.to_string(),
            expires: key.expires.map(|time| time.to_string()),
        }
    }
}

/// Lists the keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The account; None: all accounts.
    pub account: Option<String>,
}

impl Operation for List {
    type Item = ApiKeyItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<ApiKeyItem>,
    ) -> Result<(), AdminError> {
        let keys = context.store.api_keys().await?;
        let account = self.account.as_ref();
        let wanted = |key: &&ApiKey| account.is_none_or(|account| *account == key.account);
        let listed = keys.iter().filter(wanted).map(ApiKeyItem::from).collect();
        items.send(listed).await
    }
}

/// Makes a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Its name, for people.
    pub name: String,
    /// The account that it acts for.
    pub account: String,
    /// The things that it may do.
    pub scopes: Vec<Scope>,
    /// When it ends; None: never.
    pub expires: Option<Time>,
}

/// A new key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Its id.
    pub id: u64,
    /// The key itself. The server keeps only a hash, so nobody can see it again.
    pub key: String,
}

/// Hides the key.
impl std::fmt::Debug for Added {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Added");
        out.field("id", &self.id).finish_non_exhaustive()
    }
}

impl Single for Add {
    type Output = Added;

    async fn answer(self, context: &Context) -> Result<Added, AdminError> {
        let Self {
            name,
            account,
            scopes,
            expires,
        } = self;
        context.check_account(&account)?;
        let (secret, hash) = KeyText::secret(&mut rand::rng());
        let key = NewApiKey {
            name: name.clone(),
            account: account.clone(),
            hash,
            scopes,
            created: context.clock.now(),
            expires,
        };
        let id = context.store.add_api_key(key).await?;
        info!(%id, name, account, "API key made");
        let key = KeyText::new(id, secret).to_string();
        Ok(Added { id: id.0, key })
    }
}

/// Removes a key. It is worthless from then on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The key.
    pub id: ApiKeyId,
}

impl Single for Remove {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let id = self.id;
        if !context.store.remove_api_key(id).await? {
            return Err(AdminError::not_found(format!("there is no key {id}")).at("id"));
        }
        info!(%id, "API key removed");
        Ok(())
    }
}
