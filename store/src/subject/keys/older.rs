//! The shapes of keys before version 2: without the domains of a tenant, and without the statuses
//! of
//! older clients.

use serde::{Deserialize, Serialize};

use super::{Add, ApiKey, ApiKeyId, NewApiKey, Op, Remove, Scope};
use crate::Time;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ApiKeyV1 {
    id: ApiKeyId,
    name: String,
    account: String,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    created: Time,
    expires: Option<Time>,
}

impl From<ApiKeyV1> for ApiKey {
    fn from(old: ApiKeyV1) -> Self {
        Self {
            id: old.id,
            name: old.name,
            account: old.account,
            hash: old.hash,
            scopes: old.scopes,
            created: old.created,
            expires: old.expires,
            domains: Vec::new(),
            legacy_status: false,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewApiKeyV1 {
    name: String,
    account: String,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    created: Time,
    expires: Option<Time>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum OpV1 {
    Add(NewApiKeyV1),
    Remove(Remove),
}

impl From<OpV1> for Op {
    fn from(old: OpV1) -> Self {
        match old {
            OpV1::Add(old) => Self::Add(Add(NewApiKey {
                name: old.name,
                account: old.account,
                hash: old.hash,
                scopes: old.scopes,
                created: old.created,
                expires: old.expires,
                domains: Vec::new(),
                legacy_status: false,
            })),
            OpV1::Remove(remove) => Self::Remove(remove),
        }
    }
}
