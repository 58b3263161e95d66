//! API keys: programs call the webapi with them in the name of an account, or the management API.

use postrider_config::Tenant;
use postrider_receive::login::KeyText;
use postrider_smtp::Domain;
use postrider_store::{ApiKey, ApiKeyId, NewApiKey, Scope, Time};
use serde::{Deserialize, Serialize};

use super::{Operation, Single, Sink, principals::Kind};
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
    /// The domains of a tenant; empty: all.
    #[serde(default)]
    pub domains: Vec<String>,
    /// The management API answers some errors with status 200.
    #[serde(default)]
    pub legacy_status: bool,
    /// The tenant whose domains the key has, later ones too; empty: none.
    #[serde(default)]
    pub tenant: String,
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
            domains: key.domains.iter().map(|it| unicode(it)).collect(),
            legacy_status: key.legacy_status,
            tenant: key.tenant.clone(),
        }
    }
}

/// A domain as people write it.
fn unicode(domain: &str) -> String {
    Domain::parse(domain).map_or_else(|_| domain.to_owned(), |domain| domain.unicode())
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
    /// The account that it acts for; empty: none. A key for the webapi needs one.
    #[serde(default)]
    pub account: String,
    /// The things that it may do.
    pub scopes: Vec<Scope>,
    /// When it ends; None: never.
    pub expires: Option<Time>,
    /// The domains of a tenant: the management API shows the key only things in these domains.
    /// Empty: all things.
    #[serde(default)]
    pub domains: Vec<String>,
    /// The management API answers some errors with status 200, as clients of Stalwart expect.
    #[serde(default)]
    pub legacy_status: bool,
    /// A tenant. The key has all domains with this tenant, later ones too. Empty: none.
    #[serde(default)]
    pub tenant: String,
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
        let name = self.name.clone();
        let described = (
            (&self.account, &self.scopes, &self.domains, self.expires),
            &self.tenant,
        );
        let context = &context.carrying("key.add", &name, &described);
        let added = self.add(context).await;
        context.record("key.add", &name, &described, added).await
    }
}

impl Add {
    async fn add(&self, context: &Context) -> Result<Added, AdminError> {
        let (name, account) = (self.name.clone(), self.account.clone());
        self.check(context)?;
        let (secret, hash) = KeyText::secret(&mut rand::rng());
        let key = NewApiKey {
            name: name.clone(),
            account: account.clone(),
            hash,
            scopes: self.scopes.clone(),
            created: context.clock.now(),
            expires: self.expires,
            domains: self.domains(context)?,
            legacy_status: self.legacy_status,
            tenant: self.tenant()?,
        };
        let id = context.store.add_api_key(key).await?;
        let key = KeyText::new(id, secret).to_string();
        Ok(Added { id: id.0, key })
    }

    fn check(&self, context: &Context) -> Result<(), AdminError> {
        if self.name.trim().is_empty() {
            return Err(AdminError::invalid("a key needs a name").at("name"));
        }
        if self.scopes.is_empty() {
            return Err(AdminError::invalid("a key needs at least one scope").at("scopes"));
        }
        let for_webapi = self.scopes.iter().find(|scope| !scope.is_management());
        match (for_webapi, self.account.as_str()) {
            (Some(scope), "") => {
                let text = format!("the scope {} needs an account", scope.name());
                return Err(AdminError::invalid(text).at("account"));
            }
            (_, "") => {}
            (_, account) => context.check_account(account)?,
        }
        let manages = self.scopes.iter().any(|scope| scope.is_management());
        if !self.domains.is_empty() && !manages {
            let text = "domains are for keys with a scope of the management API";
            return Err(AdminError::invalid(text).at("domains"));
        }
        if !self.tenant.is_empty() && !manages {
            let text = "a tenant is for keys with a scope of the management API";
            return Err(AdminError::invalid(text).at("tenant"));
        }
        Ok(())
    }

    /// The tenant in its one form. It needs no domain yet.
    fn tenant(&self) -> Result<String, AdminError> {
        if self.tenant.is_empty() {
            return Ok(String::new());
        }
        match Tenant::parse(&self.tenant) {
            Ok(tenant) => Ok(tenant.to_string()),
            Err(problem) => {
                let text = format!("the tenant {:?} {problem}", self.tenant);
                Err(AdminError::invalid(text).at("tenant"))
            }
        }
    }

    /// The domains in A-labels. Each must exist.
    fn domains(&self, context: &Context) -> Result<Vec<String>, AdminError> {
        let config = context.config.load();
        let domains = self.domains.iter().map(|text| {
            let domain = Domain::parse(text);
            let known = domain.ok().filter(|it| config.domains.contains_key(it));
            known.map(|it| it.ascii().to_owned()).ok_or_else(|| {
                AdminError::not_found(format!("there is no domain {text}")).at("domains")
            })
        });
        domains.collect()
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
        let target = id.to_string();
        let context = &context.carrying("key.remove", &target, &());
        let removed = match context.store.remove_api_key(id).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(AdminError::not_found(format!("there is no key {id}")).at("id")),
            Err(error) => Err(error.into()),
        };
        context.record("key.remove", &target, &(), removed).await?;
        let name = Kind::ApiKey.known_as(&target);
        context.store.forget_principal(name).await?;
        Ok(())
    }
}
