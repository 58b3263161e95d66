//! Keys for the API.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;

use serde::{Deserialize, Serialize};

use super::{State, next};
use crate::{
    Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{Table, tables, value::records, values},
};

ids! {
    /// A key for the API.
    ApiKeyId,
}

/// A key with which a program may call the API in an account's name. The store never has the key
/// itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its number, which is part of the key.
    pub id: ApiKeyId,
    /// The name, for people.
    pub name: String,
    /// In whose name it may be used.
    pub account: String,
    /// SHA-256 of the secret part, which is random enough to need no more.
    pub hash: [u8; 32],
    /// The allowed uses.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: Time,
    /// From when on it is of no use; None: never.
    pub expires: Option<Time>,
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
            .finish_non_exhaustive()
    }
}

/// The uses that a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send, and look at and cancel what is queued.
    Send,
    /// See events and their numbers.
    Events,
    /// See and change the suppression list.
    Suppression,
    /// Read and change the messages in the mailboxes.
    Messages,
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
        }
    }
}

/// Numbers that are kept with the table.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
}

records! {
    ApiKey: version 1,
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
    Keys, version 1:
    Add -> ApiKeyId, Ordinary;
    Remove -> bool, Reserve;
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
        Ok(state.keys.keys.take(&self.id)?.is_some())
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
    };
    vec![Op::Add(Add(key)), Op::Remove(Remove { id: ApiKeyId(1) })]
}
