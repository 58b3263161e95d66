//! The shapes of keys before version 3: without a tenant. Before version 2 they had no domains and
//! no statuses of older clients either.

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
            tenant: String::new(),
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
                tenant: String::new(),
            })),
            OpV1::Remove(remove) => Self::Remove(remove),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ApiKeyV2 {
    id: ApiKeyId,
    name: String,
    account: String,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    created: Time,
    expires: Option<Time>,
    domains: Vec<String>,
    legacy_status: bool,
}

impl From<ApiKeyV2> for ApiKey {
    fn from(old: ApiKeyV2) -> Self {
        Self {
            id: old.id,
            name: old.name,
            account: old.account,
            hash: old.hash,
            scopes: old.scopes,
            created: old.created,
            expires: old.expires,
            domains: old.domains,
            legacy_status: old.legacy_status,
            tenant: String::new(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewApiKeyV2 {
    name: String,
    account: String,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    created: Time,
    expires: Option<Time>,
    domains: Vec<String>,
    legacy_status: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum OpV2 {
    Add(NewApiKeyV2),
    Remove(Remove),
}

impl From<OpV2> for Op {
    fn from(old: OpV2) -> Self {
        match old {
            OpV2::Add(old) => Self::Add(Add(NewApiKey {
                name: old.name,
                account: old.account,
                hash: old.hash,
                scopes: old.scopes,
                created: old.created,
                expires: old.expires,
                domains: old.domains,
                legacy_status: old.legacy_status,
                tenant: String::new(),
            })),
            OpV2::Remove(remove) => Self::Remove(remove),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::value::append;

    /// A key of an earlier version stays as narrow as it was.
    #[test]
    fn a_key_of_version_2_is_read() {
        let old = OpV2::Add(NewApiKeyV2 {
            name: "a key".into(),
            account: String::new(),
            hash: [7; 32],
            scopes: vec![Scope::ManageObserve],
            created: Time(1),
            expires: None,
            domains: vec!["a.example".into()],
            legacy_status: true,
        });
        let mut bytes = Vec::new();
        append(&old, &mut bytes);
        let Op::Add(Add(read)) = super::super::older(2, &bytes).unwrap() else {
            panic!("an operation that adds a key");
        };
        assert_eq!((read.name.as_str(), read.tenant.as_str()), ("a key", ""));
        assert_eq!(read.domains, ["a.example"]);
        assert_eq!(read.scopes, [Scope::ManageObserve]);
        assert!(read.legacy_status);
    }
}
