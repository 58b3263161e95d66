//! Keys for the APIs.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
mod older;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::older::{ApiKeyV1, ApiKeyV2, OpV1, OpV2};
use super::{State, next};
use crate::{
    Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{
        Table, tables,
        value::{Unreadable, exactly, records},
        values,
    },
};

ids! {
    /// A key for the API.
    ApiKeyId,
}

/// A key with which a program may call the webapi in an account's name, or the management API. The
/// store never has the key itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its number, which is part of the key.
    pub id: ApiKeyId,
    /// The name, for people.
    pub name: String,
    /// The account in whose name it may be used; empty: none.
    pub account: String,
    /// SHA-256 of the secret part, which is random enough to need no more.
    pub hash: [u8; 32],
    /// The allowed uses.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: Time,
    /// From when on it is of no use; None: never.
    pub expires: Option<Time>,
    /// The domains of a tenant, in A-labels. The management API shows the key only things of these
    /// domains. Empty: all things.
    pub domains: Vec<String>,
    /// The management API answers some errors with status 200, as Stalwart does.
    pub legacy_status: bool,
    /// The tenant whose domains the key has too, as they are when it is used. Empty: none.
    pub tenant: String,
}

/// Hides the hash, so that no log line has it.
impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("account", &self.account)
            .field("scopes", &self.scopes)
            .field("created", &self.created)
            .field("expires", &self.expires)
            .field("domains", &self.domains)
            .field("legacy_status", &self.legacy_status)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// The uses that a key allows.
///
/// The journal and the index have the place of a scope in this list, so a new one goes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Send, and look at and cancel what is queued.
    Send,
    /// See events and their numbers.
    Events,
    /// See and change the suppression list.
    Suppression,
    /// Read and change the messages in the mailboxes.
    Messages,
    /// Make every call of the management API.
    Manage,
    /// Make the calls of the management API that change nothing.
    ManageRead,
    /// See and change the queue by the management API.
    ManageQueue,
    /// See and change accounts, lists and domains by the management API.
    ManageAccounts,
    /// Read logs, events and reports by the management API.
    ManageObserve,
    /// Read and change the mail of people by the mailbox API, and send in their names.
    ManageMail,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 10] = [
        Self::Send,
        Self::Events,
        Self::Suppression,
        Self::Messages,
        Self::Manage,
        Self::ManageRead,
        Self::ManageQueue,
        Self::ManageAccounts,
        Self::ManageObserve,
        Self::ManageMail,
    ];

    /// The name for people and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Events => "events",
            Self::Suppression => "suppression",
            Self::Messages => "messages",
            Self::Manage => "manage",
            Self::ManageRead => "manage-read",
            Self::ManageQueue => "manage-queue",
            Self::ManageAccounts => "manage-accounts",
            Self::ManageObserve => "manage-observe",
            Self::ManageMail => "manage-mail",
        }
    }

    /// The scope is for the management API. Otherwise it is for the webapi.
    #[must_use]
    pub const fn is_management(self) -> bool {
        matches!(
            self,
            Self::Manage
                | Self::ManageRead
                | Self::ManageQueue
                | Self::ManageAccounts
                | Self::ManageObserve
                | Self::ManageMail
        )
    }
}

/// A key for the API. The fields are those of [`ApiKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of ApiKey"
)]
pub struct NewApiKey {
    pub name: String,
    pub account: String,
    pub hash: [u8; 32],
    pub scopes: Vec<Scope>,
    pub created: Time,
    pub expires: Option<Time>,
    pub domains: Vec<String>,
    pub legacy_status: bool,
    pub tenant: String,
}

impl NewApiKey {
    /// The record with this number.
    pub(crate) fn key(self, id: ApiKeyId) -> ApiKey {
        ApiKey {
            id,
            name: self.name,
            account: self.account,
            hash: self.hash,
            scopes: self.scopes,
            created: self.created,
            expires: self.expires,
            domains: self.domains,
            legacy_status: self.legacy_status,
            tenant: self.tenant,
        }
    }
}

/// Numbers that are kept with the table.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
}

records! {
    ApiKey: version 3 [1 => ApiKeyV1, 2 => ApiKeyV2],
}

tables! {
    /// The keys.
    counters: Counters,
    keys: Table<ApiKeyId, ApiKey> = Table::new("api_keys"),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    }
);

operations! {
    Keys, version 3 older older:
    Add -> ApiKeyId, Ordinary;
    Remove -> bool, Reserve;
}

/// Reads an operation of version 1, in which keys had no domains, or of version 2, in which they
/// had no tenant.
fn older(version: u8, bytes: &[u8]) -> Result<Op, Unreadable> {
    match version {
        1 => exactly(bytes).map(|old: OpV1| old.into()),
        2 => exactly(bytes).map(|old: OpV2| old.into()),
        _ => Err(Unreadable::Older(version)),
    }
}

/// Adds a key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Add(NewApiKey);

impl Add {
    fn apply(self, state: &mut State) -> Result<ApiKeyId, Fault> {
        let id = ApiKeyId(next(&mut state.keys.counters.last));
        state.keys.keys.put_new(id, self.0.key(id));
        Ok(id)
    }
}

/// Removes a key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remove {
    id: ApiKeyId,
}

impl Remove {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let removed = state.keys.keys.take(&self.id)?.is_some();
        state.effects.keys_removed |= removed;
        Ok(removed)
    }
}

questions! {
    ask One { id: ApiKeyId } -> Option<ApiKey>,
    |this, state| state.keys.keys.get(&this.id),
    |this, model| model.keys.keys.get(&this.id).cloned();

    scan All {} -> Vec<ApiKey>,
    |_this, reader| Ok(values(reader.state()?.keys.keys.all()?)),
    |_this, model| model.keys.keys.values().cloned().collect();
}

impl Store {
    /// Adds a key for the API.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn add_api_key(&self, key: NewApiKey) -> Result<ApiKeyId, StoreError> {
        self.change_by(Add(key)).await
    }

    /// Removes a key for the API. False: no key has this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn remove_api_key(&self, id: ApiKeyId) -> Result<bool, StoreError> {
        self.change_by(Remove { id }).await
    }

    /// Changes when a key for the API was removed.
    #[must_use]
    pub fn api_keys_removed(&self) -> watch::Receiver<u64> {
        self.changes().keys.subscribe()
    }

    /// A key for the API.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.ask(One { id }).await
    }

    /// All keys for the API, by number.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.scan(All {}).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let key = NewApiKey {
        name: "a key".into(),
        account: "ann".into(),
        hash: [7; 32],
        scopes: vec![Scope::Send],
        created: Time(1),
        expires: Some(Time(2)),
        domains: vec!["a.example".into()],
        legacy_status: true,
        tenant: "acme".into(),
    };
    vec![Op::Add(Add(key)), Op::Remove(Remove { id: ApiKeyId(1) })]
}
